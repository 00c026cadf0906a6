"""Published remote folders as local ones: copied once, by the content of their manifest."""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from llmcore.errors import StorageError
from llmcore.storage.content import chunks
from llmcore.storage.folder import Folder, storage_errors
from llmcore.storage.local import temporary_beside
from llmcore.storage.manifest import MANIFEST, Manifest, read_manifest, verify_files

__all__ = ["cache_root", "cached_copy"]


def cache_root() -> Path:
    """`$LLMCORE_CACHE`, or `~/.cache/llmcore`. Whatever is in it may be deleted while no run uses it."""
    return Path(os.environ.get("LLMCORE_CACHE") or Path.home() / ".cache" / "llmcore").absolute()


def cached_copy(folder: Folder, below: str = "") -> Path:
    """A local copy of a published folder, or of its files below a folder in it, verified when it was made.

    Several processes share one.

    Raises StorageError when the folder is not published, CheckpointError when its files are not its manifest's.
    """
    manifest = read_manifest(folder)
    if manifest is None:
        raise StorageError(f"{folder.url} is not published (no good {MANIFEST}): only a published folder can be copied")
    files = {name: entry for name, entry in manifest.files.items() if name.startswith(below)}
    manifest = replace(manifest, files=files)
    copy = cache_root() / "-".join([manifest.sha256, *below.strip("/").split("/")]).rstrip("-")
    with storage_errors(str(copy), "made"), _locked(copy.with_suffix(".lock")):
        if not _is_whole(copy, manifest):
            shutil.rmtree(copy, ignore_errors=True)
            _copy(folder, manifest, copy)
    return copy


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One process of this machine at a time; the others wait instead of copying the same bytes again."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _is_whole(copy: Path, manifest: Manifest) -> bool:
    sizes = {name: (copy / name).stat().st_size for name in manifest.files if (copy / name).is_file()}
    return (copy / MANIFEST).is_file() and sizes == {name: entry.size for name, entry in manifest.files.items()}


def _copy(folder: Folder, manifest: Manifest, copy: Path) -> None:
    beside = temporary_beside(copy)
    try:
        for name in [*manifest.files, MANIFEST]:
            target = beside / name
            target.parent.mkdir(parents=True, exist_ok=True)
            with folder.open(name) as source, target.open("xb") as file:
                for chunk in chunks(source):
                    file.write(chunk)
        verify_files(Folder(str(beside)), manifest)
        beside.rename(copy)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise
