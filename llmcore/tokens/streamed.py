"""Rows of raw shards in one fixed order, made while they are read: a function of listing, settings, seed and position.

The portions of a sequence are shuffled anew for each epoch. Some of them, the *lanes*, are read at the same time, and
give a row in turn; where one has ended, the next portion begins. Rows are shuffled inside a window of documents, which
is packed by itself. How many rows a window has is known only when it is packed, so where each lane stands is told in a
*mark* whenever one begins a window: to go on from a row, the windows that were open at the mark before it are made
again, and no others.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from llmcore.corpus.cleaning import Tally
from llmcore.corpus.portions import START, Cursor
from llmcore.errors import ConfigError, CorpusError, RunError
from llmcore.tokens.mixture import PERIOD, MixtureOrder, SourceRows, shares_of
from llmcore.tokens.order import RowOrder
from llmcore.tokens.schema import in_order, in_run

__all__ = ["BEGINNING", "LaneMark", "LanedRows", "Mark", "OpenPortion", "Streamed", "StreamedRows", "Window"]
__all__ += ["rows_before", "shuffled"]

Int64s = npt.NDArray[np.int64]


class Window(NamedTuple):
    """Packed rows of one window, already shuffled, and what they are made of.

    Attributes:
        rows: a table of `row_schema`.
        next: where the next window of the portion begins; None after its last.
        streamed: what was read and made.
    """

    rows: pa.Table
    next: Cursor | None
    streamed: "Streamed"


@dataclass(frozen=True)
class Streamed:
    """What has been streamed: whole windows.

    Attributes:
        documents, tokens: that became rows, by source.
        dropped: documents, by step and reason.
        quarantined: shards that could not be read to their end, and why.
    """

    documents: Counter[str] = field(default_factory=Counter)
    tokens: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    quarantined: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, source: str, num_documents: int, num_tokens: int, tally: Tally) -> "Streamed":
        """Of one window of one source."""
        dropped = Counter(
            {f"{step}: {why}": n for step, done in tally.steps.items() for why, n in done.dropped.items()}
        )
        bad = {f"{source}/{name}": why for name, why in tally.quarantined.items()}
        return cls(Counter({source: num_documents}), Counter({source: num_tokens}), dropped, bad)

    def __add__(self, other: "Streamed") -> "Streamed":
        documents, tokens = self.documents + other.documents, self.tokens + other.tokens
        return Streamed(documents, tokens, self.dropped + other.dropped, self.quarantined | other.quarantined)

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        counts = {name: dict(sorted(getattr(self, name).items())) for name in ("documents", "tokens", "dropped")}
        return counts | {"quarantined": self.quarantined}

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> "Streamed":
        """The inverse of `to_json`."""
        documents, tokens, dropped = (Counter(plain[name]) for name in ("documents", "tokens", "dropped"))
        return cls(documents, tokens, dropped, dict(plain["quarantined"]))


OpenPortion = Callable[[int, int, Cursor], Iterator[Window]]
"""The windows of a portion, given the epoch, the portion's number and where to begin. It may begin to work at once."""


class LaneMark(NamedTuple):
    """Where a lane is: its place in the epoch's order of portions, the beginning of its window, rows taken of that."""

    place: int
    cursor: Cursor
    taken: int


@dataclass(frozen=True)
class Mark:
    """Where a sequence of rows stands.

    Attributes:
        rows: rows before here, all epochs together.
        epoch: pass over the portions.
        next_place: in the epoch's order of portions, the next that a lane takes.
        lanes: those that have something left, in their order.
        epoch_rows: rows of the first epoch; None while it lasts.
        streamed: of the windows that have ended.
    """

    rows: int = 0
    epoch: int = 0
    next_place: int = 0
    lanes: tuple[LaneMark, ...] = ()
    epoch_rows: int | None = None
    streamed: Streamed = field(default_factory=Streamed)

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        lanes = [[lane.place, *lane.cursor, lane.taken] for lane in self.lanes]
        plain = {name: getattr(self, name) for name in ("rows", "epoch", "next_place", "epoch_rows")}
        return plain | {"lanes": lanes, "streamed": self.streamed.to_json()}

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> "Mark":
        """The inverse of `to_json`; other keys are passed over."""
        lanes = tuple(LaneMark(place, Cursor(shard, row), taken) for place, shard, row, taken in plain["lanes"])
        numbers = {name: plain[name] for name in ("rows", "epoch", "next_place", "epoch_rows")}
        return cls(**numbers, lanes=lanes, streamed=Streamed.from_json(plain["streamed"]))


BEGINNING = Mark()


