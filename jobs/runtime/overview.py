"""What a person sees of a pipeline: what its stages say, and below, where each of them stands."""

import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self

from tqdm import tqdm

from jobs.runtime.console import mention, say

__all__ = ["Overview", "of_stage"]

_LINE_EVERY_S = 10.0
_MARKS = {"waits": "·", "at work": "▸", "done": "✓", "failed": "✗", "stopped": "■"}


def of_stage(stage: str, line: str) -> str:
    """A line with the stage's name before it, unless that is its first word already, being its job's."""
    return line if line.startswith((f"{stage}:", f"{stage},")) else f"[{stage}] {line}"


class Overview:
    """A line for each stage where a person watches standard error; else what they say, and how far they are.

    Told by `run_stages`; a context, after which the lines are gone.
    """

    def __init__(self, stages: Mapping[str, str], *, watched: bool | None = None) -> None:
        """`stages`: what each does, by its name, in their order."""
        self._stages = dict(stages)
        self._since: dict[str, float] = {}
        self._told: dict[str, float] = {}
        self._lines: dict[str, tqdm[Any]] = {}
        self._watched = sys.stderr.isatty() if watched is None else watched
        self._width = max(map(len, stages))

    def __enter__(self) -> Self:
        if self._watched:
            for place, stage in enumerate(self._stages):
                self._lines[stage] = tqdm(total=0, position=place, bar_format="{desc}", leave=False)
                self._show(stage, "waits")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with ExitStack() as stack:
            for line in self._lines.values():
                stack.callback(line.close)

    def found_done(self, stage: str) -> None:
        """An earlier start has done it."""
        self._show(stage, "done", "by an earlier start")

    def began(self, stage: str) -> None:
        """A stage is at work."""
        self._since[stage] = time.monotonic()
        self._show(stage, "at work")

    def said(self, stage: str, line: str) -> None:
        """A stage has something to say."""
        say(of_stage(stage, line), stage=stage)

    def reached(self, stage: str, line: str) -> None:
        """How far a stage is."""
        if self._watched:
            self._show(stage, "at work", line.partition(": ")[2])
        elif line and time.monotonic() - self._told.get(stage, self._since[stage]) >= _LINE_EVERY_S:
            self._told[stage] = time.monotonic()
            mention(f"[{stage}] {line}", stage=stage)

    def ended(self, stage: str, how: str, why: str = "") -> None:
        """A stage is `done`, has `failed`, and why, or was `stopped`."""
        took = time.monotonic() - self._since[stage]
        self._show(stage, how, f"{took:.0f} s")
        if why or not self._watched:
            say(f"[{stage}] {how} after {took:.0f} s{': ' * bool(why)}{why}", stage=stage)

    def _show(self, stage: str, state: str, more: str = "") -> None:
        if stage in self._lines:
            job = self._stages[stage]
            line = f"{_MARKS[state]} {stage:<{self._width}}  {job:<8}  {state:<7}  {more}"
            self._lines[stage].set_description_str(line.rstrip())
