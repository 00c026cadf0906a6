"""`Folder`: the only way to files, the same on a disk and in an object store."""

import errno
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Literal

from fsspec.implementations.local import LocalFileSystem

from llmcore.errors import LLMCoreError, StorageError
from llmcore.redaction import redact_error, redacted
from llmcore.storage import local
from llmcore.storage.content import readable_json
from llmcore.storage.retries import answer_behind, file_system, within

__all__ = ["Folder", "checked_name", "storage_errors"]

# Some S3 servers send the checksum of a whole object with a part of it, which no client can hold against the part. What
# matters is verified by the manifests' SHA-256, or row by row.
os.environ.setdefault("AWS_RESPONSE_CHECKSUM_VALIDATION", "when_required")

_STORAGE_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EFBIG, errno.ETIMEDOUT}
_TIDY_WITHIN_S = 5.0
_PRECONDITION_FAILED = 412


@contextmanager
def storage_errors(url: str, doing: str) -> Iterator[None]:
    """Whatever a file system raises becomes a StorageError with the URL and the reason.

    Each fsspec backend has exceptions of its own (botocore's are no OSErrors), so this catches all of them, around
    single calls of the backend only. The backend's own errors stay as the cause, without credentials.
    """
    try:
        yield
    except LLMCoreError:
        raise
    except FileNotFoundError as error:
        redact_error(error)
        raise StorageError(f"{url} does not exist, or not any more") from error
    except Exception as error:
        redact_error(error)
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise StorageError(f"{url} cannot be {doing}: {reason}") from error


def checked_name(name: str) -> str:
    """A relative path that stays inside its folder. Raises StorageError for any other."""
    parts = name.split("/")
    if not name or "\\" in name or any(part in ("", ".", "..") for part in parts):
        raise StorageError(f"{name!r} is no name inside a folder: give a relative path without '..', '.' or '\\'")
    return name


