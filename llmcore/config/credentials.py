"""What no configuration may hold: it is kept with the run, and travels to every worker."""

from collections.abc import Iterator
from typing import Any

from llmcore.config.document import Path
from llmcore.redaction import holds_credential, redact

__all__ = ["credentials_in"]


def credentials_in(data: Any, place: Path = ()) -> Iterator[tuple[Path, str]]:
    """Where a text of plain data has a URL with a credential or a key in it, and what is to be said of it."""
    if isinstance(data, str):
        if holds_credential(data):
            yield (
                place,
                f"got {redact(data)}, with a credential in it, which a configuration may not have: give a URL without, "
                "and the credential in the environment of every node (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
                "HF_TOKEN, …) or by the role of the machines",
            )
    elif isinstance(data, dict):
        for key, value in data.items():
            yield from credentials_in(value, (*place, key))
    elif isinstance(data, list):
        for index, value in enumerate(data):
            yield from credentials_in(value, (*place, index))
