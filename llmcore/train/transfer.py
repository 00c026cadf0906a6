"""The points of a transfer, one after the other on the same ranks; each leaves a record of its own."""

import gc
import io
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import distributed

from llmcore.config.transfer import Point, TransferConfig
from llmcore.cost import Ledger
from llmcore.errors import DivergedError
from llmcore.evaluation.transfer import POINT, PREDICTIONS, point_folder
from llmcore.records import MetricsWriter, StopSignal
from llmcore.storage import Folder, publish, read_manifest
from llmcore.tasks.evaluation_set import EvaluationSet
from llmcore.train.energy import RanksEnergy
from llmcore.train.finetuning import Finetuning
from llmcore.train.hooks import Pulse, agreed_place, on_first_rank
from llmcore.train.place import Place
from llmcore.train.point import PointOutcome, train_point

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["train_points"]


@dataclass
class _Observer:
    """Around the steps of all points: on rank 0 it looks for a stop and writes rows, whose steps go on from point to
    point.
    """

    pulse: Pulse
    stop_signal: StopSignal | None
    rows: MetricsWriter | None
    point: str = ""
    steps_before: int = 0
    seconds_before: float = 0.0
    elapsed_s: float = 0.0

    def begin(self, point: str) -> None:
        """Rows are of this point from now on."""
        self.pulse()
        self.point, self.seconds_before = point, self.elapsed_s

    def stop(self) -> bool:
        """See `train.point.Observer`; each rank says that it lives."""
        self.pulse()
        return self.stop_signal is not None and self.stop_signal.asked()

    def log(self, row: dict[str, Any]) -> None:
        """See `train.point.Observer`."""
        self.elapsed_s = self.seconds_before + row["elapsed_s"]
        if self.rows is not None:
            told = {"step": self.steps_before + row["step"], "point": self.point, "elapsed_s": self.elapsed_s}
            self.rows.write(row | told)


def train_points(
    config: TransferConfig,
    base: Path,
    base_sha256: str,
    data: Sequence[tuple[Point, str]],
    place: Place,
    *,
    device: torch.device,
    pulse: Pulse,
    ledger: Ledger,
) -> dict[str, Any]:
    """Trains what is not there yet, point by point, and publishes each. A collective of all ranks.

    A point that diverges has a record that says so, and no predictions. One that is stopped in the midst leaves
    nothing, and begins anew with the next start.

    Args:
        config: The transfer.
        base: A local model folder.
        base_sha256: The hash of its manifest.
        data: All points, in order, each with the URL of the labelled set that has its rows.
        place: Where it writes.
        device: This rank's device.
        pulse: Called before each step.
        ledger: Takes the time of all points, and the energy, where the devices tell it.

    Returns:
        Plain JSON: whether it was stopped, and the steps of all points by now.
    """
    place = agreed_place(place)
    energy = RanksEnergy(device)  # of all of them: one that diverges tells of nothing
    there = _there(place, [point for point, _ in data])
    num_steps, trained, stopped = sum(there.values()), 0, False
    with _observing(place, pulse, num_steps) as observer:
        for point, url in data:
            if point.id in there:
                continue
            own, rows = Ledger(ledger.num_devices, ledger.device), EvaluationSet.open(Folder(url))
            observer.begin(point.id)
            try:
                with own.measure("start_up", "data"):
                    recipe = Finetuning(config.settings_of(point), base, rows, base_sha256)
                outcome = train_point(recipe, device=device, observer=observer, ledger=own, warm=trained > 0)
            except DivergedError as error:  # on all ranks alike, and it would be again
                outcome = PointOutcome({"error": str(error)}, None)
            finally:
                ledger.merge(own.to_json())
            if outcome is None:
                stopped = True
                break
            trained += 1
            num_steps += outcome.about.get("num_steps", 0)
            observer.steps_before = num_steps
            on_first_rank(partial(_publish, place, point, rows, outcome, own))
            gc.collect()  # an engine is in cycles, and the next one is to find its memory free
    ledger.count(energy_j=energy.joules())
    return {"stopped": stopped, "num_steps": num_steps, "num_trained": trained}


def _there(place: Place, points: Sequence[Point]) -> dict[str, int]:
    """Steps of each point that has a good record; rank 0 looks, since others might see one less."""
    found: list[Any] = [None]
    if distributed.get_rank() == 0:
        manifests = {point.id: read_manifest(point_folder(place.run, point)) for point in points}
        found = [{name: one.about.get("num_steps", 0) for name, one in manifests.items() if one is not None}]
    distributed.broadcast_object_list(found)
    return found[0]  # type: ignore[no-any-return]


@contextmanager
def _observing(place: Place, pulse: Pulse, num_steps: int) -> Iterator[_Observer]:
    if distributed.get_rank() != 0:
        yield _Observer(pulse, None, None, steps_before=num_steps)
        return
    rows = MetricsWriter(place.records, place.session, flush_every_s=2.0, resumed_at=num_steps)
    signal = StopSignal(place.records)
    try:
        yield _Observer(pulse, signal, rows, steps_before=num_steps)
    finally:
        signal.close()
        rows.close()


def _publish(place: Place, point: Point, rows: EvaluationSet, outcome: PointOutcome, ledger: Ledger) -> None:
    """Publishes a point's record. Raises StorageError, RunHeldError."""
    place.check_newest()
    spent = ledger.to_json()
    about = {
        "point": point._asdict(),
        "attempt": place.attempt,
        "data": {"name": rows.name, "hash": rows.hash},
        "error": None,
        # As the loop's own rate counts it: steps, and what they waited for. Start-up and validation are alike with
        # other weights.
        "device_seconds": spent["device_seconds"]["compute"] + spent["device_seconds"]["data_wait"],
        "device": ledger.device,
        "seconds": spent["seconds"],
        "ended": time.time(),
        **{name: _finite(value) for name, value in outcome.about.items()},
    }
    with publish(point_folder(place.run, point), POINT, about) as publication:
        if outcome.predictions is not None:
            publication.write_bytes(PREDICTIONS, _parquet(outcome.predictions))


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _parquet(table: "pa.Table") -> bytes:
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    return buffer.getvalue()
