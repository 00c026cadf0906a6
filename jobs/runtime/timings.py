"""How long the parts of a job take."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from jobs.runtime.console import say

__all__ = ["Timings"]


@dataclass
class Timings:
    """Seconds by part, said as they pass; `job` is the first word of what is said."""

    job: str
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Time what is done inside."""
        started = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - started, 2)
        say(f"{self.job}: {name}, {self.seconds[name]:.1f} s")