@dataclass(frozen=True)
class Folder:
    """A handle on an fsspec URL: plain data, so it may be pickled to any process that can reach the URL."""

    url: str

    def __post_init__(self) -> None:
        if self.url != "/" and self.url.endswith("/") and not self.url.endswith("://"):
            object.__setattr__(self, "url", self.url.rstrip("/"))

    def __truediv__(self, name: str) -> "Folder":
        return Folder(f"{self.url.rstrip('/')}/{checked_name(name)}")

    def __str__(self) -> str:
        return self.url

    @property
    def parent(self) -> "Folder":
        """The folder that this one is in: of a run, its storage."""
        return Folder(self.url.rpartition("/")[0])

    @property
    def name(self) -> str:
        """The last part of the URL."""
        return PurePosixPath(self.path).name

    @property
    def fs(self) -> Any:
        """The fsspec filesystem, a remote one with retries (`llmcore.storage.retries`). Raises StorageError."""
        return self._resolved()[0]

    @property
    def path(self) -> str:
        """The folder's path as its filesystem knows it."""
        return self._resolved()[1].rstrip("/") or "/"

    def _resolved(self) -> tuple[Any, str]:
        return file_system(self.url)

    def _at(self, name: str) -> str:
        return f"{self.path.rstrip('/')}/{checked_name(name)}" if name else self.path

    def _url(self, name: str) -> str:
        return f"{self.url}/{name}" if name else self.url

    def local_path(self) -> Path | None:
        """The folder as a path where the URL is local, else None."""
        fs, path = self._resolved()
        return Path(path) if isinstance(fs, LocalFileSystem) else None

    def as_local(self, below: str = "") -> Path:
        """The folder as a local path; a remote one must be published, and is copied once into a local cache.

        With `below`, the name of a folder in it and `/`, only the files there are copied. The cache is
        `$LLMCORE_CACHE`, or `~/.cache/llmcore`; see `llmcore.storage.cache`. Raises StorageError.
        """
        from llmcore.storage.cache import cached_copy

        return self.local_path() or cached_copy(self, below)

    def exists(self, name: str = "") -> bool:
        """Whether there is a file or a folder of that name. Raises StorageError if that cannot be found out."""
        try:
            with storage_errors(self._url(name), "looked up"):
                return bool(self.fs.exists(self._at(name)))
        except StorageError as error:
            if isinstance(error.__cause__, FileNotFoundError | NotADirectoryError):
                return False
            raise

    def names(self) -> list[str]:
        """Names of the direct children, sorted; none when the folder is absent."""
        prefix = f"{self.path.rstrip('/')}/"
        return sorted({child for child in self._children(prefix) if child and "/" not in child})

    def _children(self, prefix: str) -> Iterator[str]:
        try:
            with storage_errors(self.url, "listed"):
                paths = self.fs.ls(self.path, detail=False)
        except StorageError as error:
            if isinstance(error.__cause__, FileNotFoundError | NotADirectoryError):
                return
            raise
        yield from _relative(paths, prefix)

    def walk(self) -> list[str]:
        """Relative paths of all files below, sorted; none when the folder is absent."""
        with storage_errors(self.url, "listed"):
            paths = self.fs.find(self.path)
        return sorted(_relative(paths, f"{self.path.rstrip('/')}/"))

    def find_bytes(self, name: str) -> bytes | None:
        """A file's bytes, or None when it is absent. Raises StorageError if that cannot be found out."""
        try:
            with storage_errors(self._url(name), "read"):
                return bytes(self.fs.cat_file(self._at(name)))
        except StorageError as error:
            if isinstance(error.__cause__, FileNotFoundError | NotADirectoryError):
                return None
            raise

    def find_json(self, name: str) -> Any | None:
        """A JSON record, or None when it is absent or torn."""
        data = self.find_bytes(name)
        try:
            return None if data is None else json.loads(data)
        except ValueError:
            return None

    def read_bytes(self, name: str) -> bytes:
        """A file's bytes. Raises StorageError."""
        with storage_errors(self._url(name), "read"):
            return bytes(self.fs.cat_file(self._at(name)))

    def read_text(self, name: str) -> str:
        """A file's UTF-8 text. Raises StorageError."""
        with storage_errors(self._url(name), "read as UTF-8"):
            return self.read_bytes(name).decode()

    def read_json(self, name: str) -> Any:
        """A file's JSON. Raises StorageError, also for a torn file."""
        with storage_errors(self._url(name), "read as JSON"):
            return json.loads(self.read_bytes(name))

    def write_bytes(self, name: str, data: bytes) -> None:
        """Write or replace a file: readers see the old one or the new one, whole. Raises StorageError."""
        path = self.local_path()
        with storage_errors(self._url(name), "written"):
            if path is None:
                self.fs.pipe_file(self._at(name), data)
            else:
                with local.replacing(path / checked_name(name)) as file:
                    file.write(data)

    def write_text(self, name: str, text: str) -> None:
        """Write or replace a file with UTF-8 text. Raises StorageError."""
        self.write_bytes(name, text.encode())

    def write_json(self, name: str, value: Any) -> None:
        """Write or replace a JSON record, laid out for people and `diff`, without credentials. Raises StorageError."""
        self.write_bytes(name, readable_json(redacted(value)))

    def create_bytes(self, name: str, data: bytes) -> bool:
        """Write a file if it is not there; False when it is. Raises StorageError.

        Exclusive on a disk, and in an object store that enforces conditional writes. Where the store ignores the
        condition, two that create at the same moment may both be told True: callers need a second guard there. Where an
        answer was lost and the request repeated, the one that created may be told False: who must know reads it back.
        """
        path = self.local_path()
        if path is not None:
            with storage_errors(self._url(name), "created"):
                return local.create(path / checked_name(name), data)
        if self.exists(name):  # Some servers ignore the condition and would overwrite.
            return False
        with storage_errors(self._url(name), "created"):
            try:
                self.fs.pipe_file(self._at(name), data, mode="create")
            except FileExistsError:
                return False
            except OSError as error:  # s3fs tells the refusal by what Amazon says of it, and Ceph does not.
                if answer_behind(error).status != _PRECONDITION_FAILED:
                    raise
                return False
            except (NotImplementedError, TypeError):  # A backend without conditional writes.
                self.fs.pipe_file(self._at(name), data)
        return True

    @contextmanager
    def open(self, name: str, mode: Literal["rb", "wb"] = "rb") -> Iterator[BinaryIO]:
        """A binary file to stream from or to; what a failing block wrote does not stay. Raises StorageError."""
        path = self.local_path()
        opened = (
            local.replacing(path / checked_name(name))
            if path is not None and mode == "wb"
            else self._open_remote(name, mode)
        )
        doing = "read" if mode == "rb" else "written"
        with storage_errors(self._url(name), doing):
            file = opened.__enter__()
        try:
            yield file
        except BaseException as error:
            with within(_TIDY_WITHIN_S):  # A storage that was given up is not waited for again.
                opened.__exit__(type(error), error, error.__traceback__)
            if isinstance(error, OSError) and error.errno in _STORAGE_ERRORS:
                raise StorageError(f"{self._url(name)} cannot be {doing}: {error.strerror}") from error
            raise
        with storage_errors(self._url(name), doing):
            opened.__exit__(None, None, None)

    def open_at_random(self, name: str) -> BinaryIO:
        """A file for reads at any place, each of which is a request for just these bytes. Raises StorageError."""
        with storage_errors(self._url(name), "read"):
            found: BinaryIO = self.fs.open(self._at(name), "rb", cache_type="none")
            return found

    @contextmanager
    def _open_remote(self, name: str, mode: Literal["rb", "wb"]) -> Iterator[BinaryIO]:
        try:
            with self.fs.open(self._at(name), mode) as file:
                yield file
        except BaseException:
            if mode == "wb":
                with suppress(StorageError):
                    self.delete(name)
            raise

    def delete(self, name: str = "") -> None:
        """Remove a file, or a folder with all that is in it; nothing happens when it is absent. Raises StorageError."""
        try:
            with storage_errors(self._url(name), "deleted"):
                self.fs.rm(self._at(name), recursive=True)
        except StorageError as error:
            if not isinstance(error.__cause__, FileNotFoundError | NotADirectoryError):
                raise


def _relative(paths: list[str], prefix: str) -> Iterator[str]:
    for path in paths:
        relative = path.rstrip("/").removeprefix(prefix)
        if relative != path.rstrip("/") and not local.is_temporary(relative):
            yield relative
