"""A corpus through Ray: Ray Data reads its shards, and one exchange brings equal texts into one bucket.

What comes out does not depend on how many tasks read, in which order they end, or how large their blocks are: a bucket
is put together from all its parts and sorted. The exchange is Ray tasks of our own, since a bucket must be one block
whatever its size, and Ray Data's hash shuffle took ten seconds more on two cores.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import pyarrow as pa
import ray
from ray.data import DataContext, Dataset, ExecutionOptions
from ray.exceptions import RayTaskError

from jobs.runtime.sources import Source
from llmcore.corpus.buckets import Census, SplitRule, make_bucket, partition, sample_texts, with_digests
from llmcore.corpus.read import DocumentReader
from llmcore.corpus.shards import Shard
from llmcore.errors import LLMCoreError

__all__ = ["Buckets", "Parts", "exchange", "fetch", "fill_buckets", "read_documents"]

Parts = list[list["ray.ObjectRef[pa.Table]"]]
"""For each bucket, references to its parts."""


class BucketCounts(NamedTuple):
    """What a bucket has: documents and characters by split, and what was dropped on the way."""

    documents: Counter[str]
    characters: Counter[str]
    dropped: Counter[str]


@dataclass
class Buckets:
    """Documents without duplicates, each with its split.

    Attributes:
        tables: references to a table for each bucket.
        samples: references to train texts of each bucket.
        documents, characters: by split.
        num_keys: split keys, by split.
        dropped: documents that are in no bucket, by reason.
    """

    tables: "list[ray.ObjectRef[pa.Table]]"
    samples: "list[ray.ObjectRef[list[str]]]"
    documents: Counter[str]
    characters: Counter[str]
    num_keys: Counter[str]
    dropped: Counter[str]


class _Read:
    """Ray Data's task: the documents of some shards, with the digests of their texts."""

    def __init__(self, reader: DocumentReader, seed: int) -> None:
        self._reader = reader
        self._seed = seed

    def __call__(self, shards: pa.Table) -> Iterator[pa.Table]:
        for row in shards.to_pylist():
            number = row.pop("number")
            for documents in self._reader.read(Shard(**row), number):
                yield with_digests(documents, self._seed)


def read_documents(source: Source, seed: int, parallelism: int | None = None) -> Dataset:
    """The documents of a source, or its first `max_documents` in the order of the shards, with digests."""
    context = DataContext.get_current()
    context.raise_original_map_exception = True  # ours, which names the shard, and not Ray's about it
    context.execution_options = ExecutionOptions(preserve_order=True)
    num_tasks = min(len(source.shards), parallelism or max(1, 2 * int(ray.cluster_resources().get("CPU", 1))))
    items = [{"number": number, **asdict(shard)} for number, shard in enumerate(source.shards)]
    listed = ray.data.from_arrow(pa.Table.from_pylist(items)).repartition(num_tasks)
    read = _Read(source.reader, seed).__call__
    documents = listed.map_batches(read, batch_size=None, batch_format="pyarrow", zero_copy_batch=True)
    return documents if source.max_documents is None else documents.limit(source.max_documents)


def exchange(sources: Iterable[Dataset], num_buckets: int) -> tuple[Parts, Census]:
    """Take all documents apart by bucket; and count what must be known of all of them."""
    split_up = ray.remote(_partition).options(num_returns=num_buckets + 1)
    census = Census()
    with _our_errors():
        blocks = [block for source in sources for block in source.to_arrow_refs()]
    returned = [split_up.remote(block, num_buckets) for block in blocks]
    for *_, counted in returned:
        census.add(fetch(counted))
    return [[parts[bucket] for parts in returned] for bucket in range(num_buckets)], census


def _partition(documents: pa.Table, num_buckets: int) -> tuple[Any, ...]:
    parts, census = partition(documents, num_buckets)
    return (*parts, census)


def fill_buckets(parts: Parts, rule: SplitRule, sample_bytes: int) -> Buckets:
    """Put the buckets together: no text twice, each document with its split; and train texts, `sample_bytes` in all."""
    shared = ray.put(rule)
    make = ray.remote(_make_bucket).options(num_returns=3)
    made = [make.remote(shared, sample_bytes // len(parts), *bucket) for bucket in parts]
    buckets = Buckets([], [], Counter(), Counter(), Counter(rule.keys.values()), Counter())
    for table, sample, counted in made:
        buckets.tables.append(table)
        buckets.samples.append(sample)
        counts: BucketCounts = fetch(counted)
        buckets.documents.update(counts.documents)
        buckets.characters.update(counts.characters)
        buckets.dropped.update(counts.dropped)
    return buckets


def _make_bucket(rule: SplitRule, max_bytes: int, *parts: pa.Table) -> tuple[pa.Table, list[str], BucketCounts]:
    import pyarrow.compute as pc

    table, dropped = make_bucket(parts, rule)
    splits = table["split"].to_pylist()
    characters: Counter[str] = Counter()
    for split, length in zip(splits, pc.utf8_length(table["text"]).to_pylist(), strict=True):
        characters[split] += length
    return table, sample_texts(table, "train", max_bytes), BucketCounts(Counter(splits), characters, dropped)


def fetch(reference: Any) -> Any:
    """What a task returned; an error of ours that it raised, as itself and not as Ray's account of it."""
    with _our_errors():
        return ray.get(reference)


@contextmanager
def _our_errors() -> Iterator[None]:
    try:
        yield
    except RayTaskError as error:
        cause: BaseException | None = error.cause
        if isinstance(cause, LLMCoreError):
            raise cause from error
        raise
