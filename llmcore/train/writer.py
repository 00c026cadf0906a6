"""Checkpoints written while training goes on: it waits for a copy in host memory, and for the one before."""

import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import timedelta
from types import TracebackType
from typing import Any, Self

import torch
from torch import distributed

from llmcore.errors import CheckpointError, RunHeldError, as_note_of
from llmcore.storage import FileEntry, Folder, write_manifest
from llmcore.train.engine import Engine
from llmcore.train.fragment_reader import rank_file
from llmcore.train.snapshot import Snapshot

__all__ = ["CheckpointWriter"]

KIND = "checkpoint"
_AGREED_WITHIN = timedelta(hours=2)
"""How much later than this rank's the last file may be there; a rank that dies is noticed at once."""


class CheckpointWriter:
    """One rank's writer: a thread writes its file; when all ranks' are there, rank 0's writes the manifest.

    The threads agree in a process group of their own, so each ends with the same outcome, and none waits for what the
    ranks do meanwhile. A context manager: however the block ends, what is in flight is waited for.
    """

    def __init__(self, device: torch.device) -> None:
        """A collective."""
        self._snapshot = Snapshot(device)
        self._group = distributed.new_group(backend="gloo", timeout=_AGREED_WITHIN)
        self._is_first = distributed.get_rank() == 0
        self._thread: threading.Thread | None = None
        self._error: Exception | None = None

    def save(
        self,
        engine: Engine,
        folder: Folder,
        about: Mapping[str, Any],
        *,
        check: Callable[[], None] = lambda: None,
        done: Callable[[], None] = lambda: None,
    ) -> None:
        """Begins a checkpoint; returns when training may go on. Waits for the one before. A collective.

        Args:
            engine: Whose state it is.
            folder: Where it is written, one file a rank, then the manifest.
            about: What the manifest says of it.
            check: Called by rank 0's thread before the files are written, and before the manifest; what it raises
                leaves none.
            done: Called by rank 0's thread when the checkpoint is complete.

        Raises:
            CheckpointError: the one before was not written; on every rank, naming those that failed.
        """
        self.wait()
        self._snapshot.take(engine)

        def write() -> None:
            try:
                self._write(folder, about, check, done)
            except Exception as error:
                self._error = error

        self._thread = threading.Thread(target=write, name="checkpoint", daemon=True)
        self._thread.start()

    def _write(
        self, folder: Folder, about: Mapping[str, Any], check: Callable[[], None], done: Callable[[], None]
    ) -> None:
        failures = self._by_first(folder, check, check)  # who has been replaced leaves no files behind
        outcomes = [] if failures else self._gathered(folder, self._own_file(folder))
        failures += [outcome for outcome in outcomes if isinstance(outcome, Exception)]

        def publish() -> None:
            check()
            write_manifest(folder, KIND, outcomes, about)
            done()

        failures = failures or self._by_first(folder, publish, check)
        held = [error for error in failures if isinstance(error, RunHeldError)]
        if failures:
            reasons = "; ".join(map(str, failures))
            raise held[0] if held else CheckpointError(f"checkpoint {folder.url} is not written: {reasons}")

    def _by_first(self, folder: Folder, work: Callable[[], None], check: Callable[[], None]) -> list[Exception]:
        """What rank 0 does; the error that it had, on every rank."""
        told: Exception | None = None
        if self._is_first:
            try:
                work()
            except RunHeldError as error:
                told = error
            except Exception as error:
                told = _why(error, check)
        return [error for error in self._gathered(folder, told) if error is not None]

    def _own_file(self, folder: Folder) -> FileEntry | Exception:
        rank = distributed.get_rank()
        try:
            return self._snapshot.write(folder, rank_file(rank))
        except Exception as error:
            return CheckpointError(f"rank {rank}: {error}")

    def _gathered(self, folder: Folder, outcome: Any) -> list[Any]:
        outcomes: list[Any] = [None] * distributed.get_world_size(self._group)
        try:
            distributed.all_gather_object(outcomes, outcome, group=self._group)
        except RuntimeError as error:
            raise CheckpointError(f"checkpoint {folder.url} is not written: another rank is gone ({error})") from error
        return outcomes

    @property
    def is_writing(self) -> bool:
        """Whether this rank's thread is at work."""
        return self._thread is not None and self._thread.is_alive()

    def wait(self) -> None:
        """Returns when nothing is in flight. A collective; raises CheckpointError as `save` does."""
        if self._thread is None:
            return
        self._thread.join()
        self._thread = None
        error, self._error = self._error, None
        if error is not None:
            raise error

    def poll(self, engine: Engine) -> None:
        """Raises what `wait` would of one that has failed, on all ranks at once; waits for none. A collective."""
        if self._thread is not None and any(engine.sum_over_ranks([self._error is not None])):
            self.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with as_note_of(error, "The checkpoint in flight failed too"):
            self.wait()


def _why(error: Exception, check: Callable[[], None]) -> Exception:
    """A later attempt may have deleted what one that stood still was about to publish: then that is the reason."""
    with suppress(Exception):  # it may not be possible to say
        try:
            check()
        except RunHeldError as held:
            return held
    return CheckpointError(f"rank 0: {error}")
