"""The loss on a fixed batch, taken before a checkpoint is written and again after it is loaded.

Hashes prove the bytes of a checkpoint; this proves what became of them: of a wrong range, a moved parameter or another
model no hash knows.
"""

import math
from typing import Any

from llmcore.errors import CheckpointError, NonFiniteError
from llmcore.storage import Folder, Manifest
from llmcore.train.engine import Engine
from llmcore.train.precision import Precision

__all__ = ["TOLERANCE", "check_probe", "probe_loss"]

TOLERANCE: dict[Precision, float] = {"fp32": 1e-4, "bf16": 2e-2, "fp16": 2e-2}
"""How far the two losses may be apart, relative to the larger: ranks, threads and kernels add in another order."""


def probe_loss(engine: Engine, batch: Any) -> float:
    """Mean loss (nats a target) of a micro batch that every rank has, summed over the parts. A collective.

    Raises NonFiniteError on every rank.
    """
    with engine.evaluating():
        sums = engine.measure(batch, engine.objective.loss_sums)
    loss = sum(part / max(1, count) for part, count in zip(sums, engine.objective.num_targets(batch), strict=True))
    if not math.isfinite(loss):
        raise NonFiniteError(f"the loss on the probe batch is {loss}: the weights are not finite; nothing is saved")
    return loss


def check_probe(engine: Engine, batch: Any, folder: Folder, manifest: Manifest) -> None:
    """Raises CheckpointError where the loss is not what it was when the checkpoint was written. A collective."""
    saved: float | None = manifest.about.get("probe_loss")
    if saved is None:
        return
    tolerance = max(TOLERANCE[engine.precision], TOLERANCE[manifest.about["precision"]])
    found = probe_loss(engine, batch)
    if not math.isclose(saved, found, rel_tol=tolerance):
        raise CheckpointError(
            f"{folder.url}: the loss on the probe batch was {saved:.6f} when it was written, and is {found:.6f} after "
            f"loading, more than {tolerance:g} (relative) apart: what was loaded is not what was saved. Delete the "
            "checkpoint to go on from an older one"
        )
