"""Training documents without the held-out rows of evaluation sets, as tasks on buckets.

The n-grams of all held-out rows are in each task, in memory that a node's tasks share: evaluation sets are small beside
a corpus.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from jobs.runtime.documents import Tables, example_of
from jobs.runtime.errors import fetch
from jobs.runtime.tasks import data_task
from llmcore.config.prepare import DecontaminationSettings, LabelledSetSettings
from llmcore.corpus.cleaning import StepTally
from llmcore.corpus.decontaminate import Protected
from llmcore.corpus.labelled import labelled_rows
from llmcore.corpus.passport import Decontamination
from llmcore.corpus.split import HELD_OUT

if TYPE_CHECKING:
    from llmcore.tasks.evaluation_set import EvaluationSet

__all__ = ["decontaminate", "protected_of"]


def decontaminate(
    tables: Tables,
    settings: DecontaminationSettings,
    labelled: Sequence[LabelledSetSettings],
    places: Mapping[str, str],
    others: "Mapping[str, EvaluationSet]",
) -> tuple[Tables, Decontamination]:
    """The buckets without the train documents that have held-out rows.

    Args:
        tables: buckets, whose documents have their splits.
        settings: what counts as having a row.
        labelled: sets that will be made from the buckets' documents.
        places: see `labelled_rows`.
        others: sets that are there, by what the configuration calls them.
    """
    own, other = data_task(_protect_own), data_task(_protect_set)
    parts = [own.remote(table, settings, chosen, places) for chosen in labelled for table in tables]
    parts += [other.remote(name, found, settings) for name, found in others.items()]
    if not parts:
        return tables, Decontamination()
    protected = data_task(_join).remote(*parts)
    drop = data_task(_drop, num_returns=2)
    made = [drop.remote(table, protected, settings.min_overlap) for table in tables]
    whole = Decontamination(settings.ngram_words, settings.min_overlap)
    whole.num_rows, whole.unchecked = fetch(data_task(_size).remote(protected))
    for _, counted in made:
        tally, by_set = fetch(counted)
        whole.tally.add(tally)
        whole.contaminated.update(by_set)
    return [table for table, _ in made], whole


def protected_of(others: "Mapping[str, EvaluationSet]", settings: DecontaminationSettings) -> Protected:
    """The held-out rows of sets that are there, by what the configuration calls them."""
    return Protected.join([_protect_set(name, found, settings) for name, found in others.items()])


def _protect_own(
    documents: pa.Table, settings: DecontaminationSettings, labelled: LabelledSetSettings, places: Mapping[str, str]
) -> Protected:
    rows, _ = labelled_rows(documents, labelled, places)
    held_out = [
        text
        for text, split in zip(rows["text"].to_pylist(), rows["split"].to_pylist(), strict=True)
        if split in HELD_OUT
    ]
    return Protected.of(labelled.name, pa.array(held_out, pa.string()), settings.ngram_words, settings.min_words)


def _protect_set(name: str, labelled: "EvaluationSet", settings: DecontaminationSettings) -> Protected:
    parts = [
        Protected.of(name, labelled.texts(split), settings.ngram_words, settings.min_words)
        for split in HELD_OUT
        if split in labelled.splits
    ]
    return Protected.join(parts)


def _join(*parts: Protected) -> Protected:
    return Protected.join(parts)


def _size(protected: Protected) -> tuple[dict[str, int], Counter[str]]:
    return protected.num_rows(), protected.unchecked


def _drop(documents: pa.Table, protected: Protected, min_overlap: float) -> tuple[pa.Table, Any]:
    import pyarrow.compute as pc

    train = np.flatnonzero(pc.equal(documents["split"], "train").to_numpy(zero_copy_only=False))
    of_train = documents.take(pa.array(train))
    tally = StepTally(of_train.num_rows, pc.sum(pc.utf8_length(of_train["text"])).as_py() or 0)
    by_set: Counter[str] = Counter()
    kept = np.ones(documents.num_rows, bool)
    for found in protected.find(of_train["text"].combine_chunks(), min_overlap):
        name = protected.names[found.set]
        by_set[name] += 1
        kept[train[found.document]] = False
        why = f"{found.share:.2f} of a row of {name}"
        tally.drop("contaminated", example_of(of_train, found.document, why))
    rest = documents.filter(pa.array(kept)).combine_chunks()
    tally.characters_kept = pc.sum(pc.utf8_length(rest.filter(pc.equal(rest["split"], "train"))["text"])).as_py() or 0
    return rest, (tally, by_set)
