"""What other runs made, by the names that configurations give them."""

from typing import Any

from llmcore.records.layout import attempt_folder, attempt_numbers
from llmcore.storage import Folder, is_location

__all__ = ["newest_result", "run_folder"]


def run_folder(storage: Folder, reference: str) -> Folder:
    """The folder of a run by its name in the storage, or by its URL."""
    return Folder(reference) if is_location(reference) else storage / reference


def newest_result(run: Folder) -> dict[str, Any] | None:
    """The result of the newest attempt that succeeded; None while there is none."""
    for number in reversed(attempt_numbers(run)):
        end = attempt_folder(run, number).find_json("end.json")
        if end is not None and end["status"] == "succeeded":
            return dict(end["result"])
    return None
