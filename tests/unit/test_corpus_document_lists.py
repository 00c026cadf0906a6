from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from llmcore.config.prepare import SourceSettings
from llmcore.corpus.document_lists import write_document_lists
from llmcore.corpus.read import DocumentReader
from llmcore.storage import Folder

SCHEMA = DocumentReader("s", 0, "text").schema().append(pa.field("split", pa.string()))


def test_a_file_for_each_split_says_all_but_the_text(tmp_path: Path) -> None:
    rows = [
        {"id": f"s/{n}", "text": "é" * n, "language": "fr", "metadata": '{"year": "1"}' if n else None,
         "source": n % 2, "shard": 1, "row": n, "passage": 0, "split": split}
        for n, split in enumerate(["train", "test", "train"])
    ]  # fmt: skip
    documents = pa.Table.from_pylist(rows, SCHEMA)
    entries = write_document_lists(Folder(str(tmp_path)), 12, documents, pa.array([5, 6, 7]), ["one", "two"])
    assert [entry.name for entry in entries] == [f"documents/{split}/part-00012.parquet" for split in ("train", "test")]
    first, last = pq.read_table(tmp_path / entries[0].name).to_pylist()
    assert last == {
        "id": "s/2", "source": "one", "shard": 1, "row": 2, "passage": 0, "language": "fr",
        "num_characters": 2, "num_tokens": 7, "metadata": '{"year": "1"}',
    }  # fmt: skip
    assert first["metadata"] is None and first["num_tokens"] == 5
    assert pq.read_table(tmp_path / entries[1].name)["source"].to_pylist() == ["two"]


def test_no_documents_make_no_file(tmp_path: Path) -> None:
    nothing = pa.Table.from_pylist([], SCHEMA)
    assert write_document_lists(Folder(str(tmp_path)), 0, nothing, pa.array([], pa.int64()), ["one"]) == []


@pytest.mark.parametrize(
    ("changes", "metadata"), [({}, "text"), ({"text": "{title}: {body}"}, "body"), ({"chat": {}}, "messages")]
)
def test_the_text_is_no_metadata(changes: dict[str, Any], metadata: str) -> None:
    with pytest.raises(ValidationError, match=rf"metadata: \['{metadata}'\] is the text"):
        SourceSettings.model_validate({"name": "a", "url": "/a", "metadata": ["year", metadata], **changes})
