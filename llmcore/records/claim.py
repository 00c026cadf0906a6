"""Numbers that only one start may have: of attempts, and of an attempt's sessions."""

from collections.abc import Mapping
from typing import Any

from llmcore.storage import Folder
from llmcore.storage.content import readable_json

__all__ = ["claim"]


def claim(folder: Folder, name: str, record: Mapping[str, Any]) -> bool:
    """Writes a record that is there for whoever comes first; False where it is another's.

    It is told by its `token`, a random one. Read back instead of trusting the answer: a repeated request may be refused
    because of its own first sending, and a store that ignores the condition may have let another overwrite it. Raises
    StorageError.
    """
    folder.create_bytes(name, readable_json(record))
    found = folder.find_json(name) or {}
    return bool(found.get("token") == record["token"])