def shuffled(rows: pa.Table, *key: Any) -> pa.Table:
    """Rows in an order that is as good as random, and the same for the same key and number of rows."""
    if rows.num_rows == 0:
        return rows
    digest = hashlib.blake2b(repr(key).encode(), digest_size=8).digest()
    order, _ = RowOrder(rows.num_rows, int.from_bytes(digest, "little")).rows(np.arange(rows.num_rows))
    return rows.take(pa.array(order))


class _Lane:
    """A portion that is being read."""

    def __init__(self, place: int, cursor: Cursor, windows: Iterator[Window]) -> None:
        self.place = place
        self.cursor: Cursor | None = cursor
        self.taken = 0
        self._windows = windows
        self.window: Window | None = None

    @property
    def left(self) -> int:
        """Rows that its window still has."""
        return self.window.rows.num_rows - self.taken if self.window is not None else 0

    def advance(self) -> None:
        """Go on to the next window, whose beginning `cursor` is."""
        self.window, self.taken = next(self._windows), 0


class LanedRows:
    """The rows of portions, epoch after epoch without an end, from a mark on.

    Args:
        num_portions: how many there are.
        num_lanes: how many are read at a time.
        seed: of the order of the portions.
        open_portion: gives the windows of one.
        mark: where to go on.
        tell: is told of each mark.
        max_epochs: the most passes over the portions.
    """

    def __init__(
        self,
        num_portions: int,
        num_lanes: int,
        seed: int,
        open_portion: OpenPortion,
        *,
        mark: Mark = BEGINNING,
        tell: Callable[[Mark], None] = lambda _: None,
        max_epochs: float | None = None,
    ) -> None:
        self._num_portions, self._num_lanes, self._seed = num_portions, num_lanes, seed
        self._open_portion, self._tell, self._max_epochs = open_portion, tell, max_epochs
        self._mark = mark
        self._spare: tuple[int, Iterator[Window]] | None = None
        self._lanes = [self._begin(lane.place, lane.cursor) for lane in mark.lanes]
        for lane, told in zip(self._lanes, mark.lanes, strict=True):
            lane.advance()
            lane.taken = told.taken

    @property
    def num_rows(self) -> int:
        """Rows that have been given, those before the first mark included."""
        return self._mark.rows

    def next_rows(self) -> tuple[pa.Table, int]:
        """The next rows, a bounded number; and the epoch that they are of.

        Raises CorpusError where there is none in a whole epoch.
        """
        self._fill_lanes()
        rounds = min(lane.left for lane in self._lanes)
        parts = []
        for lane in self._lanes:
            assert lane.window is not None
            parts.append(lane.window.rows.slice(lane.taken, rounds))
            lane.taken += rounds
        in_turn = np.arange(rounds * len(parts)).reshape(len(parts), rounds).T.reshape(-1)
        rows = pa.concat_tables(parts).combine_chunks().take(pa.array(in_turn)) if len(parts) > 1 else parts[0]
        self._mark = replace(self._mark, rows=self._mark.rows + rows.num_rows)
        return rows, self._mark.epoch

    def _fill_lanes(self) -> None:
        """Give each lane a window with rows left, and tell where all stand, if one had none."""
        if self._lanes and all(lane.left for lane in self._lanes):
            return
        while True:
            self._lanes = [lane for lane in self._lanes if self._find_rows(lane)]
            while len(self._lanes) < self._num_lanes and self._mark.next_place < self._num_portions:
                lane = self._take_portion()
                if self._find_rows(lane):
                    self._lanes.append(lane)
            if self._lanes:
                break
            self._end_epoch()
        lanes = tuple(LaneMark(lane.place, lane.cursor or START, lane.taken) for lane in self._lanes)
        self._mark = replace(self._mark, lanes=lanes)
        self._tell(self._mark)

    def _find_rows(self, lane: _Lane) -> bool:
        """Take a lane to the next window that has rows, if its own has none left; False where its portion has ended."""
        while lane.left == 0:
            if lane.window is not None:
                self._mark = replace(self._mark, streamed=self._mark.streamed + lane.window.streamed)
                if lane.window.next is None:
                    return False
                lane.cursor = lane.window.next
            lane.advance()
        return True

    def _take_portion(self) -> _Lane:
        """Begin the next portion of the epoch; the one after it gets under way, too."""
        place = self._mark.next_place
        self._mark = replace(self._mark, next_place=place + 1)
        spare, self._spare = self._spare, None
        lane = _Lane(place, START, spare[1]) if spare and spare[0] == place else self._begin(place, START)
        if place + 1 < self._num_portions:
            self._spare = place + 1, self._windows(place + 1, START)
        return lane

    def _begin(self, place: int, cursor: Cursor) -> _Lane:
        return _Lane(place, cursor, self._windows(place, cursor))

    def _windows(self, place: int, cursor: Cursor) -> Iterator[Window]:
        epoch = self._mark.epoch
        portion, _ = RowOrder(self._num_portions, self._seed).rows(np.array([epoch * self._num_portions + place]))
        return self._open_portion(epoch, int(portion[0]), cursor)

    def _end_epoch(self) -> None:
        if self._mark.rows == 0:
            dropped = dict(self._mark.streamed.dropped)
            raise CorpusError(f"no document of the whole listing became a row (dropped: {dropped or 'none was there'})")
        first = self._mark.epoch_rows or self._mark.rows
        self._mark = replace(self._mark, epoch=self._mark.epoch + 1, next_place=0, epoch_rows=first)

    def check_epochs(self, num_rows: int) -> None:
        """Raises ConfigError where so many rows are more passes than there may be; known once the first has ended."""
        first = self._mark.epoch_rows
        if self._max_epochs is not None and first is not None and num_rows > self._max_epochs * first:
            raise ConfigError(
                f"max_epochs={self._max_epochs:g}: all {first} rows have been read so often after {num_rows} rows; "
                "lower the `weight` or train.num_steps, or raise max_epochs"
            )


