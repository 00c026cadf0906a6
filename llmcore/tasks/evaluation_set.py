"""A labelled set with its splits, named by its content: what tuning, evaluation and decontamination share."""

import hashlib
import io
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from llmcore.errors import CorpusError
from llmcore.storage import (
    Folder,
    Manifest,
    artifact,
    canonical_json,
    content_hash,
    publish,
    read_manifest,
    read_verified,
    verify_files,
    write_file,
)
from llmcore.tasks.columns import TEXT_AND_LABEL, SetColumns
from llmcore.tasks.row_checks import RowChecker
from llmcore.tasks.set_report import SplitReport

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["SPLITS", "EvaluationSet", "Split", "find_published", "write_evaluation_set"]

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")

_ARTIFACT = "evaluation-sets"
_FORMAT = 2


@dataclass(frozen=True)
class EvaluationSet:
    """A published labelled set. Opening it reads its manifest alone; the rows of a split only `rows(split)` reads."""

    folder: Folder
    manifest: Manifest

    @classmethod
    def open(cls, folder: Folder) -> "EvaluationSet":
        """Open the set published at `folder`.

        Raises:
            CorpusError: There is no complete evaluation set.
        """
        manifest = read_manifest(folder)
        if manifest is None or manifest.kind != "evaluation-set":
            found = "nothing complete" if manifest is None else f"a {manifest.kind!r}"
            raise CorpusError(f"{folder.url} holds {found}, not an evaluation set: run `prepare` with a labelled set")
        return cls(folder, manifest)

    @property
    def name(self) -> str:
        """The name it was first published under."""
        return str(self.manifest.about["name"])

    @property
    def hash(self) -> str:
        """SHA-256 of the label names and of the rows of every split."""
        return str(self.manifest.about["hash"])

    @property
    def kind(self) -> str:
        """The kind of task that it is for: which columns it has."""
        return str(self.manifest.about["kind"])

    @property
    def columns(self) -> list[str]:
        """Names of its columns, metadata among them."""
        return list(self.manifest.about["columns"])

    @property
    def metadata(self) -> list[str]:
        """Columns for slices: texts, or null."""
        return list(self.manifest.about.get("metadata", []))

    @property
    def report(self) -> dict[str, Any]:
        """By split, what is in it (`set_report`); empty for a set that was published before there were reports."""
        return {split: about["report"] for split, about in self.manifest.about["splits"].items() if "report" in about}

    @property
    def label_names(self) -> list[str]:
        """The classes, into which a row's `label` or `labels` are indices; none where the kind has none."""
        return list(self.manifest.about["label_names"])

    @property
    def splits(self) -> list[Split]:
        """The splits it has, in the order train, validation, test."""
        return [split for split in SPLITS if split in self.manifest.about["splits"]]

    def num_rows(self, split: Split) -> int:
        """Rows of a split, from the manifest."""
        return int(self._about(split)["num_rows"])

    def split_hash(self, split: Split) -> str:
        """SHA-256 of a split's label names and rows: the key of its openings in the register."""
        return str(self._about(split)["sha256"])

    def rows(self, split: Split) -> "pa.Table":
        """The rows of one split, in their published order.

        Raises:
            CorpusError: The set has no such split.
            CheckpointError: The split's file is not the one published; the message names it.
        """
        import pyarrow.parquet as pq

        self._about(split)
        data = read_verified(self.folder, self.manifest, _file_name(split), "run `prepare` again")
        return pq.read_table(io.BytesIO(data))

    def texts(self, split: Split) -> "pa.Array":
        """All that is said in each row, whatever its columns: what a model must not have been pre-trained on."""
        import pyarrow as pa

        table = self.rows(split).drop_columns(["id", "group", *self.metadata])
        return pa.array(["\n".join(_said(list(row.values()))) for row in table.to_pylist()], pa.string())

    def verify(self) -> None:
        """Read every byte of every file.

        Raises:
            CheckpointError: A file is not the one published; the message names it.
        """
        verify_files(self.folder, self.manifest)

    def _about(self, split: str) -> dict[str, Any]:
        splits: dict[str, dict[str, Any]] = self.manifest.about["splits"]
        if split not in splits:
            raise CorpusError(f"evaluation set {self.name!r} has no split {split!r}, only {sorted(splits)}")
        return splits[split]


