"""One sandbox: a process outside that talks to one inside, which runs program after program."""

import base64
import select
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import llmcore
from llmcore.errors import SandboxError
from llmcore.evaluation.sandbox.fixes import fix_for
from llmcore.evaluation.sandbox.inside import frames
from llmcore.evaluation.sandbox.limits import Limits
from llmcore.evaluation.sandbox.program import Outcome, Program

__all__ = ["Lane"]

# What the keeper may take besides a program's own time, on a machine that does much else.
_GRACE_S = 30.0


class Lane:
    """A sandbox, and programs in it one at a time. Close it; it ends by itself where its maker is killed."""

    def __init__(self, limits: Limits, seccomp_filter: bytes) -> None:
        """Start it. SandboxError, with the fix, where the machine does not let it be made."""
        self.alive = True
        self._limits = limits
        self._process = subprocess.Popen(
            # Without site-packages, and with nothing of this process's environment. Sets have the same order each time.
            [sys.executable, "-P", "-s", "-S", "-B", "-X", "utf8", "-m", f"{__package__}.inside"],
            env={"PYTHONPATH": str(Path(llmcore.__file__).parents[1]), "PYTHONHASHSEED": "0", "MALLOC_ARENA_MAX": "1"},
            cwd="/",
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,
        )
        assert self._process.stdin and self._process.stdout and self._process.stderr
        self._requests, self._answers = self._process.stdin.fileno(), self._process.stdout.fileno()
        settings = {"limits": asdict(limits), "filter": base64.b64encode(seccomp_filter).decode()}
        answer = self._ask(settings)
        if answer is None:
            self._process.kill()
            told = self._process.stderr.read().decode(errors="replace")
            self.close()
            raise SandboxError(f"generated code is not run: its sandbox did not start: {told[-2000:]}")
        if "refused" in answer:
            self.close()
            raise SandboxError(f"generated code is not run: {answer['refused']}. {fix_for(answer['refused'])}")

    def run(self, program: Program) -> Outcome:
        """What comes of a program. Where the keeper itself is lost to it, it has failed, and `alive` is False."""
        begun = time.monotonic()
        answer = self._ask({"code": program.code, "setup": program.setup, "tests": list(program.tests)})
        if answer is None:
            self.close()
            return Outcome("ended_by_signal", time.monotonic() - begun, "the sandbox was lost with it", signal=9)
        refused = answer.pop("refused")
        if refused is not None:
            self.close()
            raise SandboxError(f"generated code is not run: {refused}. {fix_for(refused)}")
        return Outcome(**answer)

    def kill(self) -> None:
        """End it and all that is in it, from any thread; who waits for an answer gets none."""
        self._process.kill()

    def close(self) -> None:
        """End it; returns when nothing of it is left."""
        self.alive = False
        if self._process.returncode is None:
            self._process.kill()
            # To the end of the pipes, whose last owner is the keeper.
            self._process.communicate()

    def _ask(self, request: dict[str, Any]) -> Any:
        """The answer; None where none came in time or the other end is gone."""
        try:
            frames.write_frame(self._requests, request)
        except BrokenPipeError:
            return None
        poll = select.poll()
        poll.register(self._answers, select.POLLIN)
        if not poll.poll((self._limits.wall_s + _GRACE_S) * 1000):
            return None
        return frames.read_frame(self._answers)
