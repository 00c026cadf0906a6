"""A labelled set with its splits, named by its content: what tuning, evaluation and decontamination share."""

import hashlib
import io
import struct
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from llmcore.errors import CheckpointError, CorpusError
from llmcore.storage import Folder, Manifest, artifact, content_hash, publish, read_manifest, verify_files, write_file

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["COLUMNS", "SPLITS", "EvaluationSet", "Split", "write_evaluation_set"]

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")

COLUMNS = {
    "id": "names the row; unique in the set",
    "text": "what is classified",
    "label": "index into label_names",
    "group": "rows that belong together (a module, an author): bootstrap intervals resample groups",
}
_ARTIFACT = "evaluation-sets"
_FORMAT = 1


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
    def label_names(self) -> list[str]:
        """The classes; a row's `label` is an index into them."""
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
        """The rows of one split, with the columns `COLUMNS`, in their published order.

        Raises:
            CorpusError: The set has no such split.
            CheckpointError: The split's file is not the one published; the message names it.
        """
        import pyarrow.parquet as pq

        self._about(split)
        file = _file_name(split)
        data = self.folder.read_bytes(file)
        if hashlib.sha256(data).hexdigest() != self.manifest.files[file].sha256:
            raise CheckpointError(f"{self.folder.url}/{file} is not the file that was published: run `prepare` again")
        return pq.read_table(io.BytesIO(data))

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


def write_evaluation_set(
    storage: Folder,
    name: str,
    label_names: Sequence[str],
    tables: Mapping[Split, Iterable["pa.Table"]],
    *,
    allow_duplicates: bool = False,
) -> EvaluationSet:
    """Publish a labelled set as `artifacts/evaluation-sets/<content hash>/`; the same content is the same folder.

    Args:
        storage: Where artifacts are kept.
        name: What people call the set; not part of the hash.
        label_names: The classes.
        tables: For each split, its rows as one or more tables with the columns `COLUMNS` (others are ignored), in an
            order that does not change from run to run. One table at a time is in memory, and a digest of each row.
        allow_duplicates: Allow one text in two splits.

    Raises:
        CorpusError: A split is empty, a value is missing, an id comes twice, a label is not one of `label_names`,
            or a text stands in two splits; the message names split and row.
    """
    if len(set(label_names)) < 2 or len(set(label_names)) != len(label_names):
        raise CorpusError(f"evaluation set {name!r} needs two or more distinct label names, got {list(label_names)}")
    if unknown := sorted(set(tables) - set(SPLITS)):
        raise CorpusError(f"evaluation set {name!r} has unknown splits {unknown}; they are {list(SPLITS)}")
    checker = _Checker(name, list(label_names), allow_duplicates)
    with tempfile.TemporaryDirectory() as scratch:
        splits = {
            split: _write_split(Path(scratch) / _file_name(split), split, tables[split], checker)
            for split in SPLITS
            if split in tables
        }
        set_hash = content_hash(_FORMAT, list(label_names), {split: about["sha256"] for split, about in splits.items()})
        folder = artifact(storage, _ARTIFACT, set_hash)
        if read_manifest(folder) is None:
            about = {
                "name": name,
                "kind": "text_classification",
                "label_names": list(label_names),
                "columns": COLUMNS,
                "splits": splits,
                "hash": set_hash,
            }
            with publish(folder, "evaluation-set", about) as publication:
                for split in splits:
                    file = _file_name(split)
                    publication.add(write_file(folder, file, Path(scratch) / file))
    return EvaluationSet.open(folder)


@dataclass
class _Checker:
    """What must hold over all rows of a set."""

    name: str
    label_names: list[str]
    allow_duplicates: bool
    ids: set[bytes] = field(default_factory=set)
    texts: dict[bytes, str] = field(default_factory=dict)

    def check(self, split: str, row: int, values: tuple[str | None, str | None, int | None, str | None]) -> None:
        row_id, text, label, _ = values
        where = f"evaluation set {self.name!r}, {split} row {row} (id {row_id!r})"
        for column, value in zip(COLUMNS, values, strict=True):
            if value is None:
                raise CorpusError(f"{where}: {column!r} is missing; every row needs {list(COLUMNS)}")
        assert row_id is not None and text is not None and label is not None
        if not 0 <= label < len(self.label_names):
            raise CorpusError(
                f"{where}: label {label} is outside 0 … {len(self.label_names) - 1}, the indices of {self.label_names}"
            )
        digest = _digest(row_id)
        if digest in self.ids:
            raise CorpusError(f"{where}: the id stands twice in the set; ids must be unique")
        self.ids.add(digest)
        first = self.texts.setdefault(_digest(text), split)
        if first != split and not self.allow_duplicates:
            raise CorpusError(
                f"{where}: the same text stands in the {first} split: a model would be judged on what it has seen; "
                "keep one copy, or pass allow_duplicates=True"
            )


def _write_split(path: Path, split: str, tables: Iterable["pa.Table"], checker: _Checker) -> dict[str, object]:
    """Write one split's Parquet file, table by table, and return what the manifest says of it."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = {"id": pa.string(), "text": pa.string(), "label": pa.int32(), "group": pa.string()}
    schema = pa.schema(list(types.items()))
    digest = hashlib.sha256(content_hash(_FORMAT, checker.label_names).encode())
    num_rows = 0
    with pq.ParquetWriter(path, schema) as writer:
        for given in tables:
            if missing := [column for column in COLUMNS if column not in given.column_names]:
                raise CorpusError(f"evaluation set {checker.name!r}, {split}: columns {missing} are missing")
            table = given.select(list(COLUMNS)).cast(schema)
            for values in zip(*(table[column].to_pylist() for column in COLUMNS), strict=True):
                checker.check(split, num_rows, values)
                digest.update(_canonical(values))
                num_rows += 1
            writer.write_table(table)
    if num_rows == 0:
        raise CorpusError(f"evaluation set {checker.name!r}: the {split} split is empty; give it rows, or leave it out")
    return {"num_rows": num_rows, "sha256": digest.hexdigest()}


def _canonical(values: tuple[str, str, int, str]) -> bytes:
    """A row as bytes that no other row has: each string after its length."""
    row_id, text, label, group = values
    strings = [value.encode() for value in (row_id, text, group)]
    return struct.pack("<i3q", label, *map(len, strings)) + b"".join(strings)


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def _file_name(split: str) -> str:
    return f"{split}.parquet"
