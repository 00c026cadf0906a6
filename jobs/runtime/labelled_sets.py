"""Labelled sets, made from buckets of documents by tasks."""

from collections import Counter
from collections.abc import Iterator, Mapping

import pyarrow as pa
import ray

from jobs.runtime.documents import Buckets
from jobs.runtime.errors import fetch
from jobs.runtime.tasks import data_task
from llmcore.config.prepare import LabelledSetSettings
from llmcore.corpus.labelled import labelled_rows
from llmcore.errors import CorpusError
from llmcore.storage import Folder
from llmcore.tasks.evaluation_set import SPLITS, EvaluationSet, write_evaluation_set

__all__ = ["publish_labelled_set"]


def publish_labelled_set(
    storage: Folder, buckets: Buckets, settings: LabelledSetSettings, places: Mapping[str, str]
) -> tuple[EvaluationSet, Counter[str]]:
    """A labelled set made from the documents; and how many were left out, by reason.

    Raises CorpusError where no document is labelled, or a split has none.
    """
    select = data_task(_select, num_returns=2)
    selected = [select.remote(table, settings, places) for table in buckets.tables]
    labels: set[str] = set()
    left_out: Counter[str] = Counter()
    for _, counted in selected:
        found, left = fetch(counted)
        labels |= found
        left_out.update(left)
    if len(labels) < 2:
        raise CorpusError(
            f"labelled set {settings.name!r} needs two or more labels, but column {settings.label!r} of the documents "
            f"where {settings.where or 'anything'} has {sorted(labels)}; check `label`, `where` and `min_characters`"
        )
    names = sorted(labels)
    parts = [table for table, _ in selected]
    tables = {split: _labelled(split, names, parts) for split in SPLITS if buckets.documents[split]}
    return write_evaluation_set(storage, settings.name, names, tables), left_out


def _select(
    documents: pa.Table, settings: LabelledSetSettings, places: Mapping[str, str]
) -> tuple[pa.Table, tuple[set[str], Counter[str]]]:
    rows, left_out = labelled_rows(documents, settings, places)
    return rows, (set(rows["label"].to_pylist()), left_out)


def _labelled(split: str, names: list[str], tables: "list[ray.ObjectRef[pa.Table]]") -> Iterator[pa.Table]:
    """A split's rows, a bucket at a time, their labels as indices into `names`."""
    import pyarrow.compute as pc

    for reference in tables:
        rows = ray.get(reference)
        rows = rows.filter(pc.equal(rows["split"], split))
        labels = pc.index_in(rows["label"], pa.array(names))
        yield rows.set_column(rows.schema.get_field_index("label"), "label", labels)
