"""Train documents balanced by the groups of people they name, and their counterfactual copies, as tasks on buckets."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from jobs.runtime.documents import Tables, example_of
from jobs.runtime.errors import fetch
from jobs.runtime.tasks import data_task
from llmcore.config.counterfactual import CounterfactualSettings
from llmcore.corpus.balance import Balance, count_only, only_groups
from llmcore.corpus.buckets import by_bucket
from llmcore.corpus.cleaning import StepTally
from llmcore.corpus.counterfactual import CounterfactualCounts, counterfactuals_of, with_counterfactuals
from llmcore.corpus.passport import Balanced

__all__ = ["add_counterfactuals", "balance"]


def balance(
    tables: Tables, groups: Mapping[str, Sequence[str]], tolerance: float, sources: Sequence[str]
) -> tuple[Tables, dict[str, Balanced]]:
    """The buckets without the train documents by which groups are named in more documents of a source than others.

    Args:
        tables: buckets, whose documents have their splits.
        groups: the words of each.
        tolerance: see `Balance.of`.
        sources: their names.
    """
    count, drop = (data_task(task, num_returns=2) for task in (_count, _drop))
    counted = [count.remote(table, list(groups.values())) for table in tables]
    counts: dict[int, Counter[int]] = {source: Counter() for source in range(len(sources))}
    for _, of_bucket in counted:
        for source, by_group in fetch(of_bucket).items():
            counts[source].update(by_group)
    rule = Balance.of(counts, len(groups), tolerance)
    dropped = [drop.remote(table, only, rule, list(groups)) for table, (only, _) in zip(tables, counted, strict=True)]
    done = {
        name: Balanced({group: counts[source][number] for number, group in enumerate(groups)})
        for source, name in enumerate(sources)
    }
    for _, tallies in dropped:
        for source, tally in fetch(tallies).items():
            done[sources[source]].tally.add(tally)
    return [table for table, _ in dropped], done


def _count(
    documents: pa.Table, terms: Sequence[Sequence[str]]
) -> tuple[npt.NDArray[np.int16], dict[int, Counter[int]]]:
    only = only_groups(documents, terms)
    return only, count_only(documents, only)


def _drop(
    documents: pa.Table, only: npt.NDArray[np.int16], rule: Balance, groups: Sequence[str]
) -> tuple[pa.Table, dict[int, StepTally]]:
    train = pc.equal(documents["split"], "train").to_numpy()
    sizes = pc.utf8_length(documents["text"]).to_numpy()
    sources = documents["source"].to_numpy()
    dropped = rule.dropped(documents, only)
    kept = np.ones(documents.num_rows, bool)
    kept[dropped] = False
    tallies = {}
    for source in np.unique(sources).tolist():
        came = train & (sources == source)
        tallies[source] = StepTally(int(came.sum()), int(sizes[came].sum()), int(sizes[came & kept].sum()))
    for row in dropped.tolist():
        group = groups[only[row]]
        example = example_of(documents, row, f"names {group} alone")
        tallies[int(sources[row])].drop(f"over_represented: {group}", example)
    return documents.filter(pa.array(kept)).combine_chunks(), tallies


def add_counterfactuals(
    tables: Tables, settings: CounterfactualSettings, seed: int, sources: Sequence[str]
) -> tuple[Tables, dict[str, CounterfactualCounts]]:
    """The buckets with the copies of their train documents, each in the bucket of its own digest.

    So a copy meets whatever has the same text.
    """
    make = data_task(_copy, num_returns=len(tables) + 1)
    add = data_task(_add, num_returns=2)
    copied = [make.remote(table, settings, seed, len(tables)) for table in tables]
    added = [add.remote(table, *(parts[bucket] for parts in copied)) for bucket, table in enumerate(tables)]
    done = {name: CounterfactualCounts() for name in sources}
    for counted in [*(parts[-1] for parts in copied), *(counted for _, counted in added)]:
        for source, counts in fetch(counted).items():
            done[sources[source]].add(counts)
    return [table for table, _ in added], done


def _copy(documents: pa.Table, settings: CounterfactualSettings, seed: int, num_buckets: int) -> tuple[Any, ...]:
    copies, counts = counterfactuals_of(documents, settings, seed)
    return (*by_bucket(copies, num_buckets), counts)


def _add(documents: pa.Table, *copies: pa.Table) -> tuple[pa.Table, dict[int, CounterfactualCounts]]:
    return with_counterfactuals(documents, copies)
