"""Asking a run to stop: who wants it leaves a file with the attempt, and the attempt's rank 0 looks for it."""

import threading
import time

from llmcore.errors import StorageError
from llmcore.storage import Folder

__all__ = ["STOP", "StopSignal", "ask_to_stop"]

STOP = "stop.json"
_LOOK_EVERY_S = 0.5


def ask_to_stop(attempt: Folder, why: str) -> None:
    """Have an attempt's workers take a checkpoint after the step that they are in, and leave. Raises StorageError."""
    attempt.write_json(STOP, {"why": why, "time": time.time()})


class StopSignal:
    """Whether an attempt was asked to stop; a thread looks, so that asking this costs a step nothing."""

    def __init__(self, attempt: Folder) -> None:
        self._attempt = attempt
        self._asked, self._closed = threading.Event(), threading.Event()
        threading.Thread(target=self._look, daemon=True, name="stop-signal").start()

    def _look(self) -> None:
        while not self._closed.wait(_LOOK_EVERY_S):
            try:
                found = self._attempt.exists(STOP)
            except StorageError:
                continue  # a storage that fails for a moment stops nobody; whoever saves finds out whether it is gone
            if found:
                self._asked.set()
                return

    def asked(self) -> bool:
        """Whether it was."""
        return self._asked.is_set()

    def close(self) -> None:
        """Look no more."""
        self._closed.set()
