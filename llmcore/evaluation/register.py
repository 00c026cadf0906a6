"""The register of looks at held-out test splits: each is written down before the split is opened.

A test split is spent by looking: who chooses the best of many looks reports luck. The register cannot forbid that; it
counts, and every report shows the count.
"""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from llmcore.storage import Folder, content_hash

__all__ = ["looks", "record_look"]

_REGISTER = "register"


def record_look(storage: Folder, test_hash: str, *, model_sha256: str, suite_hash: str, who: Mapping[str, Any]) -> bool:
    """Write down that a model is about to be judged on a test split; False when it already was, with this suite.

    Args:
        storage: Where runs and artifacts are kept.
        test_hash: `EvaluationSet.split_hash("test")`: the rows count, not what set they were published in.
        model_sha256: The model.
        suite_hash: `Suite.hash`.
        who: The run and its attempt.
    """
    record = {
        "model_sha256": model_sha256,
        "suite": suite_hash,
        "who": dict(who),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    name = f"{content_hash(model_sha256, suite_hash)}.json"
    return _folder(storage, test_hash).create_bytes(name, json.dumps(record, indent=2).encode())


def looks(storage: Folder, test_hash: str) -> list[dict[str, Any]]:
    """All looks at a test split, oldest first; their number is its length."""
    folder = _folder(storage, test_hash)
    records: list[dict[str, Any]] = [folder.read_json(name) for name in folder.names()]
    return sorted(records, key=lambda record: (record["time"], record["model_sha256"]))


def _folder(storage: Folder, test_hash: str) -> Folder:
    return storage / _REGISTER / test_hash
