"""Rows of a frozen stream, made by tasks and given out by one actor, in the run's exact order.

Each lane is a task that reads a portion's windows one after the other, some of them ahead of what is asked for. The
actor puts them in order (`llmcore.tokens.streamed`) and writes down where the lanes stand, so that a killed run goes on
from there.
"""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import ray

from jobs.runtime.errors import fetch
from jobs.runtime.lanes import LaneWork, max_epochs_of, read_lane, sequences_of, weights_of
from jobs.runtime.metrics import RunMetrics
from jobs.runtime.tasks import data_task
from llmcore.config.stream import StreamSettings
from llmcore.corpus.portions import Cursor
from llmcore.logs import about, log, use_json
from llmcore.records import PartsWriter, attempt_folder, attempt_numbers, read_part
from llmcore.storage import Folder
from llmcore.tokens.streamed import LanedRows, Mark, Streamed, StreamedRows, Window, rows_before
from llmcore.train.place import Place

__all__ = ["mark_before", "serve_rows", "streamed_until"]

MARKS = "marks"
_WINDOWS_AHEAD = 2
"""Of each lane, that are made before they are asked for."""


class _Server:
    """The actor that gives out the rows of a run."""

    def __init__(
        self, settings: Mapping[str, Any], tokens: str, storage: str, place: Mapping[str, Any], seed: int, start: int
    ) -> None:
        self._settings = StreamSettings.model_validate(settings)
        self._work = ray.put(LaneWork.of(self._settings, Folder(tokens), Folder(storage)))
        self._portions = sequences_of(self._settings, Folder(tokens))
        self._seed = seed
        weights = weights_of(self._settings)
        self._place = Place.from_json(place)
        use_json(False)
        about(**RunMetrics.of(self._place, "pretrain").who())
        log(f"rows are given out from {start} on")
        self._marks = PartsWriter(self._place.records / MARKS)
        sequences = [
            LanedRows(
                len(portions),
                self._settings.lanes,
                seed,
                partial(self._open, number),
                mark=mark_before(self._place.run, number, first),
                tell=partial(self._tell, number),
                max_epochs=limit,
            )
            for number, (portions, first, limit) in enumerate(
                zip(self._portions, rows_before(weights, start), max_epochs_of(self._settings), strict=True)
            )
        ]
        self._rows = StreamedRows(sequences, weights, start)

    def rows(self, positions: np.ndarray[Any, Any]) -> pa.Table:
        """The rows of these positions, each of which is given once."""
        return self._rows.rows(positions)

    def _open(self, sequence: int, epoch: int, portion: int, cursor: Cursor) -> Iterator[Window]:
        """Have a portion's windows made; they are got when they are asked for."""
        task = data_task(
            read_lane,
            num_returns="streaming",
            num_cpus=self._settings.cpus_per_lane,
            scheduling_strategy="SPREAD",
            _generator_backpressure_num_objects=_WINDOWS_AHEAD,
        )
        key = (self._seed, sequence, epoch, portion)
        return map(fetch, task.remote(self._work, self._portions[sequence][portion], key, cursor))

    def _tell(self, sequence: int, mark: Mark) -> None:
        self._marks.add({"sequence": sequence} | mark.to_json())
        self._marks.flush()


def serve_rows(settings: Mapping[str, Any], tokens: str, storage: str, place: Place, seed: int, start: int) -> Any:
    """An actor whose method `rows` gives the rows of positions from `start` on."""
    actor = data_task(_Server, num_cpus=0, max_restarts=0)
    return actor.remote(settings, tokens, storage, place.as_json(), seed, start)


def _marks_of(run: Folder, sequence: int) -> Iterator[dict[str, Any]]:
    """The marks of a sequence, the newest first, those of a torn line left out."""
    for number in reversed(attempt_numbers(run)):
        parts = attempt_folder(run, number) / MARKS
        for name in reversed(parts.names()):
            yield from reversed([row for row in read_part(parts, name) if row and row["sequence"] == sequence])


def mark_before(run: Folder, sequence: int, row: int) -> Mark:
    """The newest mark of a sequence that is not after a row of it; the beginning where there is none.

    Attempts that went on from one another tell of the same marks, so the first one found is the last before the row.
    """
    return next((Mark.from_json(mark) for mark in _marks_of(run, sequence) if mark["rows"] <= row), Mark())


def streamed_until(run: Folder, settings: StreamSettings, position: int) -> dict[str, Any]:
    """What the windows had that ended before a position of a run, and the passes over the listing that began."""
    weights = weights_of(settings)
    marks = [mark_before(run, number, first) for number, first in enumerate(rows_before(weights, position))]
    whole = sum((mark.streamed for mark in marks), Streamed())
    return whole.to_json() | {"epochs": [mark.epoch + 1 for mark in marks]}
