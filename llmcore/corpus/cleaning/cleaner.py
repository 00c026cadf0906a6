"""The steps of a configuration, one after the other, on tables of documents."""

import time
from typing import TYPE_CHECKING, Any

from llmcore.config.cleaning import CleaningSettings
from llmcore.corpus.cleaning.base import Draft, Step
from llmcore.corpus.cleaning.language import KnownLanguage
from llmcore.corpus.cleaning.passages import passages_of
from llmcore.corpus.cleaning.personal import MaskPersonalData, excerpt
from llmcore.corpus.cleaning.quality import C4, FineWeb, Gopher, GopherRepetition
from llmcore.corpus.cleaning.tally import Example, StepTally, Tally
from llmcore.corpus.cleaning.text import LengthBounds, UniformUnicode

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Cleaner", "steps_of", "versions_of"]

_STEPS: dict[str, type[Step]] = {
    step.name: step
    for step in (UniformUnicode, LengthBounds, KnownLanguage, GopherRepetition, Gopher, C4, FineWeb, MaskPersonalData)
}
_PASSAGES_VERSION = 1


def versions_of(settings: CleaningSettings) -> dict[str, int]:
    """The version of each step that is asked for."""
    return {name: _STEPS[name].version if name in _STEPS else _PASSAGES_VERSION for name in _asked(settings)}


def steps_of(settings: CleaningSettings) -> list[Step]:
    """The steps that are asked for, in their order. Raises ConfigError where a library is missing."""
    return [_STEPS[name](section) for name, section in _asked(settings).items() if name in _STEPS]


def _asked(settings: CleaningSettings) -> dict[str, Any]:
    asked = ((name, getattr(settings, name)) for name in type(settings).model_fields)
    return {name: section for name, section in asked if section is not None}


class Cleaner:
    """Cleans tables of documents, whatever rows are in one: each document by itself."""

    def __init__(self, settings: CleaningSettings) -> None:
        self._steps = steps_of(settings)
        self._max_characters = settings.passages.max_characters if settings.passages else None

    def clean(self, documents: "pa.Table", shard: str, tally: Tally) -> "pa.Table":
        """The documents that are kept, as the steps leave them, or their passages; in the same order.

        Args:
            documents: as `DocumentReader.read` gives them; one without text stays as it is.
            shard: the shard's name, for the examples.
            tally: counts what was done.
        """
        import pyarrow as pa

        where: list[int] = []
        made: dict[str, list[Any]] = {"text": [], "passage": [], "language": []}
        columns = (documents[name].to_pylist() for name in ("text", "id", "row"))
        for at, (text, name, row) in enumerate(zip(*columns, strict=True)):
            draft = Draft(text or "")
            if text and not self._run(draft, name, shard, row, tally):
                continue
            for number, passage in enumerate(passages_of(draft.text, self._max_characters or len(draft.text))):
                where.append(at)
                made["text"].append(passage)
                made["passage"].append(number)
                made["language"].append(draft.language)
                tally.passages += bool(text)
        rest = documents.drop_columns(list(made)).take(pa.array(where, pa.int64()))  # a text may be long: not copied
        schema = documents.schema
        arrays = [pa.array(made[n], schema.field(n).type) if n in made else rest[n] for n in schema.names]
        return pa.Table.from_arrays(arrays, schema=schema)

    def _run(self, draft: Draft, name: str, shard: str, row: int, tally: Tally) -> bool:
        """Take a document through the steps; whether it is kept."""
        tally.documents += 1
        tally.characters += len(draft.text)
        for step in self._steps:
            counts = tally.steps.setdefault(step.name, StepTally())
            counts.documents += 1
            counts.characters += len(draft.text)
            before, started = draft.text, time.perf_counter()
            reason = step(draft, counts.found)
            counts.seconds += time.perf_counter() - started
            if reason is not None:
                counts.drop(reason, Example.of(name, shard, row, excerpt(before)))
                return False
            counts.characters_kept += len(draft.text)
        tally.languages[draft.language or "unknown"] += 1
        return True
