"""Tokenizing, packing and writing token shards, as tasks on buckets of documents.

The driver holds references and counts; tokens are in tasks, in the object store, and in the shards.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, zip_longest
from typing import Any, NamedTuple

import pyarrow as pa
import ray

from jobs.runtime.documents import Buckets
from jobs.runtime.errors import fetch
from jobs.runtime.tasks import data_task
from llmcore.config.prepare import PackingSettings, TokenizerSettings
from llmcore.corpus.split import SPLITS
from llmcore.storage import FileEntry, Folder
from llmcore.tokens.encode import RowCounts
from llmcore.tokens.encoder import Encoder, EncoderName
from llmcore.tokens.shards import ShardLayout
from llmcore.tokens.tokenizer import SpecialIds

__all__ = [
    "PackedBuckets",
    "ReadyTokenizer",
    "TokenRows",
    "WrittenShard",
    "pack_buckets",
    "ready_tokenizer",
    "write_rows",
]


_CHECKED_CHARACTERS = 1_000_000
"""Of the sample, on which the fast encoder must agree with the reference."""


class ReadyTokenizer(NamedTuple):
    """A tokenizer, and what encodes with it.

    Attributes:
        tokenizer: its JSON.
        vocab_size: entries, special tokens included.
        special: ids that rows need.
        files: its Hugging Face files, by name, where it was found rather than trained.
        encoder: the library.
        slow_because: why it is not the fastest one; None where it is.
    """

    tokenizer: str
    vocab_size: int
    special: SpecialIds
    files: dict[str, bytes] | None
    encoder: EncoderName
    slow_because: str | None

    def load(self) -> Encoder:
        """What encodes with it, in this process."""
        from tokenizers import Tokenizer

        return Encoder(Tokenizer.from_str(self.tokenizer), self.encoder, self.special)


def ready_tokenizer(buckets: Buckets, settings: TokenizerSettings) -> "ray.ObjectRef[ReadyTokenizer]":
    """The tokenizer that is asked for: found, or trained on the buckets' samples."""
    return data_task(make_tokenizer).remote(settings, *buckets.samples)


def make_tokenizer(settings: TokenizerSettings, *samples: list[str]) -> ReadyTokenizer:
    """The tokenizer that is asked for, found, or trained on the samples; and what encodes with it."""
    from llmcore.tokens.encoder import choose_encoder
    from llmcore.tokens.tokenizer import OWN_BEGIN, OWN_IDS, find_tokenizer, train_tokenizer

    special, files = OWN_IDS._replace(begin=OWN_BEGIN if settings.begin_documents else None), None
    if settings.folder is not None:
        tokenizer, special, files = find_tokenizer(
            settings.folder, begin=settings.begin_documents, new_tokens=settings.new_tokens
        )
    else:
        texts = (text for sample in samples for text in sample)
        tokenizer = train_tokenizer(texts, settings.vocab_size, settings.algorithm)
    chosen = choose_encoder(tokenizer, [*(f"a {new} b{new}c" for new in settings.new_tokens), *_some(samples)])
    return ReadyTokenizer(tokenizer.to_str(), tokenizer.get_vocab_size(), special, files, *chosen)


def _some(samples: Sequence[list[str]]) -> Iterator[str]:
    """Texts of all samples in turn, about `_CHECKED_CHARACTERS`, the rest of the last left out."""
    room = _CHECKED_CHARACTERS
    for text in chain.from_iterable(zip_longest(*samples)):
        if room <= 0:
            return
        if text is not None:
            yield text[:room]
            room -= len(text)


@dataclass
class TokenRows:
    """Packed rows of one split and source: references to a table for each bucket, and how many rows of it count."""

    tables: "list[ray.ObjectRef[pa.Table]]" = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)

    def between(self, start: int, stop: int) -> "tuple[list[tuple[int, int]], list[ray.ObjectRef[pa.Table]]]":
        """The tables that have rows `start` to `stop`, and for each, which of its rows."""
        bounds, tables, before = [], [], 0
        for table, size in zip(self.tables, self.sizes, strict=True):
            first, last = max(start - before, 0), min(stop - before, size)
            if first < last:
                bounds.append((first, last))
                tables.append(table)
            before += size
        return bounds, tables

    def cut(self, num_rows: int) -> int:
        """Leave out all rows but the first so many; gives how many are left out."""
        over = 0
        for number, size in enumerate(self.sizes):
            kept = max(0, min(size, num_rows - sum(self.sizes[:number])))
            over += size - kept
            self.sizes[number] = kept
        return over


