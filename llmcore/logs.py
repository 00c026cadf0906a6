"""What a process says: lines for people at a terminal, and on a cluster a line of JSON with whose it is.

Every process of a run says first who it is (`about`): run, attempt, and rank, trial or stage where it has one. What it
logs then by `log` carries that, so that the lines of many processes on many nodes can be told apart, and found again.
"""

import json
import logging
import os
import socket
import sys
import time
from collections.abc import Callable
from typing import Any

from llmcore.redaction import RedactingFilter

__all__ = ["FORMAT", "Readable", "about", "as_json", "is_about", "log", "readable", "use_json"]

FORMAT = "LLMCORE_LOG_FORMAT"
"""In the environment: `json` or `text`. Without it, a process says JSON where a cluster started it."""
_FIELDS = "fields"
_WHO = ("trial", "rank")
"""What a person is told of who says something; what a pipeline's stage says begins with its name already."""

_who: dict[str, Any] = {}
_logger = logging.getLogger("llmcore")


def about(**who: Any) -> None:
    """From now on this process's lines carry these; None takes one away."""
    for name, value in who.items():
        if value is None:
            _who.pop(name, None)
        else:
            _who[name] = value


def is_about(name: str) -> bool:
    """Whether this process's lines carry it already."""
    return name in _who


def use_json(otherwise: bool) -> None:
    """Have this process say what it logs on standard output: as the environment says, else JSON or not."""
    wanted = os.environ.get(FORMAT)
    as_wanted = otherwise if wanted not in ("json", "text") else wanted == "json"
    handler = _StandardOutput()
    handler.addFilter(RedactingFilter())
    handler.setFormatter(_JsonLines() if as_wanted else _Lines())
    _logger.handlers[:] = [handler]
    _logger.setLevel(logging.INFO)
    _logger.propagate = False


def as_json() -> bool:
    """Whether this process says JSON."""
    return any(isinstance(handler.formatter, _JsonLines) for handler in _logger.handlers)


def log(message: str, *, error: BaseException | None = None, level: int = logging.INFO, **fields: Any) -> None:
    """Say something, with who says it and without credentials; of an error also its stack.

    Nothing is said where `use_json` was not called.

    Args:
        message: For a person.
        error: What went wrong; the level is then that of an error.
        level: One of `logging`'s.
        fields: What else a program should find, plain JSON.
    """
    if _logger.handlers:
        _logger.log(logging.ERROR if error else level, message, exc_info=error, extra={_FIELDS: fields})


class _StandardOutput(logging.StreamHandler[Any]):
    """As it is when something is said: Ray, and tests, put others in its place."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> Any:
        return sys.stdout


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        at = time.gmtime(record.created)
        line = {
            "time": f"{time.strftime('%Y-%m-%dT%H:%M:%S', at)}.{int(record.msecs):03d}Z",
            "level": record.levelname,
            "message": record.getMessage(),
            **_who,
            **getattr(record, _FIELDS, {}),
            "host": socket.gethostname(),
            "pid": os.getpid(),
        }
        if record.exc_text:
            line["trace"] = record.exc_text
        return json.dumps(line, ensure_ascii=False, default=str)


class _Lines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return _for_a_person(record.getMessage(), _who | getattr(record, _FIELDS, {}), record.exc_text)


def readable(line: str) -> str:
    """A line of JSON of ours as a person reads it; any other line as it is."""
    if not line.startswith("{"):
        return line
    try:
        said = json.loads(line)
    except ValueError:
        return line
    if not {"time", "level", "message", "pid"} <= said.keys():
        return line
    return _for_a_person(said["message"], said, said.get("trace"))


def _for_a_person(message: str, who: dict[str, Any], trace: str | None) -> str:
    said_by = ", ".join(f"{name} {who[name]}" if name == "rank" else str(who[name]) for name in _WHO if name in who)
    first = f"[{said_by}] {message}" if said_by and not message.startswith(f"[{said_by}]") else message
    return first if trace is None else f"{first}\n{trace}"


class Readable:
    """Takes a log in pieces, and shows its lines as a person reads them."""

    def __init__(self, show: Callable[[str], None]) -> None:
        self._show, self._begun = show, ""

    def __call__(self, text: str) -> None:
        """A piece more; what is of a line that has not ended waits for the rest."""
        *lines, self._begun = (self._begun + text).split("\n")
        if lines:
            self._show("".join(f"{readable(line)}\n" for line in lines))

    def end(self) -> None:
        """No more comes: what is left of a line is shown."""
        if self._begun:
            self._show(readable(self._begun))
            self._begun = ""
