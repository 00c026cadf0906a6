"""Cleaned shards, kept: what was cleaned once, with these steps, is not cleaned again.

artifacts/cleaned/<hash>/part-00000.arrow … and manifest.json, whose `about` has the tally. A killed start goes on from
the shards that are there, and a source that has new shards cleans these alone.
"""

from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

from llmcore.config.cleaning import CleaningSettings
from llmcore.corpus.cleaning.cleaner import Cleaner, versions_of
from llmcore.corpus.cleaning.tally import Tally
from llmcore.corpus.read import DocumentReader
from llmcore.corpus.shards import Shard
from llmcore.errors import BadShardError, ShardError
from llmcore.storage import Folder, Manifest, Publication, artifact, content_hash, publish, read_manifest

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["KIND", "CleanedShards"]

KIND = "cleaned"
VERSION = 1
PART_BYTES = 32 << 20
"""Of documents in one file, as they are in memory: all that is held of a shard."""


class CleanedShards:
    """The shards of one source, cleaned; made one at a time, by whatever process asks first. Cheap to pickle.

    With `quarantine`, a shard that cannot be read has no documents, not even those before the place where it is broken.
    """

    def __init__(
        self, storage: Folder, reader: DocumentReader, settings: CleaningSettings, *, quarantine: bool = False
    ) -> None:
        self._storage = storage
        self._reader = reader
        self._settings = settings
        self._quarantine = quarantine
        self._cleaner: Cleaner | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(CleanedShards, quarantine=self._quarantine), (self._storage, self._reader, self._settings)

    def read(self, shard: Shard, shard_number: int) -> Iterator["pa.Table"]:
        """A shard's documents, cleaned, in its order; and kept for the next time.

        Raises ShardError that names the shard, and StorageError.
        """
        import pyarrow as pa

        folder = self._folder(shard)
        manifest = _published(folder)
        if manifest is None and self._quarantine:
            manifest = self._make_whole(folder, shard)
        tables = self._make(folder, shard) if manifest is None else _stored(folder, manifest)
        here = {"source": self._reader.number, "shard": shard_number}
        for table in tables:
            schema = table.schema
            columns = [
                pa.array([here[name]] * table.num_rows, schema.field(name).type) if name in here else table[name]
                for name in schema.names
            ]
            yield pa.Table.from_arrays(columns, schema=schema)

    def tally(self, shard: Shard) -> Tally:
        """What was done to a shard that was read. Raises ShardError where it was not."""
        folder = self._folder(shard)
        manifest = _published(folder)
        if manifest is None:
            raise ShardError(f"{shard.url}: what was cleaned of it, {folder.url}, is gone: run `prepare` again")
        return Tally.from_json(manifest.about["tally"])

    def _folder(self, shard: Shard) -> Folder:
        """By what determines the documents: the bytes, how they are read, and the steps."""
        # Its place among sources and shards is no part of it.
        reader = {name: value for name, value in asdict(self._reader).items() if name != "number"}
        steps = [self._settings.model_dump(exclude_none=True), versions_of(self._settings), self._quarantine]
        reader["absent"] = sorted(self._reader.absent)
        reader["chat"] = self._reader.chat and self._reader.chat.model_dump()
        return artifact(self._storage, KIND, content_hash(KIND, VERSION, asdict(shard), reader, steps))

    def _make_whole(self, folder: Folder, shard: Shard) -> Manifest:
        """Clean all of a shard before any of it is used; one that is bad is published as such."""
        try:
            for _ in self._make(folder, shard):
                pass
        except BadShardError as error:
            tally = Tally(quarantined={shard.name: str(error)})
            with publish(folder, KIND, {"shard": asdict(shard), "tally": tally.to_json()}):
                pass
        manifest = _published(folder)
        assert manifest is not None
        return manifest

    def _make(self, folder: Folder, shard: Shard) -> Iterator["pa.Table"]:
        if self._cleaner is None:
            self._cleaner = Cleaner(self._settings)
        tally = Tally()
        with publish(folder, KIND, {"shard": asdict(shard)}) as publication:
            held: list[pa.Table] = []
            for table in self._reader.read(shard, 0):
                cleaned = self._cleaner.clean(table, shard.name, tally)
                held.append(cleaned)
                if sum(part.nbytes for part in held) >= PART_BYTES:
                    _write(publication, held)
                    held = []
                yield cleaned
            if held:
                _write(publication, held)
            publication.about["tally"] = tally.to_json()


def _published(folder: Folder) -> Manifest | None:
    manifest = read_manifest(folder)
    return manifest if manifest is not None and manifest.kind == KIND else None


def _write(publication: Publication, tables: list["pa.Table"]) -> None:
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, tables[0].schema, options=pa.ipc.IpcWriteOptions(compression="lz4")) as writer:
        for table in tables:
            writer.write_table(table)
    publication.write_bytes(f"part-{len(publication.entries):05d}.arrow", sink.getvalue().to_pybytes())


def _stored(folder: Folder, manifest: Manifest) -> Iterator["pa.Table"]:
    import pyarrow as pa

    for name in sorted(manifest.files):
        try:
            with folder.open(name) as file:
                yield pa.ipc.open_file(pa.BufferReader(file.read())).read_all()
        except pa.ArrowException as error:
            raise ShardError(f"{folder.url}/{name} is altered ({error}): delete the folder, run again") from error