class _Chunk:
    """Rows that were made, until each has been taken."""

    def __init__(self, first: int, rows: pa.Table, epoch: int, start: int) -> None:
        self.first, self.rows, self.epoch = first, rows, epoch
        self._taken = np.arange(first, first + rows.num_rows) < start

    def take(self, counts: Int64s) -> pa.Table:
        self._taken[counts - self.first] = True
        return self.rows.take(pa.array(counts - self.first))

    def is_done(self) -> bool:
        return bool(self._taken.all())


class _Sequence:
    """A sequence from a row on: rows are made when they are asked for, and held until they are taken."""

    def __init__(self, made: LanedRows, start: int) -> None:
        self._made, self._start = made, start
        self._chunks: list[_Chunk] = []

    def take(self, counts: Int64s) -> tuple[pa.Table, Int64s]:
        """The rows of these numbers, and their epochs."""
        self._made.check_epochs(int(counts.max()) + 1)
        while self._made.num_rows <= counts.max():
            first = self._made.num_rows
            chunk = _Chunk(first, *self._made.next_rows(), self._start)
            if not chunk.is_done():
                self._chunks.append(chunk)
        self._made.check_epochs(int(counts.max()) + 1)
        where = np.searchsorted([chunk.first for chunk in self._chunks], counts, side="right") - 1
        if where.min() < 0 or counts.min() < self._start:
            raise RunError(f"row {counts.min()} of the stream has been given out: the workers must begin again")
        by_chunk = np.argsort(where, kind="stable")
        numbers, firsts = np.unique(where[by_chunk], return_index=True)
        places = np.split(by_chunk, firsts[1:])
        parts = [self._chunks[number].take(counts[at]) for number, at in zip(numbers, places, strict=True)]
        epochs = np.array([chunk.epoch for chunk in self._chunks])[where]
        self._chunks = [chunk for chunk in self._chunks if not chunk.is_done()]
        return in_order(parts, by_chunk), epochs


class StreamedRows:
    """The rows of a run, by position: sequences take turns by their weights. Each position is given once.

    Args:
        sequences: each from a mark on that is not after the first row to come.
        weights: of the sequences.
        start: position from which rows are asked for.
    """

    def __init__(self, sequences: Sequence[LanedRows], weights: Sequence[float], start: int) -> None:
        self._turns = turns_of(weights)
        starts = rows_before(weights, start)
        self._sequences = [_Sequence(made, first) for made, first in zip(sequences, starts, strict=True)]

    def rows(self, positions: Int64s) -> pa.Table:
        """The rows of these positions, int64 [n], in their order, as a run reads them.

        Raises RunError for a row that was given out; what making the rows raises.
        """
        numbers, counts = self._turns.turns(positions)
        parts, places, epochs = [], [], np.empty_like(positions)
        for number in np.unique(numbers):
            here = np.flatnonzero(numbers == number)
            part, epochs[here] = self._sequences[number].take(counts[here])
            parts.append(part)
            places.append(here)
        return in_run(in_order(parts, np.concatenate(places)), positions, epochs)


def turns_of(weights: Sequence[float]) -> MixtureOrder:
    """Whose turn it is at each position: an order of which the turns alone are asked."""
    return MixtureOrder(tuple(SourceRows(0, 1, weight) for weight in weights), 1, 0)


def rows_before(weights: Sequence[float], position: int) -> list[int]:
    """How many rows each sequence has given before a position."""
    period, rest = divmod(position, PERIOD)
    shares = shares_of(tuple(weights))
    numbers, _ = turns_of(weights).turns(np.arange(rest))
    had = np.bincount(numbers, minlength=len(shares))
    return [period * share + int(more) for share, more in zip(shares, had, strict=True)]
