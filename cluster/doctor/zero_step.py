"""Three steps of a tiny model at ZeRO-3. It runs in a worker, and imports DeepSpeed there."""

import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cluster.doctor.rank import Meeting, in_group

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["Trained", "train"]

_STEPS = 3
_ROWS, _WIDTH = 4, 32
_LEARNING_RATE = 0.1


@dataclass(frozen=True)
class Trained:
    """What one rank has seen.

    Attributes:
        accelerator: What DeepSpeed takes for the device: `cuda`, `cpu`, …
        losses: Of the global batch, a step each.
        expected: The same by plain PyTorch on a CPU.
        seconds: Of making the engine and all steps, without imports.
    """

    accelerator: str
    losses: tuple[float, ...]
    expected: tuple[float, ...]
    seconds: float


def train(rank: int, meeting: Meeting) -> Trained:
    """Train with the others of a meeting. A collective; raises whatever DeepSpeed and torch raise."""
    # The names that torchrun gives, which DeepSpeed looks for.
    os.environ |= {
        "RANK": str(rank),
        "WORLD_SIZE": str(meeting.world_size),
        "LOCAL_RANK": "0",  # each sees its own GPU alone
        "MASTER_ADDR": meeting.host,
        "MASTER_PORT": str(meeting.port),
    }
    import deepspeed
    import torch
    from torch import distributed

    with in_group(rank, meeting):
        began = time.monotonic()
        device = "cuda" if meeting.backend == "nccl" else "cpu"
        model, batch = _model(), _batch(meeting.world_size)
        engine, *_ = deepspeed.initialize(
            model=model.to(device),
            optimizer=torch.optim.SGD(model.parameters(), lr=_LEARNING_RATE),
            config=_config(),
            dist_init_required=False,
        )
        own = batch[rank * _ROWS : (rank + 1) * _ROWS].to(device)
        losses = []
        for _ in range(_STEPS):
            loss = _loss(engine, own)
            engine.backward(loss)
            engine.step()
            mean = loss.detach().clone()
            distributed.all_reduce(mean)
            losses.append(float(mean) / meeting.world_size)
        seconds = time.monotonic() - began
        accelerator = deepspeed.get_accelerator()._name
    return Trained(accelerator, tuple(losses), _plain_losses(batch), seconds)


def _model() -> "nn.Module":
    """The same weights on every rank."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(_WIDTH, _WIDTH), nn.ReLU(), nn.Linear(_WIDTH, 1))


def _batch(world_size: int) -> "Tensor":
    import torch

    return torch.randn(world_size * _ROWS, _WIDTH, generator=torch.Generator().manual_seed(1))


def _loss(model: "nn.Module", rows: "Tensor") -> "Tensor":
    loss: Tensor = (model(rows).squeeze(-1) - rows.sum(-1)).square().mean()
    return loss


def _plain_losses(batch: "Tensor") -> tuple[float, ...]:
    """Losses of the same steps by the formula of gradient descent."""
    import torch

    model, losses = _model(), []
    for _ in range(_STEPS):
        loss = _loss(model, batch)
        gradients = torch.autograd.grad(loss, list(model.parameters()))
        with torch.no_grad():
            torch._foreach_sub_(list(model.parameters()), gradients, alpha=_LEARNING_RATE)
        losses.append(float(loss))
    return tuple(losses)


def _config() -> dict[str, object]:
    """DeepSpeed's; by default its buffers would have room for 500 million elements."""
    room = 4 * _WIDTH * _WIDTH
    return {
        "train_micro_batch_size_per_gpu": _ROWS,
        "zero_allow_untested_optimizer": True,
        "gradient_clipping": 0.0,  # by default it clips at 1
        "zero_optimization": {
            "stage": 3,
            "reduce_bucket_size": room,
            "stage3_prefetch_bucket_size": room,
            "stage3_param_persistence_threshold": 0,
        },
    }