def _said(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        yield from chain.from_iterable(map(_said, value))
    elif isinstance(value, dict):
        yield from _said([one for key, one in value.items() if key != "role"])


def find_published(storage: Folder, set_hash: str) -> EvaluationSet | None:
    """The set of that hash, if it is there, whole."""
    folder = artifact(storage, _ARTIFACT, set_hash)
    return EvaluationSet.open(folder) if read_manifest(folder) is not None else None


def write_evaluation_set(
    storage: Folder,
    name: str,
    label_names: Sequence[str],
    tables: Mapping[Split, Iterable["pa.Table"]],
    *,
    columns: SetColumns = TEXT_AND_LABEL,
    allow_duplicates: bool = False,
    by_words: bool = False,
) -> EvaluationSet:
    """Publish a labelled set as `artifacts/evaluation-sets/<content hash>/`; the same content is the same folder.

    Args:
        storage: Where artifacts are kept.
        name: What people call the set; not part of the hash.
        label_names: The classes; none where `columns` have no labels.
        tables: For each split, its rows as one or more tables with the `columns` (others are ignored), in an order
            that does not change from run to run. One table at a time is in memory, and a digest of each row.
        columns: What the set has.
        allow_duplicates: Allow the same inputs in two splits.
        by_words: Inputs are the same where their words are, case and punctuation aside. Documents that were compared
            exactly when they were prepared are compared so here.

    Raises:
        CorpusError: A split is empty, a value is missing or not as its column says, an id comes twice, or the same
            inputs stand in two splits; the message names split and row.
    """
    if columns.has_labels and (len(set(label_names)) < 2 or len(set(label_names)) != len(label_names)):
        raise CorpusError(f"evaluation set {name!r} needs two or more distinct label names, got {list(label_names)}")
    if unknown := sorted(set(tables) - set(SPLITS)):
        raise CorpusError(f"evaluation set {name!r} has unknown splits {unknown}; they are {list(SPLITS)}")
    with tempfile.TemporaryDirectory() as scratch:
        written = _Written(Path(scratch))
        checker = RowChecker(name, columns, list(label_names), allow_duplicates, by_words, written.id_of)
        splits = {split: _write_split(written, split, tables[split], checker) for split in SPLITS if split in tables}
        identity = {split: about["sha256"] for split, about in splits.items()}
        set_hash = content_hash(_FORMAT, columns.kind, columns.names, list(label_names), identity)
        folder = artifact(storage, _ARTIFACT, set_hash)
        if read_manifest(folder) is None:
            about = {
                "name": name,
                "kind": columns.kind,
                "label_names": list(label_names),
                "columns": columns.described(),
                "kind_columns": [asdict(column) for column in columns.columns],
                "metadata": list(columns.metadata),
                "splits": splits,
                "hash": set_hash,
            }
            with publish(folder, "evaluation-set", about) as publication:
                for split in splits:
                    publication.add(write_file(folder, _file_name(split), written.file(split)))
    return EvaluationSet.open(folder)


@dataclass(frozen=True)
class _Written:
    """The splits' files, before it is known what the set is called."""

    folder: Path

    def file(self, split: str) -> Path:
        return self.folder / _file_name(split)

    def id_of(self, split: str, row: int) -> str:
        import pyarrow.parquet as pq

        return str(pq.read_table(self.file(split), columns=["id"])["id"][row])


def _write_split(
    written: _Written, split: Split, tables: Iterable["pa.Table"], checker: RowChecker
) -> dict[str, object]:
    """Write one split's Parquet file, table by table, and return what the manifest says of it."""
    import pyarrow.parquet as pq

    columns, schema = checker.columns, checker.columns.schema()
    digest = hashlib.sha256(content_hash(_FORMAT, columns.names, list(checker.label_names)).encode())
    report = SplitReport(columns, checker.label_names)
    with pq.ParquetWriter(written.file(split), schema) as writer:
        for given in tables:
            if missing := [column for column in columns.names if column not in given.column_names]:
                raise CorpusError(f"evaluation set {checker.name!r}, {split}: columns {missing} are missing")
            table = given.select(list(columns.names)).cast(schema)
            for row in table.to_pylist():
                report.add(row, checker.check(split, report.num_rows, row))
                digest.update(canonical_json(list(row.values())))
            writer.write_table(table)
    if report.num_rows == 0:
        raise CorpusError(
            f"evaluation set {checker.name!r}: the {split} split is empty; give it rows, carve more, or leave it out"
        )
    return {"num_rows": report.num_rows, "sha256": digest.hexdigest(), "report": report.to_json()}


def _file_name(split: str) -> str:
    return f"{split}.parquet"
