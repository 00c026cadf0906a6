"""From documents to the rows of a labelled set."""

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from llmcore.config.prepare import LabelledSetSettings
from llmcore.corpus.formats import as_text

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["columns_wanted", "labelled_rows"]


def columns_wanted(settings: LabelledSetSettings) -> list[str]:
    """The columns of the corpus that a labelled set is made from."""
    return list(dict.fromkeys([settings.text, settings.label, settings.group, *settings.where]))


def labelled_rows(
    documents: "pa.Table", settings: LabelledSetSettings, places: Mapping[str, str]
) -> tuple["pa.Table", Counter[str]]:
    """The documents that belong to a labelled set.

    Args:
        documents: with `id`, `split`, and what `places` names.
        settings: which documents, and what of them.
        places: for each of `columns_wanted`, the column of `documents` that has it.

    Returns:
        Strings `id`, `text`, `label`, `group` and `split`, in the order of the documents; and how many that `where`
        selects were left out: `without_label`, `without_text`, `without_group`, `too_short`.
    """
    import pyarrow as pa

    where = {name: as_text(value) for name, value in settings.where.items()}
    left_out: Counter[str] = Counter()
    rows: list[dict[str, Any]] = []
    names = columns_wanted(settings)
    columns = [documents["id"].to_pylist(), documents["split"].to_pylist()]
    fields = zip(*(documents[places[name]].to_pylist() for name in names), strict=True)
    for row_id, split, values in zip(*columns, fields, strict=True):
        row = dict(zip(names, values, strict=True))
        if any(row[name] != value for name, value in where.items()):
            continue
        text, label, group = row[settings.text], row[settings.label], row[settings.group]
        if reason := _reason(text, label, group, settings.min_characters):
            left_out[reason] += 1
        else:
            rows.append({"id": row_id, "text": text, "label": label, "group": group, "split": split})
    schema = pa.schema([(name, pa.string()) for name in ("id", "text", "label", "group", "split")])
    return pa.Table.from_pylist(rows, schema=schema), left_out


def _reason(text: str | None, label: str | None, group: str | None, min_characters: int) -> str | None:
    """Why a row is left out, or None."""
    missing = {"without_text": text, "without_label": label, "without_group": group}
    for reason, value in missing.items():
        if value is None:
            return reason
    return "too_short" if text is not None and len(text) < min_characters else None
