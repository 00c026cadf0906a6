from typing import Any

import pyarrow as pa

from llmcore.config.prepare import LabelledSetSettings
from llmcore.corpus.labelled import columns_wanted, labelled_rows

PLACES = {"text": "text", "area": "stratum", "key": "key", "kind": "field.kind", "good": "field.good"}


def _documents(*rows: tuple[str, str | None, str | None, str | None, str | None]) -> pa.Table:
    names = ("text", "stratum", "key", "field.kind", "field.good")
    made = [dict(zip(names, row, strict=True)) | {"id": str(n), "split": "train"} for n, row in enumerate(rows)]
    return pa.Table.from_pylist(made)


def _settings(**changes: Any) -> LabelledSetSettings:
    return LabelledSetSettings.model_validate({"name": "areas", "label": "area", **changes})


def test_which_documents_are_taken_and_why_others_are_not() -> None:
    documents = _documents(
        ("long enough", "a", "m", "docstring", "true"),
        ("short", "a", "m", "docstring", "true"),
        ("long enough", None, "m", "docstring", "true"),
        ("long enough", "a", None, "docstring", "true"),
        ("long enough", "a", "m", "source", "true"),
        ("long enough", "a", "m", "docstring", None),
    )
    settings = _settings(where={"kind": "docstring", "good": True}, min_characters=8)
    assert columns_wanted(settings) == ["text", "area", "key", "kind", "good"]
    rows, left_out = labelled_rows(documents, settings, PLACES)
    assert rows.to_pylist() == [{"id": "0", "text": "long enough", "label": "a", "group": "m", "split": "train"}]
    assert dict(left_out) == {"too_short": 1, "without_label": 1, "without_group": 1}
