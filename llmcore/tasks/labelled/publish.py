"""Labelled data from files as a published set: found again where it was made before."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from llmcore.config.labelled import LabelledDataSettings
from llmcore.corpus.shards import shards_hash
from llmcore.errors import BadShardError, CorpusError
from llmcore.storage import Folder, artifact, content_hash, publish, read_manifest
from llmcore.tasks.columns import SetKind
from llmcore.tasks.evaluation_set import EvaluationSet, Split, find_published, write_evaluation_set
from llmcore.tasks.labelled.files import Part, find_parts
from llmcore.tasks.labelled.reading import Reading
from llmcore.tasks.set_report import report_lines

__all__ = ["LabelledData", "publish_labelled_data"]

_KIND = "labelled-data"
_VERSION = 1


@dataclass(frozen=True)
class LabelledData:
    """A labelled set, and what became of the files that it was made of.

    Attributes:
        evaluation_set: The set.
        reading: By split, how many answers were repaired, and rows or answers left out, by reason.
    """

    evaluation_set: EvaluationSet
    reading: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    def report(self) -> dict[str, Any]:
        """What is in the set and what became of its files, as JSON."""
        labelled = self.evaluation_set
        about = {"name": labelled.name, "kind": labelled.kind, "hash": labelled.hash}
        return about | {"splits": labelled.report, "reading": {name: dict(of) for name, of in self.reading.items()}}

    def lines(self) -> Iterator[str]:
        """The same for a person."""
        yield f"{self.evaluation_set.name}: a labelled set of {self.evaluation_set.kind}"
        yield from report_lines(self.evaluation_set.report)
        for split, counts in self.reading.items():
            for reason, number in counts.items():
                yield f"{split}: {number:,} {reason.replace('_', ' ')}"


def publish_labelled_data(storage: Folder, settings: LabelledDataSettings, kind: SetKind) -> LabelledData:
    """The set that the files make, as an artifact; nothing is read where they made one before.

    What the same files, by name, size and version, made with the same settings is in `artifacts/labelled-data/`, as the
    hash of a set; another reading that comes to the same rows is the same set.

    Raises:
        CorpusError: Files are missing or not as the settings say; the message names file, row and column.
        ConfigError: The settings name what the kind of task does not have.
        ShardError: A file cannot be read now.
    """
    answers = any(column.shape == "answers" for column in kind.columns)
    parts = find_parts(storage, settings, answers=answers)
    made = artifact(storage, _KIND, _inputs_hash(settings, kind, parts))
    manifest = read_manifest(made)
    labelled = find_published(storage, manifest.about["set"]) if manifest is not None else None
    if manifest is not None and labelled is not None:
        return LabelledData(labelled, manifest.about["reading"])
    try:
        reading = Reading.of(settings, kind, parts)
        labelled = write_evaluation_set(
            storage,
            settings.name,
            reading.label_names,
            {split: reading.tables(split) for split in reading.makers},
            columns=reading.mapped.columns,
            allow_duplicates=settings.allow_duplicates,
            by_words=True,
        )
    except BadShardError as error:  # the user's own file, which no other try makes a better one
        raise CorpusError(str(error)) from error
    counts = reading.counts()
    with publish(made, _KIND, {"set": labelled.hash, "reading": counts}):
        pass
    return LabelledData(labelled, counts)


def _inputs_hash(settings: LabelledDataSettings, kind: SetKind, parts: Mapping[Split, list[Part]]) -> str:
    files = {
        split: [[part.name, shards_hash(part.shards.values())] for part in of_split]
        for split, of_split in parts.items()
    }
    columns = [[column.name, column.shape] for column in kind.columns]
    return content_hash(_KIND, _VERSION, kind.name, columns, settings.model_dump(mode="json"), files)
