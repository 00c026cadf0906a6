"""Remote file systems fail at times: they are asked again, with back-off up to a deadline, and each time is counted.

This is the one level of retries. Those of s3fs and botocore, together 25 attempts that nobody is told of, are turned
off; other backends keep theirs. What stays is that aiohttp repeats a request at once, when its connection ends before
the answer begins: it may have kept that connection for too long. A disk is never asked again.
"""

import errno
import io
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING, Any, NamedTuple

from fsspec.config import conf
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from llmcore.errors import StorageError
from llmcore.redaction import holds_credential

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer
    from tenacity import RetryCallState

__all__ = ["RetriedFileSystem", "answer_behind", "file_system", "on_retry", "retries_so_far", "within"]

DEADLINE_S = 120.0
"""An outage of a minute, after which the longest wait may just have begun, costs no restart."""
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.1, 8.0
_BUFFER_BYTES = 1 << 20

_PERMANENT = (
    FileNotFoundError,
    FileExistsError,
    PermissionError,
    IsADirectoryError,
    NotADirectoryError,
    ValueError,
    TypeError,
    NotImplementedError,
    ImportError,
)
# By name, since their packages need not be there: of botocore, s3fs (replaced while it was read) and google.auth.
_PERMANENT_NAMES = {"NoCredentialsError", "PartialCredentialsError", "ProfileNotFound", "ParamValidationError"}
_PERMANENT_NAMES |= {"FileExpired", "DefaultCredentialsError"}
# Of 4xx, which say that the request is wrong, those that speak of the moment or of what came over the wire.
_PASSING_STATUSES = {408, 409, 425, 429}
_PASSING_CODES = {"RequestTimeout", "BadDigest", "IncompleteBody", "XAmzContentSHA256Mismatch"}

_deadline_s: ContextVar[float] = ContextVar("deadline_s", default=DEADLINE_S)
_counts: Counter[str] = Counter()
_counting = Lock()
_listener: Callable[[], None] | None = None


def file_system(url: str) -> tuple[Any, str]:
    """The fsspec file system of a URL, a remote one with retries, and the path in it.

    Raises StorageError, also for a URL that has a credential in it: it would stand in records and errors.
    """
    if holds_credential(url):
        raise StorageError(
            f"{url} has a credential in it: give the URL without one, and the credential in the environment of every "
            "node (for S3: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY) or by the role of the machines"
        )
    # Listings must be true now: another process may have just written what is asked for.
    options: dict[str, Any] = {"use_listings_cache": False}
    if url.startswith(("s3://", "s3a://")):
        # Options given here take the place of those of fsspec's own configuration: what the user has there stands.
        given: dict[str, Any] = conf.get("s3", {}).get("config_kwargs", {})
        options["config_kwargs"] = {"retries": {"total_max_attempts": 1}} | given
    try:
        fs, path = url_to_fs(url, **options)
    except ImportError as error:
        raise StorageError(
            f"{url} needs a package that is not installed: {error} (`pip install llmcore[s3]` for s3://)"
        ) from error
    except ValueError as error:
        raise StorageError(f"{url} is no storage URL that fsspec knows: {error}") from error
    return fs if isinstance(fs, LocalFileSystem) else RetriedFileSystem(fs), path


class RetriedFileSystem:
    """An fsspec file system each of whose calls, and each read of whose files, is asked again while it may pass."""

    def __init__(self, fs: Any) -> None:
        self._fs = fs
        if "s3" in fs.protocol and fs.retries != 1:
            fs.retries = 1
            # What s3fs's files send while they are written to, part by part: one that failed is sent again alone.
            for name in ("call_s3", "touch"):
                setattr(fs, name, partial(_ask, getattr(fs, name)))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._fs,)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RetriedFileSystem) and self._fs == other._fs

    def __hash__(self) -> int:
        return hash(self._fs)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._fs, name)
        return partial(_ask, found) if callable(found) else found

    def open(self, path: str, mode: str = "rb", **options: Any) -> Any:
        """A file of the file system; with `cache_type="none"` each read is a request for just these bytes."""
        file = _ask(self._fs.open, path, mode, **options)
        if mode != "rb":
            return file
        again = _ReadAgain(file)
        return again if options.get("cache_type") == "none" else io.BufferedReader(again, _BUFFER_BYTES)


