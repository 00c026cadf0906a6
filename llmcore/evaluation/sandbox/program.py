"""A program to judge, and what came of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from llmcore.errors import UserError

__all__ = ["Outcome", "Program", "Status"]

Status = Literal["passed", "failed", "timed_out", "out_of_memory", "too_much_output", "ended_by_signal"]


@dataclass(frozen=True)
class Program:
    """Python code and the tests that judge it. All of it runs in one namespace: code, then setup, then test by test.

    Attributes:
        code: The whole of the code under test.
        tests: Python source each; one that raises is not passed. At least one.
        setup: What the tests need besides (`test_setup_code` of MBPP); it may use names that `code` defines.
    """

    code: str
    tests: Sequence[str]
    setup: str = ""

    def __post_init__(self) -> None:
        if not any(test.strip() for test in self.tests):
            raise UserError("a program without tests cannot be judged: give `tests` at least one statement")

    @classmethod
    def of(
        cls, prompt: str, completion: str, tests: Sequence[str], *, setup: str = "", prompt_is_code: bool = False
    ) -> "Program":
        """The program that a model wrote.

        Where the prompt is words (MBPP), the completion is the code. Where it is the beginning of the code (HumanEval:
        a signature with its docstring), the completion goes on with it; there `tests` are the row's `test` and the call
        of what that defines: `[row["test"], f"check({row['entry_point']})"]`.
        """
        return cls(prompt + completion if prompt_is_code else completion, tuple(tests), setup)


@dataclass(frozen=True)
class Outcome:
    """What came of one program.

    Attributes:
        status: `passed`, or how it failed.
        seconds: By the clock, from its start to its end.
        stderr: The end of its standard error, where a traceback stands.
        signal: The signal's number where the status is `ended_by_signal`.
    """

    status: Status
    seconds: float
    stderr: str = ""
    signal: int | None = None

    @property
    def passed(self) -> bool:
        """Whether all tests were run and passed."""
        return self.status == "passed"
