"""What searches are tried on: texts whose class hangs on the first word, a tiny model, and a task that can go wrong."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from llmcore.tasks.text_classification import ClassBatch, TextClassification
from tests.bases import write_early_or_late

if TYPE_CHECKING:
    import torch

__all__ = ["FAULTY", "Faulty", "assert_all_is_free_within", "search_config"]

FAULTY = "tests.searches:Faulty"
_SLOW_S = 0.1
_MANY_BYTES = 1 << 60
"""More than any machine has."""


@dataclass(frozen=True)
class Faulty(TextClassification):
    """Classification that goes wrong as its option says, at its third batch."""

    fault: str = "none"
    kind: ClassVar[str] = "faulty"
    _batches: ClassVar[list[int]] = []

    def loss_sums(self, model: Any, batch: ClassBatch) -> "torch.Tensor":
        """The loss, or what the fault makes of it."""
        import torch

        self._batches.append(1)
        loss = super().loss_sums(model, batch)
        if self.fault == "slow":
            time.sleep(_SLOW_S)
            return loss
        if self.fault == "none" or len(self._batches) < 3 or not torch.is_grad_enabled():
            return loss
        if self.fault == "hang":
            time.sleep(3600)
        if self.fault == "raise":
            raise ValueError("this batch is cursed")
        if self.fault == "memory":
            torch.empty(_MANY_BYTES, dtype=torch.uint8)
        return loss * float("nan")


def search_config(root: Path, address: str, **settings: Any) -> dict[str, Any]:
    """A search over trials of some seconds; its files are written beneath `root`."""
    files = write_early_or_late(root)
    finetune = {
        "task": {"max_tokens": 16},
        "train": {
            "num_steps": 12,
            "global_batch_size": 6,
            "zero_stage": 2,
            "precision": "fp32",
            "optimizer": {"learning_rate": 1e-2},
            "log_every": 1,
            "validate_every": 4,
            "checkpoint_every": 4,
        },
        "workers": {"num_workers": 2, "cpus_per_worker": 0.25, "threads_per_worker": 1},
    }
    return {
        "name": "search",
        "storage": str(root / "runs"),
        "cluster": {"address": address},
        "base": str(root / "base"),
        "data": files,
        "finetune": finetune | settings.pop("finetune", {}),
    } | settings


def assert_all_is_free_within(seconds: float) -> None:
    """No placement group is left on the Ray that this process is connected to, and none of its CPUs is taken."""
    import ray

    deadline = time.monotonic() + seconds
    while not _all_is_free():
        assert time.monotonic() < deadline, (ray.available_resources(), ray.util.placement_group_table())
        time.sleep(0.2)


def _all_is_free() -> bool:
    import ray

    groups = [one for one in ray.util.placement_group_table().values() if one["state"] != "REMOVED"]
    return not groups and ray.available_resources().get("CPU") == ray.cluster_resources()["CPU"]
