"""Where things are kept: the storage itself, and artifacts named by their content."""

from pathlib import Path
from uuid import uuid4

from llmcore.errors import StorageError
from llmcore.storage.folder import Folder
from llmcore.storage.retries import within

__all__ = ["artifact", "check_writable", "folder_at", "is_location", "resolve_storage"]

_PROBED_WITHIN_S = 5.0
"""Seconds until a storage that does not answer is refused: somebody waits, and nothing is lost yet."""


def is_location(reference: str) -> bool:
    """Whether a reference is a URL or an absolute path, rather than a name in a storage."""
    return "://" in reference or reference.startswith("/")


def folder_at(reference: str) -> Folder:
    """The folder of a URL, or of a path, which may begin with `~` or be taken from the working directory."""
    return Folder(reference if "://" in reference else str(Path(reference).expanduser().absolute()))


def resolve_storage(url: str, *, inside_ray_job: bool) -> Folder:
    """The storage as an absolute folder; nothing is written. Raises StorageError for a URL that cannot be one.

    A relative path is taken from the working directory, but refused inside a Ray job, whose directory is a copy that
    vanishes with the job.
    """
    if "::" in url:
        raise StorageError(
            f"storage={url!r} chains file systems, and a cache in between may be stale: give the last one alone"
        )
    if "://" in url and not url.startswith(("file://", "local://")):
        folder = Folder(url)
        if not folder.path.strip("/"):
            raise StorageError(f"storage={url!r} names no bucket or folder: give `protocol://bucket/folder`")
        return folder
    path = Path(url.removeprefix("file://").removeprefix("local://")).expanduser()
    if not path.is_absolute():
        if inside_ray_job:
            raise StorageError(
                f"storage={url!r} is relative: inside a Ray job the working directory is a copy that is thrown away, "
                "so give an absolute path on a disk that all nodes share, or a URL such as `s3://bucket/runs`"
            )
        if "://" in url:
            raise StorageError(
                f"storage={url!r} is a relative file URL: write `file:///absolute/path`, or a plain path"
            )
    return Folder(str(path.absolute()))


def check_writable(folder: Folder) -> None:
    """Write a small file and delete it. Raises StorageError with the reason when that fails."""
    probe = f".probe-{uuid4().hex}"
    try:
        with within(_PROBED_WITHIN_S):
            folder.write_bytes(probe, b"")
            folder.delete(probe)
    except StorageError as error:
        cause = error.__cause__
        reason = getattr(cause, "strerror", None) or cause
        raise StorageError(
            f"storage {folder.url} cannot be written to: {reason}; give one that this user may write to"
        ) from error


def artifact(storage: Folder, kind: str, content_hash: str) -> Folder:
    """The folder of an artifact, shared by all runs: `artifacts/<kind>/<content hash>`."""
    return storage / "artifacts" / kind / content_hash
