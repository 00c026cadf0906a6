"""A corpus through Ray: Ray Data reads its shards, and one exchange brings equal texts into one bucket.

What comes out does not depend on how many tasks read, in which order they end, or how large their blocks are: a bucket is
put together from all its parts and sorted. The exchange is Ray tasks of our own, since a bucket must be one block whatever
its size, and Ray Data's hash shuffle took ten seconds more on two cores.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import pyarrow as pa
import ray
from ray.data import DataContext, Dataset, ExecutionOptions
from ray.exceptions import RayTaskError

from llmcore.corpus.buckets import Census, partition, with_digests
from llmcore.corpus.read import DocumentReader, Shard
from llmcore.errors import LLMCoreError

__all__ = ["Parts", "exchange", "our_errors", "read_documents"]

Parts = list[list["ray.ObjectRef[pa.Table]"]]
"""For each bucket, references to its parts."""


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


def read_documents(
    reader: DocumentReader, shards: list[Shard], seed: int, *, parallelism: int | None, max_documents: int | None
) -> Dataset:
    """The documents of a source, or its first `max_documents` in the order of the shards, with digests."""
    context = DataContext.get_current()
    context.raise_original_map_exception = True  # ours, which names the shard, and not Ray's about it
    context.execution_options = ExecutionOptions(preserve_order=True)
    num_tasks = min(len(shards), parallelism or max(1, 2 * int(ray.cluster_resources().get("CPU", 1))))
    items = [{"number": number, **asdict(shard)} for number, shard in enumerate(shards)]
    listed = ray.data.from_arrow(pa.Table.from_pylist(items)).repartition(num_tasks)
    read = _Read(reader, seed).__call__
    documents = listed.map_batches(read, batch_size=None, batch_format="pyarrow", zero_copy_batch=True)
    return documents if max_documents is None else documents.limit(max_documents)


def exchange(sources: Iterable[Dataset], num_buckets: int) -> tuple[Parts, Census]:
    """Take all documents apart by bucket; and count what must be known of all of them."""
    split_up = ray.remote(_partition).options(num_returns=num_buckets + 1)
    returned = [split_up.remote(block, num_buckets) for source in sources for block in source.to_arrow_refs()]
    census = Census()
    with our_errors():
        for *_, counted in returned:
            census.add(ray.get(counted))
    return [[parts[bucket] for parts in returned] for bucket in range(num_buckets)], census


def _partition(documents: pa.Table, num_buckets: int) -> tuple[Any, ...]:
    parts, census = partition(documents, num_buckets)
    return (*parts, census)


@contextmanager
def our_errors() -> Iterator[None]:
    """An error of ours that a task raised, as itself and not as Ray's account of it."""
    try:
        yield
    except RayTaskError as error:
        cause: BaseException | None = error.cause
        if isinstance(cause, LLMCoreError):
            raise cause from error
        raise