class PackedBuckets(NamedTuple):
    """What the buckets' documents became.

    Attributes:
        rows: of each split and source, bucket after bucket; a row is of one source.
        num_tokens: for each bucket, a reference to the tokens of each of its documents.
        languages: by source, tokens by language.
    """

    rows: dict[str, list[TokenRows]]
    num_tokens: "list[ray.ObjectRef[pa.Array]]"
    languages: list[Counter[str]]


def pack_buckets(
    buckets: Buckets,
    ready: "ray.ObjectRef[ReadyTokenizer]",
    packing: PackingSettings,
    special: Sequence[bool],
    seed: int,
) -> PackedBuckets:
    """Encode and pack all documents.

    `special` says of each source whether special tokens written out in its texts are meant; `seed` is that of sentence
    pairs.
    """
    num_sources = len(special)
    pack = data_task(_pack, num_returns=len(SPLITS) * num_sources + 2)
    whole = PackedBuckets(
        {split: [TokenRows() for _ in range(num_sources)] for split in SPLITS}, [], [Counter() for _ in special]
    )
    for *tables, num_tokens, counted in [pack.remote(table, ready, packing, special, seed) for table in buckets.tables]:
        sizes, languages = fetch(counted)
        whole.num_tokens.append(num_tokens)
        for source, of_source in languages.items():
            whole.languages[source].update(of_source)
        places = ((split, source) for split in SPLITS for source in range(num_sources))
        for (split, source), table, size in zip(places, tables, sizes, strict=True):
            whole.rows[split][source].tables.append(table)
            whole.rows[split][source].sizes.append(size)
    return whole


def _pack(
    documents: pa.Table, ready: ReadyTokenizer, packing: PackingSettings, special: Sequence[bool], seed: int
) -> tuple[Any, ...]:
    import numpy as np

    from llmcore.tokens.encode import count_languages, pack_documents

    encoder = ready.load()
    splits, sources = (documents[name].to_numpy() for name in ("split", "source"))
    num_tokens = np.zeros(documents.num_rows, np.int64)
    tables = []
    for split in SPLITS:
        for source, meant in enumerate(special):
            chosen = (splits == split) & (sources == source)
            some = documents.filter(pa.array(chosen))
            rows, num_tokens[chosen] = pack_documents(some, encoder, packing, special=meant, seed=seed)
            tables.append(rows)
    lengths = pa.array(num_tokens)
    return (*tables, lengths, ([table.num_rows for table in tables], count_languages(documents, lengths)))


class WrittenShard(NamedTuple):
    """A token shard that is there."""

    entry: FileEntry
    num_rows: int
    counts: RowCounts


def write_rows(
    folder: Folder, split: str, rows: Sequence[TokenRows], layout: ShardLayout, vocab_size: int, end: int
) -> "list[list[ray.ObjectRef[WrittenShard]]]":
    """Write a split's token shards, a task each, and no source's rows beside another's; gives those of each source."""
    from llmcore.tokens.shards import shard_name

    write = data_task(_write)
    written: list[list[ray.ObjectRef[WrittenShard]]] = []
    number = position = 0
    for source in rows:
        written.append([])
        for first in range(0, sum(source.sizes), layout.rows_per_shard):
            bounds, tables = source.between(first, first + layout.rows_per_shard)
            name = shard_name(split, number)
            written[-1].append(
                write.remote(folder, name, position + first, vocab_size, end, len(rows), layout, bounds, *tables)
            )
            number += 1
        position += sum(source.sizes)
    return written


def _write(
    folder: Folder,
    name: str,
    first: int,
    vocab_size: int,
    end: int,
    num_sources: int,
    layout: ShardLayout,
    bounds: list[tuple[int, int]],
    *tables: pa.Table,
) -> WrittenShard:
    import numpy as np

    from llmcore.tokens.encode import count_rows
    from llmcore.tokens.shards import write_shard

    parts = [table.slice(start, stop - start) for table, (start, stop) in zip(tables, bounds, strict=True)]
    rows = pa.concat_tables(parts)
    positions = pa.array(np.arange(first, first + rows.num_rows))
    rows = rows.set_column(rows.schema.get_field_index("position"), rows.schema.field("position"), positions)
    counts = count_rows(rows, vocab_size, num_sources, end)
    return WrittenShard(write_shard(folder, name, rows, layout.rows_per_block), rows.num_rows, counts)
