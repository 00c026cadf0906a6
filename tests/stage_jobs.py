"""A job whose run does what its name says: for tests of how stages are run."""

import os
import signal
import sys
import time
from pathlib import Path

from jobs.runtime.console import Progress, say
from jobs.runtime.options import RunOptions
from llmcore.config.common import JobSettings
from llmcore.errors import ConfigError

__all__ = ["LONGEST_S", "run"]

LONGEST_S = 60.0


def run(config: JobSettings, options: RunOptions) -> None:
    """What a stage does."""
    folder, name = Path(config.storage), config.name
    (folder / f"{name}.pid").write_text(str(os.getpid()))
    if name.startswith("meets_"):
        _wait_for(folder / f"meets_{'a' if name.endswith('b') else 'b'}.pid")
    elif name == "fails":
        _wait_for(folder / "follows.pid")
        raise ConfigError("value=3: give another")
    elif name == "divides":
        _ = 1 // 0
    elif name == "interrupts":
        _wait_for(folder / "follows.pid")
        raise KeyboardInterrupt
    elif name == "leaves":
        sys.exit(0)
    elif name == "vanishes":
        os._exit(0)
    elif name == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    elif name in ("waits", "follows"):
        try:
            say("waits")
            time.sleep(LONGEST_S)
        except KeyboardInterrupt:
            (folder / f"{name}.interrupted").write_text("KeyboardInterrupt")
            raise
    else:
        say(f"{os.environ.get('GREETING', 'hello')} from {name}")
        ticks = iter(range(0, 100, 10))
        with Progress(2, "steps", name, clock=lambda: next(ticks)) as shown:
            shown.line = lambda: "halfway"  # type: ignore[method-assign]
            shown.advance()


def _wait_for(path: Path) -> None:
    deadline = time.monotonic() + LONGEST_S
    while not path.exists():
        if time.monotonic() > deadline:
            raise TimeoutError(path)
        time.sleep(0.01)
