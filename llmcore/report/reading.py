"""The records of runs of one storage, read one by one: what is absent is None, and what cannot be read is noted."""

from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from pydantic import ValidationError

from llmcore.config.document import plain_yaml
from llmcore.report.recorded import Record
from llmcore.storage import Folder

__all__ = ["Records", "leaves", "told_error"]

RecordT = TypeVar("RecordT", bound=Record)


class Records:
    """Of runs whose names begin alike; `problems` are records that cannot be read, each with its place.

    A run is named by what stands behind the `prefix` of its name: of a pipeline's runs, the stage.
    """

    def __init__(self, storage: Folder, prefix: str) -> None:
        self.storage = storage
        self.prefix = prefix
        self.problems: list[str] = []

    def run(self, stage: str) -> Folder:
        """Where it is kept."""
        return self.storage / f"{self.prefix}{stage}"

    def configured(self, stage: str) -> dict[str, Any]:
        """What a stage's run says of itself."""
        return self.yaml(self.run(stage))

    @staticmethod
    def yaml(run: Folder) -> dict[str, Any]:
        """The configuration of a run; empty where it has none."""
        text = run.find_bytes("config.yaml")
        return {} if text is None else dict(plain_yaml(text) or {})

    def read(self, model: type[RecordT], folder: Folder, name: str) -> RecordT | None:
        """A record; None where it is absent, and where it cannot be read, which is noted. Raises StorageError."""
        data = folder.find_bytes(name)
        try:
            return None if data is None else model.model_validate_json(data)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"])) or "the file"
            told = f"{folder.url}/{name}: {place}: {first['msg']}"
            self.note(told)
            return None

    def note(self, problem: str) -> None:
        """Name a record that cannot be read, once."""
        self.problems += [] if problem in self.problems else [problem]


def leaves(values: Any, kinds: tuple[type, ...], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Leaves of these kinds of a nested mapping, by their words: `{"train": {"rows": 3}}` is `train, rows`."""
    if not isinstance(values, Mapping):
        return
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from leaves(value, kinds, f"{name}, ")
        elif type(value) in kinds:
            yield name, value


def told_error(error: Any) -> str:
    """What a record says of an error, in its words; nothing where there was none."""
    if not error:
        return ""
    return str(error.get("message", error)) if isinstance(error, Mapping) else str(error)