class _ReadAgain(io.RawIOBase):
    """A remote file: a read that fails is asked again at the same place."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return bool(self._file.seekable())

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._file.seek(offset, whence)
        return self.tell()

    def tell(self) -> int:
        return int(self._file.tell())

    def read(self, size: int | None = -1) -> bytes:
        place = self.tell()

        def read() -> bytes:
            self._file.seek(place)
            return bytes(self._file.read(size))

        return bytes(_ask(read))

    def readall(self) -> bytes:
        return self.read()

    def readinto(self, buffer: "WriteableBuffer") -> int:
        view = memoryview(buffer).cast("B")
        data = self.read(len(view))
        view[: len(data)] = data
        return len(data)

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Another deadline for what this thread asks in a `with` block."""
    before = _deadline_s.set(seconds)
    try:
        yield
    finally:
        _deadline_s.reset(before)


def retries_so_far() -> Counter[str]:
    """How often this process has asked again, by HTTP status, or by class of the error where there was no answer."""
    with _counting:
        return _counts.copy()


def on_retry(listener: Callable[[], None]) -> None:
    """Have this called, by the thread that is about to ask again, after each retry is counted."""
    global _listener  # noqa: PLW0603
    _listener = listener


def _ask(call: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """What a call returns, which is made again while its error may pass. At the deadline raises a TimeoutError."""
    from tenacity import Retrying, retry_if_exception, stop_before_delay, wait_random_exponential

    asking = Retrying(
        retry=retry_if_exception(_may_pass),
        # Random, so that many processes that a server turned away do not come back together.
        wait=wait_random_exponential(multiplier=2 * _FIRST_WAIT_S, min=_FIRST_WAIT_S, max=_LONGEST_WAIT_S),
        stop=stop_before_delay(_deadline_s.get()),
        before_sleep=_count,
        retry_error_callback=_give_up,
    )
    return asking(call, *arguments, **options)


class _Answer(NamedTuple):
    status: int | None
    code: str


def answer_behind(error: BaseException) -> _Answer:
    """The HTTP status behind an error, None where there was no answer; and S3's word for it."""
    for name in ("status", "status_code", "code"):  # aiohttp; azure; gcsfs
        if isinstance(status := getattr(error, name, None), int):
            return _Answer(status, "")
    for told in (error, error.__cause__):  # botocore's own error, or s3fs's because of it
        response = getattr(told, "response", None)
        if isinstance(response, dict):
            status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
            return _Answer(status, str(response.get("Error", {}).get("Code")))
    return _Answer(None, "")


def _may_pass(error: BaseException) -> bool:
    """Whether the same call may succeed later: whatever is not known to be permanent."""
    if not isinstance(error, Exception) or isinstance(error, _PERMANENT) or type(error).__name__ in _PERMANENT_NAMES:
        return False
    status, code = answer_behind(error)
    wrong = status is not None and 400 <= status < 500
    return not wrong or status in _PASSING_STATUSES or code in _PASSING_CODES


def _error_of(state: "RetryCallState") -> BaseException:
    error = state.outcome.exception() if state.outcome is not None else None
    assert error is not None
    return error


def _count(state: "RetryCallState") -> None:
    error = _error_of(state)
    with _counting:
        _counts[str(answer_behind(error).status or type(error).__name__)] += 1
    if _listener is not None:
        _listener()


def _give_up(state: "RetryCallState") -> None:
    error = _error_of(state)
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    asked = f"{state.attempt_number} attempts in {state.seconds_since_start or 0:.1f} s"
    raise TimeoutError(errno.ETIMEDOUT, f"{reason} ({asked})") from error
