"""Reading a corpus: Parquet and JSON Lines shards at any fsspec URL, as tables of documents."""

import json
import posixpath
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fsspec
from fsspec.core import has_magic, url_to_fs

from llmcore.errors import CorpusError, ShardError
from llmcore.storage import content_hash

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["DocumentReader", "Shard", "as_text", "columns_of", "find_shards", "shards_hash"]

PARQUET = (".parquet",)
JSON_LINES = (".jsonl", ".jsonl.gz", ".ndjson", ".ndjson.gz", ".json.gz")
JSON = (".json",)  # JSON Lines where the URL says so; in a folder it may be anything
_BATCH_ROWS = 4096
_BATCH_CHARACTERS = 16_000_000


@dataclass(frozen=True)
class Shard:
    """A file of documents.

    Attributes:
        url: where it is.
        name: its path below the folder that all shards of the source are in.
        size: bytes.
        version: what tells these bytes from others without reading them: an ETag, or the time of the last change.
    """

    url: str
    name: str
    size: int
    version: str


def find_shards(source: str, url: str) -> list[Shard]:
    """The shards of a source at a folder, file or glob, sorted by path; files of other kinds in a folder are no shards.

    Raises CorpusError, naming the URL: nothing is there, or nothing that can be read.
    """
    given = url if "://" in url else str(Path(url).expanduser().absolute())
    try:
        fs, path = url_to_fs(given, use_listings_cache=False)
        suffixes: tuple[str, ...]
        if has_magic(path):
            names, suffixes = fs.glob(path), PARQUET + JSON_LINES + JSON
        elif fs.isdir(path):
            names, suffixes = fs.find(path), PARQUET + JSON_LINES
        else:
            names, suffixes = [path] if fs.exists(path) else [], PARQUET + JSON_LINES + JSON
        infos = [fs.info(name) for name in sorted(names) if str(name).endswith(suffixes)]
    except Exception as error:  # each backend has exceptions of its own
        reason = str(error) or type(error).__name__
        message = f"source {source}: url={url!r} cannot be looked at ({reason}); check the URL and the access to it"
        raise CorpusError(message) from error
    if not names:
        raise CorpusError(f"source {source}: url={url!r} matches no file; give a folder, a file or a glob of files")
    if not infos:
        known = ", ".join(PARQUET + JSON_LINES)
        raise CorpusError(f"source {source}: url={url!r} has no shards: none of its {len(names)} files ends in {known}")
    above = posixpath.commonpath([posixpath.dirname(info["name"]) for info in infos])
    return [
        Shard(
            url=fs.unstrip_protocol(info["name"]),
            name=posixpath.relpath(info["name"], above or "."),
            size=int(info["size"]),
            version=_version(info),
        )
        for info in infos
    ]


def shards_hash(shards: Iterable[Shard]) -> str:
    """What tells these inputs from others, without reading them: names, sizes and versions."""
    return content_hash([[shard.url, shard.size, shard.version] for shard in shards])


def _version(info: dict[str, Any]) -> str:
    """By whatever name the file system has it."""
    fields = ("ETag", "etag", "md5Hash", "sha256", "mtime", "LastModified", "last_modified", "created")
    return next((str(info[field]) for field in fields if info.get(field)), "")


@dataclass(frozen=True)
class DocumentReader:
    """Reads the shards of one source into tables of documents.

    Attributes:
        source: the source's name; ids begin with it.
        number: the source's number, which documents carry.
        text: the column of the text.
        key: the column of the split key, or None.
        stratum: the column within whose values splits are balanced, or None.
        fields: further columns that are wanted, as text (labels, and what they are chosen by).
        absent: those of `fields` that this source does not have; they are null.
    """

    source: str
    number: int
    text: str
    key: str | None = None
    stratum: str | None = None
    fields: tuple[str, ...] = ()
    absent: frozenset[str] = frozenset()

    def schema(self) -> "pa.Schema":
        """Columns of the tables: `id`, `text`, `key`, `stratum`, `source`, `shard`, `row`, and `field.<name>`."""
        import pyarrow as pa

        strings = ["id", "text", "key", "stratum", *(f"field.{name}" for name in self.fields)]
        numbers = [("source", pa.int16()), ("shard", pa.int32()), ("row", pa.int64())]
        return pa.schema([*((name, pa.string()) for name in strings), *numbers])

    def read(self, shard: Shard, shard_number: int) -> Iterator["pa.Table"]:
        """A shard's documents in its order, some thousand in a table. A column `id` names them, else shard and row do.

        Raises ShardError that names the shard, and the row where it is known.
        """
        import pyarrow as pa

        row = 0
        read = _read_parquet if shard.url.endswith(PARQUET) else _read_json_lines
        for columns in read(shard.url, self._wanted()):
            num_rows = columns.num_rows
            rows = range(row, row + num_rows)
            names = columns["id"].to_pylist() if "id" in columns.column_names else [None] * num_rows
            made = {
                "id": [f"{self.source}/{name or f'{shard.name}:{at}'}" for name, at in zip(names, rows, strict=True)],
                "source": [self.number] * num_rows,
                "shard": [shard_number] * num_rows,
                "row": rows,
            }
            taken = {"text": self.text, "key": self.key, "stratum": self.stratum}
            taken |= {f"field.{name}": None if name in self.absent else name for name in self.fields}
            schema = self.schema()
            arrays = [
                pa.array(made[name], schema.field(name).type)
                if name in made
                else columns[taken[name]].combine_chunks()
                if taken[name] is not None
                else pa.nulls(num_rows, pa.string())
                for name in schema.names
            ]
            yield pa.Table.from_arrays(arrays, schema=schema)
            row += num_rows

    def _wanted(self) -> list[str]:
        """Columns that every shard must have."""
        wanted = [self.text, self.key, self.stratum, *(name for name in self.fields if name not in self.absent)]
        return list(dict.fromkeys(name for name in wanted if name is not None))


