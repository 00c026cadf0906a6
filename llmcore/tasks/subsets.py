"""Labelled sets with fewer train rows: what a label budget buys. The smaller one's rows are among the larger one's."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from llmcore.errors import CorpusError
from llmcore.storage import Folder
from llmcore.tasks.columns import SetKind
from llmcore.tasks.evaluation_set import EvaluationSet, write_evaluation_set

__all__ = ["Subset", "check_subsets", "publish_subsets", "subset_rows"]


class Subset(NamedTuple):
    """So many train rows, as a seed draws them."""

    num_rows: int
    seed: int


def subset_rows(ids: Sequence[str], subset: Subset) -> npt.NDArray[np.int64]:
    """Which rows are drawn, int64 [num_rows], ascending.

    Those whose ids have the smallest SHA-256 together with the seed: of one seed each subset is part of every larger
    one, and which rows they are depends neither on the order of the rows nor on a library's generator.
    """
    digests = [hashlib.sha256(f"{subset.seed}\0{one}".encode()).digest() for one in ids]
    return np.sort(np.array(sorted(range(len(ids)), key=digests.__getitem__)[: subset.num_rows], dtype=np.int64))


def check_subsets(data: EvaluationSet, subsets: Iterable[Subset]) -> None:
    """Raises CorpusError where the train split has fewer rows than a subset."""
    there, largest = data.num_rows("train"), max(subset.num_rows for subset in subsets)
    if largest > there:
        raise CorpusError(
            f"labels has {largest:,} rows, and the train split of {data.name} has {there:,}: give fewer, or more data"
        )


def publish_subsets(
    storage: Folder, data: EvaluationSet, kind: SetKind, subsets: Iterable[Subset]
) -> Mapping[Subset, EvaluationSet]:
    """Labelled sets of these train rows and of the whole validation split; the test split is not even copied.

    Args:
        storage: Where they are published; the same rows are the same set.
        data: The whole set.
        kind: Its kind.
        subsets: How many rows of which draw.
    """
    columns = kind.chosen(data.columns).with_metadata(tuple(data.metadata))
    train, validation = data.rows("train"), data.rows("validation")
    ids = train["id"].to_pylist()
    return {
        subset: write_evaluation_set(
            storage,
            f"{data.name}, {subset.num_rows} rows of seed {subset.seed}",
            data.label_names,
            {"train": [train.take(subset_rows(ids, subset))], "validation": [validation]},
            columns=columns,
            allow_duplicates=True,  # what stands in both splits was allowed, or refused, in the whole set
        )
        for subset in dict.fromkeys(subsets)
    }
