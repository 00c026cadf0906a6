"""Rows of raw shards, made while they are read: one order, whoever goes on from wherever."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmcore.corpus.portions import Cursor
from llmcore.errors import ConfigError, CorpusError, RunError
from llmcore.tokens.mixture import PERIOD
from llmcore.tokens.order import share
from llmcore.tokens.schema import PackedRows
from llmcore.tokens.streamed import LanedRows, Mark, Streamed, StreamedRows, Window, rows_before, shuffled


def rows_of(first: int, num_rows: int) -> pa.Table:
    """Rows whose one token says which they are."""
    tokens = np.arange(first, first + num_rows, dtype=np.int32)[:, None]
    return PackedRows(tokens, [[1]] * num_rows, [[0]] * num_rows).to_table(100_000)


@dataclass
class Corpus:
    """Portions of windows of so many rows; counts the windows that are made."""

    portions: list[list[int]]
    made: Counter[tuple[int, int, int]] = field(default_factory=Counter)

    def open(self, epoch: int, portion: int, cursor: Cursor) -> Iterator[Window]:
        sizes = self.portions[portion]
        before = sum(sum(sizes) for sizes in self.portions[:portion])
        for number in range(cursor.row, len(sizes)):
            first = before + sum(sizes[:number])
            after = Cursor(0, number + 1) if number + 1 < len(sizes) else None
            self.made[epoch, portion, number] += 1
            rows = shuffled(rows_of(first, sizes[number]), epoch, portion, number)
            yield Window(rows, after, Streamed(Counter({"s": sizes[number]})))

    @property
    def num_rows(self) -> int:
        return sum(sum(sizes) for sizes in self.portions)


def corpora(least: int = 0) -> st.SearchStrategy[Corpus]:
    windows = st.lists(st.integers(least, 9), min_size=1, max_size=4)
    found = st.lists(windows, min_size=1, max_size=6).filter(lambda portions: sum(map(sum, portions)) > 0)
    return found.map(Corpus)


def first_tokens(rows: pa.Table) -> list[int]:
    return [tokens[0] for tokens in rows["tokens"].to_pylist()]


@given(corpus=corpora(), lanes=st.integers(1, 4), seed=st.integers(0, 99))
@settings(deadline=None, max_examples=40)
def test_each_epoch_has_each_row_once(corpus: Corpus, lanes: int, seed: int) -> None:
    made = LanedRows(len(corpus.portions), lanes, seed, corpus.open)
    seen: dict[int, list[int]] = {0: [], 1: [], 2: []}
    while made.num_rows < 3 * corpus.num_rows:
        rows, epoch = made.next_rows()
        seen[epoch] += first_tokens(rows)
    for epoch in range(3):
        assert sorted(seen[epoch]) == list(range(corpus.num_rows))
    if corpus.num_rows > 8 and len(corpus.portions) > 2:
        assert not seen[0] == seen[1] == seen[2], "each epoch has an order of its own"


@given(corpus=corpora(), lanes=st.integers(1, 4), seed=st.integers(0, 99), data=st.data())
@settings(deadline=None, max_examples=40)
def test_from_any_mark_on_the_same_rows_come_and_only_the_windows_open_there_are_made_again(
    corpus: Corpus, lanes: int, seed: int, data: st.DataObject
) -> None:
    marks: list[Mark] = []
    made = LanedRows(len(corpus.portions), lanes, seed, corpus.open, tell=marks.append)
    first = [made.next_rows() for _ in range(30)]
    position = data.draw(st.integers(0, made.num_rows - 1))
    mark = max((mark for mark in marks if mark.rows <= position), key=lambda mark: mark.rows)
    stored = Mark.from_json(mark.to_json())
    again = Corpus(corpus.portions)
    told: list[Mark] = []
    resumed = LanedRows(len(corpus.portions), lanes, seed, again.open, mark=stored, tell=told.append)
    if resumed.num_rows <= position:
        rest = [resumed.next_rows()]
        assert sum(again.made.values()) <= lanes + 1, "a window for each lane, and one that gets under way"
        while resumed.num_rows < made.num_rows:
            rest.append(resumed.next_rows())
    expected = [one for rows, epoch in first for one in zip(first_tokens(rows), [epoch] * rows.num_rows, strict=True)]
    found = [one for rows, epoch in rest for one in zip(first_tokens(rows), [epoch] * rows.num_rows, strict=True)]
    assert found == expected[mark.rows :]
    later = {mark.rows: mark for mark in marks}
    assert all(later[mark.rows] == mark for mark in told), "marks are the same, whoever tells of them"


@dataclass(frozen=True)
class Run:
    """A run over weighted sources, begun anew at any step with another number of workers."""

    sources: list[Corpus]
    weights: list[float]
    lanes: int
    seed: int
    marks: list[list[Mark]]

    @classmethod
    def of(cls, sources: list[Corpus], weights: list[float], lanes: int, seed: int) -> "Run":
        return cls(sources, weights, lanes, seed, [[] for _ in sources])

    def rows_from(self, position: int) -> StreamedRows:
        sequences = []
        for source, marks, start in zip(self.sources, self.marks, rows_before(self.weights, position), strict=True):
            usable = [mark for mark in marks if mark.rows <= start]
            mark = max(usable, key=lambda mark: mark.rows, default=Mark())
            sequences.append(
                LanedRows(len(source.portions), self.lanes, self.seed, source.open, mark=mark, tell=marks.append)
            )
        return StreamedRows(sequences, self.weights, position)


@given(
    sources=st.lists(corpora(), min_size=1, max_size=3),
    weights=st.lists(st.floats(0.1, 5), min_size=3, max_size=3),
    lanes=st.integers(1, 3),
    seed=st.integers(0, 9),
    global_batch=st.integers(1, 16),
    worlds=st.lists(st.integers(1, 8), min_size=1, max_size=4),
    steps=st.lists(st.integers(1, 9), min_size=4, max_size=4),
)
@settings(deadline=None, max_examples=40)
def test_kills_and_other_world_sizes_change_no_row(
    sources: list[Corpus],
    weights: list[float],
    lanes: int,
    seed: int,
    global_batch: int,
    worlds: list[int],
    steps: list[int],
) -> None:
    weights = weights[: len(sources)]
    run = Run.of(sources, weights, lanes, seed)
    read = []
    step = 0
    for world_size, lasted in zip(worlds, steps, strict=False):
        rows = run.rows_from(step * global_batch)
        for _ in range(lasted):
            for rank in reversed(range(world_size)):  # in whatever order they ask
                part = share(global_batch, world_size, rank)
                positions = np.arange(part.start, part.stop) + step * global_batch
                if len(positions):
                    read.append(rows.rows(positions))
            step += 1
    whole = Run.of(sources, weights, lanes, seed).rows_from(0).rows(np.arange(step * global_batch))
    found = pa.concat_tables(read).sort_by("position")
    assert found.to_pylist() == whole.to_pylist()
    assert found["position"].to_pylist() == list(range(step * global_batch))


def test_sources_come_by_their_weights_and_rows_before_counts_them() -> None:
    sources = [Corpus([[50, 50]]), Corpus([[40]])]
    weights = [0.3, 0.7]
    rows = Run.of(sources, weights, 1, 0).rows_from(0)
    found = rows.rows(np.arange(PERIOD + 77))
    # The sources' rows are told apart by the epoch they have come to.
    assert rows_before(weights, PERIOD) == [3000, 7000]
    before = rows_before(weights, PERIOD + 77)
    assert sum(before) == PERIOD + 77 and abs(before[0] - 0.3 * (PERIOD + 77)) <= 1
    assert max(passes for [passes] in found["source_epoch"].to_pylist()) == (before[1] - 1) // 40


def test_rows_are_given_once_and_not_held() -> None:
    rows = Run.of([Corpus([[9, 9, 9]])], [1.0], 1, 0).rows_from(5)
    rows.rows(np.arange(5, 20))
    with pytest.raises(RunError, match="row 5 of the stream has been given out"):
        rows.rows(np.arange(5, 9))
    with pytest.raises(RunError, match="row 3 "):
        rows.rows(np.array([3, 21]))


def test_more_passes_than_allowed_and_a_listing_without_rows_are_refused() -> None:
    corpus = Corpus([[4, 3], [3]])
    made = LanedRows(2, 2, 0, corpus.open, max_epochs=1.5)
    rows = StreamedRows([made], [1.0], 0)
    rows.rows(np.arange(15))
    with pytest.raises(ConfigError, match=r"max_epochs=1\.5: all 10 rows have been read so often after 16 rows"):
        rows.rows(np.array([15]))
    with pytest.raises(CorpusError, match="no document of the whole listing became a row"):
        LanedRows(1, 1, 0, Corpus([[0, 0]]).open).next_rows()


def test_the_order_is_fixed_for_good() -> None:
    # A run that resumes after an upgrade must find its rows: change this only with the step version of `pretrain`.
    rows = Run.of([Corpus([[3, 2], [4]]), Corpus([[3]])], [0.5, 0.5], 2, 7).rows_from(0).rows(np.arange(14))
    assert first_tokens(rows) == [1, 1, 7, 2, 2, 0, 5, 0, 0, 2, 6, 1, 3, 2]
