"""Near duplicates across all buckets, as tasks: no process has all documents, all signatures, or all pairs.

    sketch    a bucket's documents -> (band, document), by band
    pair      the documents that share a band -> candidate pairs, by the bucket of the first
    attach    a bucket's pairs, each with the first document's shingles -> by the bucket of the later
    compare   the exact similarity of a bucket's pairs -> those over the threshold
    judge     who stays, in rounds: `llmcore.corpus.verdicts`
    drop      a bucket's documents without those that are dropped

A document's number is its bucket's, shifted by 32 bits, and its row in it.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import ray

from jobs.runtime.documents import Tables, example_of
from jobs.runtime.errors import fetch
from jobs.runtime.tasks import data_task
from llmcore.config.prepare import NearDuplicateSettings
from llmcore.corpus.cleaning import StepTally
from llmcore.corpus.dedup import priorities_of
from llmcore.corpus.near import (
    Banding,
    Int64s,
    Shingles,
    UInt64s,
    band_keys,
    candidate_pairs,
    shingles_of,
    similarities,
    sketch,
)
from llmcore.corpus.passport import NearDuplicates
from llmcore.corpus.verdicts import News, Verdicts

__all__ = ["drop_near_duplicates"]

_MANY = 32
"""Partitions of bands, and of verdicts, at most: enough for one to fit into a process, few enough to exchange."""
_SHIFT = 32


class _Bands(NamedTuple):
    keys: UInt64s
    priorities: UInt64s
    documents: Int64s


class _Pairs(NamedTuple):
    first: Int64s
    later: Int64s


class _Attached(NamedTuple):
    """Pairs with what is compared: `shingles` are those of the `firsts`, which are sorted, each once."""

    pairs: _Pairs
    firsts: Int64s
    ids: list[str]
    splits: list[str]
    shingles: Shingles


class _Edges(NamedTuple):
    """Pairs that are alike, sorted by (later, first)."""

    pairs: _Pairs
    similarity: list[float]
    ids: list[str]
    splits: list[str]


def drop_near_duplicates(tables: Tables, settings: NearDuplicateSettings) -> tuple[Tables, NearDuplicates]:
    """The buckets' documents without near duplicates: of two alike the more held-out stays, then the one of the lower
    digest.
    """
    found = NearDuplicates()
    edges = _compare_all(tables, settings, found)
    if not found.num_pairs:
        return tables, found
    dropped = _judge_all(edges, found)
    drop = data_task(_drop, num_returns=2)
    kept = []
    for bucket, (table, alike) in enumerate(zip(tables, edges, strict=True)):
        rest, counted = drop.remote(bucket, table, alike, *dropped)
        kept.append((rest, counted))
    for _, counted in kept:
        found.tally.add(fetch(counted))
    return [rest for rest, _ in kept], found


def _compare_all(
    tables: Tables, settings: NearDuplicateSettings, found: NearDuplicates
) -> "list[ray.ObjectRef[_Edges]]":
    """For each bucket, the pairs that are alike whose later document is in it."""
    num_buckets = len(tables)
    num_partitions = min(num_buckets, _MANY)
    make = _returning(_sketch, num_partitions)
    bands = [make(bucket, table, settings, num_partitions) for bucket, table in enumerate(tables)]
    make = _returning(_pair, num_buckets)
    pairs = [make(num_buckets, *(of_bucket[number] for of_bucket in bands)) for number in range(num_partitions)]
    make = _returning(_attach, num_buckets)
    attached = [
        make(table, settings, num_buckets, *(part[bucket] for part in pairs)) for bucket, table in enumerate(tables)
    ]
    compare = data_task(_compare, num_returns=2)
    compared = [
        compare.remote(table, settings, *(of_first[bucket] for of_first in attached))
        for bucket, table in enumerate(tables)
    ]
    for _, counted in compared:
        num_candidates, num_pairs = fetch(counted)
        found.num_candidates += num_candidates
        found.num_pairs += num_pairs
    return [edges for edges, _ in compared]


def _judge_all(edges: "list[ray.ObjectRef[_Edges]]", found: NearDuplicates) -> "list[ray.ObjectRef[Any]]":
    """For each partition, which of its documents are dropped."""
    num_partitions = min(len(edges), _MANY)
    make = _returning(_by_first, num_partitions)
    by_first = [make(alike, num_partitions) for alike in edges]
    begin, hear = (_returning(task, num_partitions + 2) for task in (_begin, _hear))
    states, sent, counts = [], [], []
    for number in range(num_partitions):
        own = edges[number::num_partitions]
        state, count, *news = begin(num_partitions, len(own), *own, *(part[number] for part in by_first))
        states.append(state)
        counts.append(count)
        sent.append(news)
    while any(fetch(counts)):
        found.num_rounds += 1
        heard = [
            hear(num_partitions, states[number], *(news[number] for news in sent)) for number in range(num_partitions)
        ]
        states, counts = [state for state, *_ in heard], [count for _, count, *_ in heard]
        sent = [news for _, _, *news in heard]
    finish = data_task(Verdicts.dropped)
    return [finish.remote(state) for state in states]


def _returning(task: Any, number: int) -> Any:
    """The task as one that returns a list of so many references, also where it is one."""
    remote = data_task(task, num_returns=number)

    def start(*arguments: Any) -> list[Any]:
        references = remote.remote(*arguments)
        return references if number > 1 else [references]

    return start


def _answer(parts: Sequence[Any]) -> Any:
    """A task's results: a task of one result must not return a sequence of one."""
    return parts[0] if len(parts) == 1 else tuple(parts)


