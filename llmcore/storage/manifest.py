"""`manifest.json`: written last, it makes a folder exist."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmcore.errors import CheckpointError, StorageError
from llmcore.redaction import redacted
from llmcore.storage.content import FileEntry, canonical_json, chunks, readable_json
from llmcore.storage.folder import Folder, checked_name

__all__ = ["MANIFEST", "Manifest", "read_manifest", "verify_files", "write_file", "write_manifest"]

MANIFEST = "manifest.json"
_FORMAT = 1


@dataclass(frozen=True)
class Manifest:
    """What a published folder holds: its files by name, what is said about them, and the hash of it all."""

    kind: str
    files: dict[str, FileEntry]
    about: dict[str, Any]
    sha256: str


def write_file(folder: Folder, name: str, data: bytes | Path | Iterable[bytes | memoryview]) -> FileEntry:
    """Write one file; its entry goes into the manifest.

    It is given as bytes, or in constant memory: as a local file to be copied, or piece by piece. Raises StorageError.
    """
    if isinstance(data, bytes):
        folder.write_bytes(name, data)
        return FileEntry(name, len(data), hashlib.sha256(data).hexdigest())
    if isinstance(data, Path):
        with data.open("rb") as source:
            return write_file(folder, name, chunks(source))
    digest, size = hashlib.sha256(), 0
    with folder.open(name, "wb") as target:
        for piece in data:
            digest.update(piece)
            target.write(piece)
            size += len(piece)
    return FileEntry(name, size, digest.hexdigest())


def write_manifest(folder: Folder, kind: str, entries: Iterable[FileEntry], about: Mapping[str, Any]) -> Manifest:
    """Write the manifest, last: from now on readers take the folder as complete. What is said has no credentials.

    Raises StorageError, also for two entries of one name or an entry named like the manifest.
    """
    files: dict[str, FileEntry] = {}
    for entry in sorted(entries, key=lambda entry: entry.name):
        if entry.name in files or entry.name == MANIFEST:
            raise StorageError(f"{folder.url}: two files are named {entry.name!r}; each needs a name of its own")
        files[checked_name(entry.name)] = entry
    # Through JSON and back: the hash is of what a reader will see (tuples are lists there, keys are strings).
    manifest = _from_body(json.loads(readable_json(_body(kind, files, redacted(about)))))
    folder.write_bytes(MANIFEST, _text(manifest))
    return manifest


def read_manifest(folder: Folder) -> Manifest | None:
    """The folder's manifest; None when it is absent, torn or altered in any byte.

    Raises StorageError when that cannot be found out.
    """
    data = folder.find_bytes(MANIFEST)
    if data is None:
        return None
    try:
        body = json.loads(data)
        manifest = _from_body(body)
        for name in manifest.files:
            checked_name(name)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, StorageError):
        return None
    return manifest if _text(manifest) == data else None


def verify_files(folder: Folder, manifest: Manifest) -> None:
    """Read every byte. Raises CheckpointError that names the file whose size or hash is not the manifest's."""
    for entry in manifest.files.values():
        digest, size = hashlib.sha256(), 0
        try:
            with folder.open(entry.name) as file:
                for chunk in chunks(file):
                    digest.update(chunk)
                    size += len(chunk)
        except StorageError as error:
            raise CheckpointError(f"{folder.url}/{entry.name} cannot be verified: {error}") from error
        if (size, digest.hexdigest()) != (entry.size, entry.sha256):
            raise CheckpointError(
                f"{folder.url}/{entry.name} is not what its manifest says: {size} bytes with SHA-256 "
                f"{digest.hexdigest()[:12]}…, expected {entry.size} bytes with {entry.sha256[:12]}…"
            )


def verify_published(folder: Folder, sha256: str) -> Manifest:
    """The manifest of a model that was recorded by this hash, after reading every byte. Raises CheckpointError."""
    manifest = read_manifest(folder)
    if manifest is None or manifest.sha256 != sha256:
        raise CheckpointError(f"{folder.url} does not hold model {sha256} any more")
    verify_files(folder, manifest)
    return manifest


def read_verified(folder: Folder, manifest: Manifest, name: str, fix: str) -> bytes:
    """One file, read once and whole. Raises CheckpointError, which ends in `fix`, where it is not the one published."""
    data = folder.read_bytes(name)
    if hashlib.sha256(data).hexdigest() != manifest.files[name].sha256:
        raise CheckpointError(f"{folder.url}/{name} is not the file that was published: {fix}")
    return data


def _body(kind: str, files: Mapping[str, FileEntry], about: Mapping[str, Any]) -> dict[str, Any]:
    listed = {name: {"size": entry.size, "sha256": entry.sha256} for name, entry in files.items()}
    return {"format": _FORMAT, "kind": kind, "files": listed, "about": dict(about)}


def _from_body(body: dict[str, Any]) -> Manifest:
    files = {name: FileEntry(name, **entry) for name, entry in body["files"].items()}
    kind, about = body["kind"], body["about"]
    return Manifest(kind, files, about, hashlib.sha256(canonical_json(_body(kind, files, about))).hexdigest())


def _text(manifest: Manifest) -> bytes:
    return readable_json(_body(manifest.kind, manifest.files, manifest.about) | {"sha256": manifest.sha256})
