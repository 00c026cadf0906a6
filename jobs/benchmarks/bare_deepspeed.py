"""DeepSpeed by itself, as its documentation has it: a peer, so this file imports it."""

from collections.abc import Sequence
from typing import Any

import deepspeed
import torch
from torch import nn

from llmcore.config.train import TrainSettings
from llmcore.train.precision import Precision

__all__ = ["BareDeepSpeed"]


class BareDeepSpeed:
    """An engine and nothing around it: forward, backward, step. The module gives the loss of a batch."""

    def __init__(self, module: nn.Module, settings: TrainSettings, precision: Precision) -> None:
        optimizer, num_parameters = settings.optimizer, sum(parameter.numel() for parameter in module.parameters())
        zero = {"stage": settings.zero_stage, "reduce_bucket_size": num_parameters + num_parameters % 2}
        self._engine, *_ = deepspeed.initialize(
            model=module,
            optimizer=torch.optim.AdamW(
                module.parameters(),
                lr=optimizer.learning_rate,
                betas=optimizer.betas,
                weight_decay=optimizer.weight_decay,
                fused=True,
            ),
            config={
                "train_micro_batch_size_per_gpu": 1,
                "gradient_clipping": optimizer.max_grad_norm,
                "bf16": {"enabled": precision == "bf16"},
                "zero_optimization": zero,
                "steps_per_print": 2**31 - 1,
            },
            dist_init_required=False,
        )

    def step(self, micro_batches: Sequence[Any]) -> None:
        """One step on one micro batch."""
        [batch] = micro_batches
        loss = self._engine(batch) / batch.num_tokens()
        self._engine.backward(loss)
        self._engine.step()
