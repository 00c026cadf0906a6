"""Documents of raw shards in one fixed order, a bounded part at a time: what is streamed rather than prepared.

A *portion* is some shards of one source that are read one after the other; a *document window* is as many of its
documents as are packed into rows together. Where one ends depends on the documents alone, so whoever starts at the
beginning of a window finds the same windows from there on.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from llmcore.config.cleaning import CleaningSettings
from llmcore.corpus.buckets import with_digests
from llmcore.corpus.cleaning import Cleaner, Example, StepTally, Tally
from llmcore.corpus.cleaning.personal import excerpt
from llmcore.corpus.decontaminate import Protected
from llmcore.corpus.read import DocumentReader
from llmcore.corpus.shards import Shard, check_unchanged
from llmcore.errors import BadShardError

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Cursor", "DocumentWindow", "HeldOut", "Portion", "PortionReader", "portions_of"]


class Portion(NamedTuple):
    """Shards of one source that are read one after the other; and their numbers in its listing."""

    source: int
    shards: tuple[Shard, ...]
    numbers: tuple[int, ...]


class Cursor(NamedTuple):
    """Where in a portion reading goes on: the place of a shard among its shards, and a row of it."""

    shard: int
    row: int


START = Cursor(0, 0)


@dataclass(frozen=True)
class DocumentWindow:
    """Documents that are packed together.

    Attributes:
        documents: a table as `DocumentReader.schema` has it, cleaned, without what is held out; it may be empty.
        next: where the next window begins; None after the last one of the portion.
        tally: what was done to the documents that were read for it.
    """

    documents: "pa.Table"
    next: Cursor | None
    tally: Tally


def portions_of(source: int, shards: Sequence[Shard], least_bytes: int, seed: int) -> list[Portion]:
    """All shards of a source, shuffled, in portions of at least so many bytes as far as they go."""

    def rank(number: int) -> bytes:
        return hashlib.blake2b(f"{seed}\0{shards[number].name}".encode(), digest_size=16).digest()

    groups: list[list[int]] = [[]]
    num_bytes = 0
    for number in sorted(range(len(shards)), key=rank):
        if num_bytes >= least_bytes:
            groups.append([])
            num_bytes = 0
        groups[-1].append(number)
        num_bytes += shards[number].size
    return [Portion(source, tuple(shards[number] for number in group), tuple(group)) for group in groups if group]


@dataclass(frozen=True)
class HeldOut:
    """What is never trained on: the documents of the validation rows, and those that have rows of evaluation sets.

    Attributes:
        keys: split keys of validation documents.
        digests: of the texts of those that have no key.
        protected: n-grams of the evaluation sets' rows; None where none is looked for.
        min_overlap: share of a row's n-grams that makes a document contaminated.
    """

    keys: frozenset[str] = frozenset()
    digests: frozenset[bytes] = frozenset()
    protected: Protected | None = None
    min_overlap: float = 1.0

    def protecting(self, protected: Protected, min_overlap: float) -> "HeldOut":
        """The same, and the rows of evaluation sets."""
        return replace(self, protected=protected, min_overlap=min_overlap)

    def drop(self, documents: "pa.Table", shard: str, tally: Tally) -> "pa.Table":
        """The documents, with digests, that may be trained on; the others, and those without text, are counted."""
        import pyarrow as pa
        import pyarrow.compute as pc

        digests, keys = documents["digest"].to_pylist(), documents["key"].to_pylist()
        reasons: dict[int, tuple[str, str]] = {}
        for at, (digest, key) in enumerate(zip(digests, keys, strict=True)):
            if digest is None:
                reasons[at] = "held_out", "empty"
            elif key in self.keys if key is not None else digest in self.digests:
                reasons[at] = "held_out", "validation"
        if self.protected is not None:
            texts = pc.fill_null(documents["text"], "").combine_chunks()
            for found in self.protected.find(texts, self.min_overlap):
                reasons.setdefault(found.document, ("decontaminate", "contaminated"))
        if not reasons:
            return documents
        for at, (step, reason) in reasons.items():
            name, text, row = (documents[column][at].as_py() for column in ("id", "text", "row"))
            counts = tally.steps.setdefault(step, StepTally())
            counts.drop(reason, Example.of(name, shard, row, excerpt(text or "")))
        kept = np.ones(documents.num_rows, bool)
        kept[list(reasons)] = False
        return documents.filter(pa.array(kept))


@dataclass(frozen=True)
class PortionReader:
    """Reads the portions of one source.

    Attributes:
        reader: how its shards are read.
        steps: how its documents are cleaned.
        window_bytes: of text as it is read, after which a window ends.
        held_out: what is left out.
        seed: of the digests.
        pass_bad: what a shard has before the place where it cannot be read is used, and the rest is counted; or an
            error ends the reading.
    """

    reader: DocumentReader
    steps: CleaningSettings
    window_bytes: int
    held_out: HeldOut = field(default_factory=HeldOut)
    seed: int = 0
    pass_bad: bool = False

    def windows(self, portion: Portion, start: Cursor = START) -> Iterator[DocumentWindow]:
        """The windows from a cursor on, which must be the beginning of one. The last may be small, or empty.

        Raises ShardError, which names the shard and row, also for a shard that is not what the listing says.
        """
        import pyarrow as pa

        cleaner = Cleaner(self.steps)
        held: list[pa.Table] = []
        tally, bad = Tally(), dict[str, str]()
        room = self.window_bytes
        for place, table in self._tables(portion, start, bad):
            shard = portion.shards[place].name
            for part, left in _cut(table, room, self.window_bytes):
                cleaned = with_digests(cleaner.clean(part, shard, tally), self.seed)
                held.append(self.held_out.drop(cleaned, shard, tally).drop_columns(["digest"]))
                room = left
                if room == 0:
                    tally.quarantined = dict(bad)
                    bad.clear()
                    yield DocumentWindow(pa.concat_tables(held), Cursor(place, part["row"][-1].as_py() + 1), tally)
                    tally, held, room = Tally(), [], self.window_bytes
        tally.quarantined = dict(bad)
        rest = pa.concat_tables(held) if held else self.reader.schema().empty_table()
        yield DocumentWindow(rest, None, tally)

    def _tables(self, portion: Portion, start: Cursor, bad: dict[str, str]) -> "Iterator[tuple[int, pa.Table]]":
        """The tables of a portion's shards from a cursor on, each with the place of its shard."""
        for place in range(start.shard, len(portion.shards)):
            shard = portion.shards[place]
            passed = start.row if place == start.shard else 0
            check_unchanged(shard)
            try:
                for table in self.reader.read(shard, portion.numbers[place]):
                    rest = table.slice(passed)
                    passed -= table.num_rows - rest.num_rows
                    if rest.num_rows:
                        yield place, rest
            except BadShardError as error:
                if not self.pass_bad:
                    raise
                bad[shard.name] = str(error)


def _cut(table: "pa.Table", room: int, window_bytes: int) -> "Iterator[tuple[pa.Table, int]]":
    """A table in parts that end where a window does; and the bytes of text that the window has room for after each.

    A row that fills a window is its last one, however long it is: each window has a row at least.
    """
    import pyarrow.compute as pc

    sizes = pc.fill_null(pc.binary_length(table["text"]), 0).to_numpy().astype(np.int64)
    first = 0
    while first < len(sizes):
        filled = np.cumsum(sizes[first:])
        last = min(first + int(np.searchsorted(filled, room)), len(sizes) - 1)
        room = max(0, room - int(filled[last - first]))
        yield table.slice(first, last + 1 - first), room
        room = room or window_bytes
        first = last + 1
