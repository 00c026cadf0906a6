"""Publishing a folder by one writer: files under their own names, then the manifest, last."""

import hashlib
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llmcore.storage import local
from llmcore.storage.content import FileEntry, chunks
from llmcore.storage.folder import Folder, storage_errors
from llmcore.storage.manifest import MANIFEST, write_file, write_manifest

__all__ = ["Publication", "publish"]


@dataclass
class Publication:
    """What is being published: the files so far, and what is said about them (`about` may be changed until the end)."""

    folder: Folder
    about: dict[str, Any]
    entries: list[FileEntry] = field(default_factory=list)

    def write_bytes(self, name: str, data: bytes) -> FileEntry:
        """Write one file. Raises StorageError."""
        return self.add(write_file(self.folder, name, data))

    def add(self, entry: FileEntry) -> FileEntry:
        """Take up a file that was written with `write_file`, here or by another process."""
        self.entries.append(entry)
        return entry

    @contextmanager
    def staging(self) -> Iterator[Path]:
        """A local directory for writers that need paths; when the block ends well every file in it is published.

        On a disk it lies inside the folder, so that nothing is copied; for a remote folder under the system's
        temporary directory (`TMPDIR`). Raises StorageError.
        """
        path = self.folder.local_path()
        with storage_errors(self.folder.url, "written"):
            if path is None:
                staged = Path(tempfile.mkdtemp(prefix="llmcore-"))
            else:
                staged = local.temporary_beside(path / "staging")
                staged.mkdir()
        try:
            yield staged
            for file in sorted(file for file in staged.rglob("*") if file.is_file()):
                self.add(self._take(file.relative_to(staged).as_posix(), file))
        finally:
            shutil.rmtree(staged, ignore_errors=True)

    def _take(self, name: str, file: Path) -> FileEntry:
        path = self.folder.local_path()
        if path is None:
            return write_file(self.folder, name, file)
        with storage_errors(f"{self.folder.url}/{name}", "written"):
            digest = hashlib.sha256()
            with file.open("rb") as source:
                for chunk in chunks(source):
                    digest.update(chunk)
            entry = FileEntry(name, file.stat().st_size, digest.hexdigest())
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            file.replace(path / name)
        return entry


@contextmanager
def publish(folder: Folder, kind: str, about: Mapping[str, Any]) -> Iterator[Publication]:
    """Publish `folder` when the block ends well; on an error nothing is published.

    A folder that was published before is absent from the first moment on, until it is published again: ask
    `read_manifest` first where others may be reading it. Raises StorageError.
    """
    folder.delete(MANIFEST)
    publication = Publication(folder, dict(about))
    yield publication
    write_manifest(folder, kind, publication.entries, publication.about)
