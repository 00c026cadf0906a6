"""Rows of metrics, told to the run's folder, to its trackers and to who watches it by rank 0."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import distributed

from llmcore.records import MetricsWriter
from llmcore.train.engine import Engine
from llmcore.train.place import Place
from llmcore.train.tensorboard import EventsWriter
from llmcore.train.trackers import Tracker, numbers_of, open_trackers

__all__ = ["Telling", "Watch", "unwatched"]

Watch = Callable[[Mapping[str, float]], None]
"""Told of numbers by their names as they come, by rank 0 alone: those of a row, and of a checkpoint that is complete
its `checkpoint_time` (Unix time) and `checkpoint_s`. It may be called from any thread, and must cost a step nothing."""


def unwatched(numbers: Mapping[str, float]) -> None:
    """Nobody watches."""


class Telling:
    """Every rank calls it; rank 0 tells."""

    def __init__(self, engine: Engine, place: Place, resumed_at: int, watch: Watch) -> None:
        self._watch: Watch = unwatched
        self._rows: MetricsWriter | None = None
        self._trackers: list[Tracker] = []
        if distributed.get_rank() == 0:
            self._watch = watch
            settings = engine.settings
            about = settings.model_dump(mode="json")
            about |= {"precision": engine.precision, "world_size": engine.world_size, "attempt": place.attempt}
            self._rows = MetricsWriter(place.records, place.session, flush_every_s=2.0, resumed_at=resumed_at)
            self._trackers = [
                EventsWriter(place.records, place.session),
                *open_trackers(settings.trackers, place.run.name, about),
            ]

    def row(self, row: dict[str, Any]) -> None:
        """Tells of a row; trackers hear its numbers. Raises StorageError when a due flush fails."""
        if self._rows is not None:
            self._rows.write(row)
        for tracker in self._trackers:
            tracker.log(row["step"], numbers_of(row))
        self._watch({"step": row["step"], **numbers_of(row)})

    def saved(self, numbers: Mapping[str, float]) -> None:
        """Tells who watches of a checkpoint that is complete."""
        self._watch(numbers)

    def flush(self) -> None:
        """Writes the rows that have not been written: who reads the run's folder now finds them."""
        if self._rows is not None:
            self._rows.flush()

    def close(self) -> None:
        """Nothing more comes."""
        if self._rows is not None:
            self._rows.close()
        for tracker in self._trackers:
            tracker.close()