def columns_of(shard: Shard) -> list[str] | None:
    """The columns of a shard, of its first row where it is JSON Lines; None where it has no row. Raises ShardError."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        if shard.url.endswith(PARQUET):
            with fsspec.open(shard.url, "rb") as file:
                return list(pq.ParquetFile(file).schema_arrow.names)
        with fsspec.open(shard.url, "rt", encoding="utf-8", compression="infer") as file:
            line = file.readline()
        return sorted(_record(shard.url, 0, line)) if line else None
    except (OSError, EOFError, UnicodeDecodeError, zlib.error, pa.ArrowException) as error:
        raise ShardError(f"{shard.url}: cannot be read from row 0 on ({error})") from error


def _read_parquet(url: str, wanted: Sequence[str]) -> Iterator["pa.Table"]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    row = 0
    try:
        with fsspec.open(url, "rb") as file:
            parquet = pq.ParquetFile(file)
            there = parquet.schema_arrow.names
            if missing := [name for name in wanted if name not in there]:
                raise ShardError(f"{url}: has no columns {missing}, only {there}; name those that are there")
            columns = [*wanted, *({"id"} & set(there) - set(wanted))]
            for batch in parquet.iter_batches(batch_size=_BATCH_ROWS, columns=columns):
                table = pa.Table.from_batches([batch])
                yield table.cast(pa.schema([(name, pa.string()) for name in table.column_names]))
                row += batch.num_rows
    except (OSError, pa.ArrowException, pa.ArrowNotImplementedError) as error:
        raise ShardError(f"{url}: cannot be read from row {row} on ({error})") from error


def _read_json_lines(url: str, wanted: Sequence[str]) -> Iterator["pa.Table"]:
    import pyarrow as pa

    row = -1
    rows: list[dict[str, str | None]] = []
    num_characters = 0
    schema = pa.schema([(name, pa.string()) for name in dict.fromkeys([*wanted, "id"])])
    try:
        with fsspec.open(url, "rt", encoding="utf-8", compression="infer") as file:
            for row, line in enumerate(file):
                rows.append(_fields(url, row, line, wanted))
                num_characters += len(line)
                if len(rows) >= _BATCH_ROWS or num_characters >= _BATCH_CHARACTERS:
                    yield pa.Table.from_pylist(rows, schema)
                    rows, num_characters = [], 0
    except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
        raise ShardError(f"{url}: cannot be read after row {row} ({error})") from error
    if rows:
        yield pa.Table.from_pylist(rows, schema)


def _record(url: str, row: int, line: str) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except ValueError as error:
        raise ShardError(f"{url}: row {row} is not JSON ({error}); one object a line is expected") from error
    if not isinstance(record, dict):
        raise ShardError(f"{url}: row {row} is a {type(record).__name__}; one JSON object a line is expected")
    return record


def _fields(url: str, row: int, line: str, wanted: Sequence[str]) -> dict[str, str | None]:
    """The wanted values of a line, as text; `id` where it has one."""
    record = _record(url, row, line)
    if missing := [name for name in wanted if name not in record]:
        raise ShardError(f"{url}: row {row} has no {missing}, but {sorted(record)}")
    fields = {name: as_text(record.get(name)) for name in [*wanted, "id"]}
    if "\\ud" in line.lower() and any("\ud800" <= c <= "\udfff" for value in fields.values() for c in value or ""):
        raise ShardError(f"{url}: row {row} has half a surrogate pair, which is no Unicode text")
    return fields


def as_text(value: Any) -> str | None:
    """A value as it is written in JSON, a text as itself, null as None: what labels and keys are compared as."""
    return value if value is None or isinstance(value, str) else json.dumps(value, sort_keys=True, ensure_ascii=False)
