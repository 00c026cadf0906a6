"""Rows of a frozen stream, made by tasks and given out by one actor, in the run's exact order.

Each lane is a task that reads a portion's windows one after the other, some of them ahead of what is asked for. The
actor puts them in order (`llmcore.tokens.streamed`) and writes down where the lanes stand, so that a killed run goes on
from there.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import ray

from jobs.runtime.decontamination import protected_of
from jobs.runtime.errors import fetch
from jobs.runtime.sources import other_sets, reader_of
from jobs.runtime.token_rows import ReadyTokenizer
from llmcore.config.stream import StreamSettings
from llmcore.corpus.portions import Cursor, Portion, PortionReader, portions_of
from llmcore.records import PartsWriter, attempt_folder, attempt_numbers, read_part
from llmcore.storage import Folder
from llmcore.tokens.frozen import ENCODER, held_out_of, listing_of
from llmcore.tokens.shards import TokenShards
from llmcore.tokens.streamed import LanedRows, Mark, Streamed, StreamedRows, Window, rows_before, shuffled
from llmcore.tokens.tokenizer import SpecialIds
from llmcore.train.place import Place

__all__ = ["mark_before", "serve_rows", "streamed_until"]

MARKS = "marks"
_WINDOWS_AHEAD = 2
"""Of each lane, that are made before they are asked for."""


@dataclass(frozen=True)
class _Work:
    """What a lane's task needs to know: how each source is read and packed, and the portions of each sequence."""

    readers: tuple[PortionReader, ...]
    special: tuple[bool, ...]
    sequences: tuple[tuple[Portion, ...], ...]
    ready: ReadyTokenizer
    settings: StreamSettings

    @classmethod
    def of(cls, settings: StreamSettings, tokens: Folder, storage: Folder) -> "_Work":
        """As the frozen stream says."""
        about = TokenShards.open(tokens).about
        listing = listing_of(tokens, len(settings.sources))
        held_out = held_out_of(tokens)
        if settings.decontamination is not None and (others := other_sets(settings, storage)):
            held_out = held_out.protecting(
                protected_of(others, settings.decontamination), settings.decontamination.min_overlap
            )
        readers = tuple(
            PortionReader(
                reader_of(source, number, "", [], ()),
                shards,
                source.cleaning or settings.cleaning,
                settings.window_bytes,
                held_out,
                settings.seed,
                pass_bad=settings.bad_shards.policy == "quarantine",
            )
            for number, (source, shards) in enumerate(zip(settings.sources, listing, strict=True))
        )
        portions = [
            portions_of(number, shards, settings.window_bytes, settings.seed) for number, shards in enumerate(listing)
        ]
        together = settings.num_sequences == 1
        sequences = [[portion for of_source in portions for portion in of_source]] if together else portions
        ready = ReadyTokenizer(
            tokens.read_text(ENCODER),
            about["vocab_size"],
            SpecialIds(**about["special_ids"]),
            None,
            about["encoder"],
            None,
        )
        special = tuple(source.chat is not None for source in settings.sources)
        return cls(readers, special, tuple(map(tuple, sequences)), ready, settings)

    def max_epochs(self) -> list[float | None]:
        """Of the sequences: the least that a source of each may have."""
        limits = [source.max_epochs for source in self.settings.sources]
        return [min(filter(None, limits), default=None)] if len(self.sequences) == 1 else limits


def _read_lane(work: _Work, key: tuple[int, int, int, int], cursor: Cursor) -> Iterator[Window]:
    """The windows of a portion from a cursor on, packed; `key` is the seed, the sequence, the epoch and the portion."""
    import pyarrow.compute as pc

    from llmcore.tokens.encode import pack_documents

    _, sequence, _, number = key
    portion = work.sequences[sequence][number]
    encoder, source = work.ready.load(), work.settings.sources[portion.source].name
    for window in work.readers[portion.source].windows(portion, cursor):
        rows = pack_documents(window.documents, encoder, work.settings.packing, special=work.special[portion.source])
        num_tokens = pc.sum(pc.list_flatten(rows["document_lengths"])).as_py() or 0
        streamed = Streamed.of(source, window.documents.num_rows, num_tokens, window.tally)
        yield Window(shuffled(rows, *key, *cursor), window.next, streamed)
        cursor = window.next or cursor


class _Server:
    """The actor that gives out the rows of a run."""

    def __init__(
        self, settings: Mapping[str, Any], tokens: str, storage: str, place: Mapping[str, Any], seed: int, start: int
    ) -> None:
        work = _Work.of(StreamSettings.model_validate(settings), Folder(tokens), Folder(storage))
        self._work = ray.put(work)
        self._settings = work.settings
        weights = _weights(work.settings)
        self._seed = seed
        self._place = Place.from_json(place)
        self._marks = PartsWriter(self._place.records / MARKS)
        sequences = [
            LanedRows(
                len(portions),
                work.settings.lanes,
                seed,
                partial(self._open, number),
                mark=mark_before(self._place.run, number, first),
                tell=partial(self._tell, number),
                max_epochs=limit,
            )
            for number, (portions, first, limit) in enumerate(
                zip(work.sequences, rows_before(weights, start), work.max_epochs(), strict=True)
            )
        ]
        self._rows = StreamedRows(sequences, weights, start)

    def rows(self, positions: np.ndarray[Any, Any]) -> pa.Table:
        """The rows of these positions, each of which is given once."""
        return self._rows.rows(positions)

    def _open(self, sequence: int, epoch: int, portion: int, cursor: Cursor) -> Iterator[Window]:
        """Have a portion's windows made; they are got when they are asked for."""
        task = ray.remote(_read_lane).options(
            num_returns="streaming",
            num_cpus=self._settings.cpus_per_lane,
            scheduling_strategy="SPREAD",
            _generator_backpressure_num_objects=_WINDOWS_AHEAD,
        )
        return map(fetch, task.remote(self._work, (self._seed, sequence, epoch, portion), cursor))

    def _tell(self, sequence: int, mark: Mark) -> None:
        self._marks.add({"sequence": sequence} | mark.to_json())
        self._marks.flush()


def _weights(settings: StreamSettings) -> list[float]:
    """Of the sequences."""
    return [source.weight or 1.0 for source in settings.sources][: settings.num_sequences]


def serve_rows(settings: Mapping[str, Any], tokens: str, storage: str, place: Place, seed: int, start: int) -> Any:
    """An actor whose method `rows` gives the rows of positions from `start` on."""
    actor = ray.remote(_Server).options(num_cpus=0, max_restarts=0)
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
    weights = _weights(settings)
    marks = [mark_before(run, number, first) for number, first in enumerate(rows_before(weights, position))]
    whole = sum((mark.streamed for mark in marks), Streamed())
    return whole.to_json() | {"epochs": [mark.epoch + 1 for mark in marks]}
