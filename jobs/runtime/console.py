"""What a person sees: plain lines, progress with an estimate of the time left, and nobody else's chatter."""

import logging
import os
import sys
import time
import warnings
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from tqdm import tqdm

from cluster.connect import inside_ray_job
from llmcore.logs import as_json, log, use_json
from llmcore.redaction import redact

__all__ = ["Progress", "listen", "mention", "progress", "quiet", "say"]

_LINE_EVERY_S = 10.0
_TOLD_EVERY_S = 1.0
_QUIET_ENVIRONMENT = {
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "RAY_AIR_NEW_OUTPUT": "0",  # the new one prints headings even when it is told to be silent
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_DATA_LOG_LEVEL": "ERROR",
    "RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS": "0",
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_VERBOSITY": "error",
}
_CHATTERING = ("datasets", "deepspeed", "ray", "torch", "transformers")


_listener: Callable[[str, bool], None] | None = None


def listen(listener: Callable[[str, bool], None]) -> None:
    """From now on this process's lines go to the listener instead of the terminal; True with those of progress.

    Of progress it is told each second; an empty line says that there is none any more.
    """
    global _listener  # noqa: PLW0603  # whoever says something need not know who listens
    _listener = listener


def say(line: str, **fields: Any) -> None:
    """Print one line on standard output, above a progress bar if there is one; credentials in it are not shown.

    On a cluster it is a line of JSON, which has the `fields` too.
    """
    line = redact(line)
    if _listener is not None:
        _listener(line, False)
        return
    if as_json():
        log(line, **fields)
        return
    with tqdm.external_write_mode(file=sys.stdout):
        print(line, flush=True)


def mention(line: str, *, error: BaseException | None = None, level: int = logging.INFO, **fields: Any) -> None:
    """Print one line on standard error, where progress and errors go; on a cluster it is one of JSON, like others."""
    if as_json():
        log(line, error=error, level=level, **fields)
    else:
        print(redact(line), file=sys.stderr, flush=True)


def quiet(verbose: bool) -> None:
    """Keep Ray's, DeepSpeed's and transformers' chatter from the terminal, unless `verbose`.

    To be called before they are imported. What they raise is still seen, and what the user has set in the environment
    stands. What this process itself says is JSON from now on where it is a Ray job.
    """
    use_json(inside_ray_job())
    if verbose:
        return
    for name, value in _QUIET_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    for package in _CHATTERING:
        logging.getLogger(package).setLevel(logging.ERROR)
        warnings.filterwarnings("ignore", module=rf"{package}(\.|$)")


class Progress:
    """Work of known or unknown size: a bar where a person watches standard error, else a line every 10 s."""

    def __init__(
        self,
        total: float | None,
        unit: str,
        description: str,
        *,
        initial: float = 0,
        watched: bool | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.done = self._initial = initial
        self._total, self._unit, self._description = total, unit, description
        self._clock = clock
        self._started = self._last_line = clock()
        self._note = ""
        self._bar: tqdm[Any] | None = None
        if _listener is None and (sys.stderr.isatty() if watched is None else watched):
            self._bar = tqdm(
                total=total,
                initial=initial,
                unit=unit,
                desc=description,
                unit_scale=True,
                leave=False,
                dynamic_ncols=True,
            )

    def advance(self, count: float = 1, note: str | None = None) -> None:
        """So many more are done; `note` (such as the loss) stands beside them."""
        self.reach(self.done + count, note)

    def reach(self, done: float, note: str | None = None) -> None:
        """So many are done in all."""
        count, self.done = done - self.done, done
        self._note = self._note if note is None else note
        if self._bar is not None:
            self._bar.set_postfix_str(self._note, refresh=False)
            self._bar.update(count)
        elif self._clock() - self._last_line >= (_LINE_EVERY_S if _listener is None else _TOLD_EVERY_S):
            self._last_line = self._clock()
            if _listener is not None:
                _listener(redact(self.line()), True)
            else:
                mention(self.line())

    def line(self) -> str:
        """How far it is, in words: `pretrain: 40/200 steps (20 %), 31 s left, loss 5.1`."""
        done = f"{self.done:g}"
        parts = [f"{self._description}: {done} {self._unit}"]
        if self._total:
            parts = [f"{self._description}: {done}/{self._total:g} {self._unit} ({self.done / self._total:.0%})"]
            if self.done > self._initial:
                pace = (self._clock() - self._started) / (self.done - self._initial)
                left_s = pace * (self._total - self.done)
                parts.append(f"{_duration(left_s)} left")
        return ", ".join([*parts, *filter(None, [self._note])])

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.close()
        elif _listener is not None:
            _listener("", True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def progress(total: float | None, unit: str, description: str, *, initial: float = 0) -> Progress:
    """Show how far a long work is, as a context: `total` units (None where unknown), moved by `advance` or `reach`.

    `initial` units were done before the clock began.
    """
    return Progress(total, unit, description, initial=initial)


def _duration(seconds: float) -> str:
    whole = round(seconds)
    return f"{whole} s" if whole < 120 else f"{whole // 60} min {whole % 60:02d} s"