def _sketch(bucket: int, documents: pa.Table, settings: NearDuplicateSettings, num_partitions: int) -> Any:
    banding = Banding.of(settings.threshold, settings.num_permutations)
    shingles = shingles_of(_texts(documents), settings.shingle_words)
    keys = band_keys(sketch(shingles, settings.num_permutations), banding)
    numbers = (np.int64(bucket) << _SHIFT) + np.arange(documents.num_rows)
    every = _Bands(
        keys.reshape(-1),
        np.repeat(priorities_of(documents), banding.num_bands),
        np.repeat(numbers, banding.num_bands),
    )
    where = every.keys % np.uint64(num_partitions)
    return _answer([_Bands(*(column[where == number] for column in every)) for number in range(num_partitions)])


def _pair(num_buckets: int, *parts: _Bands) -> Any:
    pairs = _Pairs(*candidate_pairs(*(np.concatenate(columns) for columns in zip(*parts, strict=True))))
    return _answer(_split_pairs(pairs, pairs.first >> _SHIFT, num_buckets))


def _split_pairs(pairs: _Pairs, where: Int64s, number: int) -> list[_Pairs]:
    return [_Pairs(*(column[where == at] for column in pairs)) for at in range(number)]


def _attach(documents: pa.Table, settings: NearDuplicateSettings, num_buckets: int, *parts: _Pairs) -> Any:
    first, later = np.unique(np.concatenate([np.stack(part) for part in parts], axis=1), axis=1)
    attached = []
    for pairs in _split_pairs(_Pairs(first, later), later >> _SHIFT, num_buckets):
        firsts = np.unique(pairs.first)
        rows = documents.select(["text", "id", "split"]).take(_rows(firsts))
        shingles = shingles_of(_texts(rows), settings.shingle_words)
        attached.append(_Attached(pairs, firsts, rows["id"].to_pylist(), rows["split"].to_pylist(), shingles))
    return _answer(attached)


def _compare(documents: pa.Table, settings: NearDuplicateSettings, *parts: _Attached) -> tuple[_Edges, tuple[int, int]]:
    laters = np.unique(np.concatenate([part.pairs.later for part in parts]))
    own = dict(
        zip(
            laters.tolist(),
            shingles_of(_texts(documents.select(["text"]).take(_rows(laters))), settings.shingle_words).sets(),
            strict=True,
        )
    )
    alike: list[tuple[int, int, float, str, str]] = []
    num_candidates = 0
    for part in parts:
        sets = part.shingles.sets()
        at = np.searchsorted(part.firsts, part.pairs.first)
        later = part.pairs.later.tolist()
        found = similarities([sets[place] for place in at], [own[number] for number in later])
        num_candidates += len(later)
        alike += [
            (number, first, similarity, part.ids[place], part.splits[place])
            for number, first, similarity, place in zip(later, part.pairs.first.tolist(), found, at, strict=True)
            if similarity >= settings.threshold
        ]
    alike.sort()
    first, later = (np.array([row[column] for row in alike], dtype=np.int64) for column in (1, 0))
    edges = _Edges(
        _Pairs(first, later), [row[2] for row in alike], [row[3] for row in alike], [row[4] for row in alike]
    )
    return edges, (num_candidates, len(alike))


def _by_first(edges: _Edges, num_partitions: int) -> Any:
    return _answer(_split_pairs(edges.pairs, (edges.pairs.first >> _SHIFT) % num_partitions, num_partitions))


def _begin(num_partitions: int, num_own: int, *parts: Any) -> Any:
    own_later = np.concatenate([edges.pairs.later for edges in parts[:num_own]])
    first, later = (np.concatenate([pairs[column] for pairs in parts[num_own:]]) for column in (0, 1))
    return _told(*Verdicts.begin(own_later, first, later), num_partitions)


def _hear(num_partitions: int, state: Verdicts, *parts: News) -> Any:
    return _told(*state.hear(News.join(parts)), num_partitions)


def _told(state: Verdicts, news: News, num_partitions: int) -> Any:
    where = (news.later >> _SHIFT) % num_partitions
    return (state, len(news.later), *(news.where(where == number) for number in range(num_partitions)))


def _drop(bucket: int, documents: pa.Table, edges: _Edges, *verdicts: tuple[Int64s, Int64s]) -> tuple[Any, StepTally]:
    import pyarrow.compute as pc

    tally = StepTally(documents.num_rows, pc.sum(pc.utf8_length(documents["text"])).as_py() or 0)
    dropped, beside = (np.concatenate(columns) for columns in zip(*verdicts, strict=True))
    here = dropped >> _SHIFT == bucket
    found = dict(zip(dropped[here].tolist(), beside[here].tolist(), strict=True))
    at = {pair: row for row, pair in enumerate(zip(*(column.tolist() for column in edges.pairs), strict=True))}
    kept = np.ones(documents.num_rows, bool)
    for number, first in sorted(found.items()):
        row, edge = number & ((1 << _SHIFT) - 1), at[first, number]
        kept[row] = False
        held_out = edges.splits[edge] != documents["split"][row].as_py()
        tally.drop(
            "near_duplicate_of_held_out" if held_out else "near_duplicate",
            example_of(documents, row, f"{edges.similarity[edge]:.2f} like {edges.ids[edge]}"),
        )
    rest = documents.filter(pa.array(kept)).combine_chunks()
    tally.characters_kept = pc.sum(pc.utf8_length(rest["text"])).as_py() or 0
    return rest, tally


def _rows(numbers: Int64s) -> pa.Array:
    return pa.array(numbers & ((1 << _SHIFT) - 1))


def _texts(documents: pa.Table) -> pa.Array:
    return documents["text"].combine_chunks()
