"""A corpus through Ray: Ray Data reads its shards, and one exchange brings equal texts into one bucket.

What comes out does not depend on how many tasks read, in which order they end, or how large their blocks are: a bucket
is put together from all its parts and sorted. The exchange is Ray tasks of our own, since a bucket must be one block
whatever its size, and Ray Data's hash shuffle took ten seconds more on two cores.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow as pa
import ray
from ray.data import DataContext, Dataset, ExecutionOptions

from cluster.placement import placed
from jobs.runtime.errors import fetch, our_errors
from jobs.runtime.retries import tell_of_retries
from jobs.runtime.sources import Source
from jobs.runtime.tasks import data_task
from llmcore.config.group_terms import GroupTermSettings
from llmcore.corpus.buckets import Census, SplitRule, make_bucket, partition, sample_texts, with_digests
from llmcore.corpus.cleaned import CleanedShards
from llmcore.corpus.cleaning import Example, Tally
from llmcore.corpus.cleaning.personal import excerpt
from llmcore.corpus.passport import Contents, contents_of
from llmcore.corpus.read import DocumentReader
from llmcore.corpus.shards import Shard

__all__ = [
    "Buckets",
    "Parts",
    "Tables",
    "count_buckets",
    "example_of",
    "exchange",
    "fill_buckets",
    "read_documents",
    "tally_of",
]

Tables = list["ray.ObjectRef[pa.Table]"]
"""References to a table of documents for each bucket."""
Parts = list[list["ray.ObjectRef[pa.Table]"]]
"""For each bucket, references to its parts."""

_SHARDS_A_TASK = 64

tell_of_retries()  # each process that has a task of `prepare` imports this module

_LISTED = pa.schema(
    [
        ("number", pa.int32()),
        ("url", pa.string()),
        ("name", pa.string()),
        ("size", pa.int64()),
        ("version", pa.string()),
        ("max_documents", pa.int64()),
    ]
)


@dataclass
class Buckets:
    """Documents without exact duplicates, each with its split.

    Attributes:
        tables: references to a table for each bucket.
        num_keys: split keys, by split.
        dropped: exact duplicates, by reason.
        samples: references to train texts of each bucket.
        documents, characters: by split.
    """

    tables: Tables
    num_keys: Counter[str]
    dropped: Counter[str] = field(default_factory=Counter)
    samples: "list[ray.ObjectRef[list[str]]]" = field(default_factory=list)
    documents: Counter[str] = field(default_factory=Counter)
    characters: Counter[str] = field(default_factory=Counter)


class _Read:
    """Ray Data's task: the documents of some shards, cleaned or as they are, with the digests of their texts."""

    def __init__(self, reader: DocumentReader | CleanedShards, seed: int) -> None:
        self._reader = reader
        self._seed = seed

    def __call__(self, shards: pa.Table) -> Iterator[pa.Table]:
        for row in shards.to_pylist():
            number = row.pop("number")
            for documents in self._reader.read(Shard(**row), number):
                yield with_digests(documents, self._seed)


def read_documents(source: Source, seed: int, parallelism: int | None = None) -> Dataset:
    """The documents of a source, cleaned, in the order of its shards, with digests."""
    context = DataContext.get_current()
    context.raise_original_map_exception = True  # ours, which names the shard, and not Ray's about it
    context.execution_options = ExecutionOptions(preserve_order=True, **placed("data"))
    num_tasks = min(len(source.shards), parallelism or max(1, 2 * int(ray.cluster_resources().get("CPU", 1))))
    items = [{"number": number, **asdict(shard)} for number, shard in enumerate(source.shards)]
    listed = ray.data.from_arrow(pa.Table.from_pylist(items, schema=_LISTED)).repartition(num_tasks)
    read = _Read(source.cleaned or source.reader, seed).__call__
    return listed.map_batches(read, batch_size=None, batch_format="pyarrow", zero_copy_batch=True)


def tally_of(source: Source) -> Tally | None:
    """What cleaning did to the documents of a source that was read; None where it is not cleaned."""
    if source.cleaned is None:
        return None
    add_up = data_task(_add_up)
    groups = [source.shards[first : first + _SHARDS_A_TASK] for first in range(0, len(source.shards), _SHARDS_A_TASK)]
    whole = Tally()
    for reference in [add_up.remote(source.cleaned, shards) for shards in groups]:
        whole.add(fetch(reference))
    return whole


def _add_up(cleaned: CleanedShards, shards: list[Shard]) -> Tally:
    whole = Tally()
    for shard in shards:
        whole.add(cleaned.tally(shard))
    return whole


def exchange(sources: Iterable[Dataset], num_buckets: int) -> tuple[Parts, Census]:
    """Take all documents apart by bucket; and count what must be known of all of them."""
    split_up = data_task(_partition, num_returns=num_buckets + 1)
    census = Census()
    with our_errors():
        blocks = [block for source in sources for block in source.to_arrow_refs()]
    returned = [split_up.remote(block, num_buckets) for block in blocks]
    for *_, counted in returned:
        census.add(fetch(counted))
    return [[parts[bucket] for parts in returned] for bucket in range(num_buckets)], census


def _partition(documents: pa.Table, num_buckets: int) -> tuple[Any, ...]:
    parts, census = partition(documents, num_buckets)
    return (*parts, census)


def fill_buckets(parts: Parts, rule: SplitRule) -> Buckets:
    """Put the buckets together: no text twice, each document with its split."""
    shared = ray.put(rule)
    make = data_task(_make_bucket, num_returns=2)
    made = [make.remote(shared, *bucket) for bucket in parts]
    buckets = Buckets([table for table, _ in made], Counter(rule.keys.values()))
    for _, dropped in made:
        buckets.dropped.update(fetch(dropped))
    return buckets


def _make_bucket(rule: SplitRule, *parts: pa.Table) -> tuple[pa.Table, Counter[str]]:
    return make_bucket(parts, rule)


def count_buckets(
    buckets: Buckets, sample_bytes: int, group_terms: GroupTermSettings | None = None
) -> dict[int, Contents]:
    """Take train texts of the buckets, `sample_bytes` in all; and give what they have of each source, by its number."""
    count = data_task(_count, num_returns=2)
    counted = [count.remote(table, sample_bytes // len(buckets.tables), group_terms) for table in buckets.tables]
    whole: dict[int, Contents] = {}
    for sample, contents in counted:
        buckets.samples.append(sample)
        for source, found in fetch(contents).items():
            whole.setdefault(source, Contents()).add(found)
            buckets.documents.update(found.documents)
            buckets.characters.update(found.characters)
    return whole


def _count(
    table: pa.Table, max_bytes: int, group_terms: GroupTermSettings | None
) -> tuple[list[str], dict[int, Contents]]:
    return sample_texts(table, "train", max_bytes), contents_of(table, group_terms)


def example_of(documents: pa.Table, row: int, why: str) -> Example:
    """A document that is dropped, for people: why, and its beginning."""
    document = documents.select(["id", "text", "shard", "row"]).slice(row, 1).to_pylist()[0]
    shown = f"{why}: {excerpt(document['text'])}"
    return Example.of(document["id"], str(document["shard"]), document["row"], shown)
