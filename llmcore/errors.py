"""One tree of errors; the command line turns each into one message and an exit code."""

from collections.abc import Iterator
from contextlib import contextmanager

from llmcore.redaction import redact

__all__ = [
    "BadShardError",
    "BudgetSpentError",
    "CheckpointError",
    "ClusterAwayError",
    "ConfigError",
    "CorpusError",
    "DivergedError",
    "GateError",
    "HungRankError",
    "InterruptedRunError",
    "LLMCoreError",
    "NonFiniteError",
    "RunChangedError",
    "RunError",
    "RunHeldError",
    "SandboxError",
    "ShardError",
    "StorageError",
    "TrialError",
    "UserError",
    "as_note_of",
]


class LLMCoreError(Exception):
    """Anything this package raises on purpose; `exit_code` is what the process ends with.

    Its message has no credentials from the start on: Ray writes the errors of workers into logs of its own.
    """

    exit_code = 1

    def __init__(self, *told: object) -> None:
        super().__init__(*(redact(one) if isinstance(one, str) else one for one in told))


class UserError(LLMCoreError):
    """What the user gave is wrong: the message has the value, the rule and the fix."""

    exit_code = 2


class ConfigError(UserError):
    """The configuration, as written or against the cluster, cannot be run."""


class CorpusError(UserError):
    """A corpus or labelled set is missing, empty, or not as the configuration says."""


class StorageError(UserError):
    """A storage URL cannot be used: relative where it may not be, missing, not writable."""


class RunHeldError(UserError):
    """Another start of the same run is alive."""


class SupersededError(RunHeldError):
    """Workers that counted as lost find that others have taken their place."""


class RunChangedError(UserError):
    """A run of this name exists, and its identity is another."""


class SandboxError(UserError):
    """Generated code cannot be confined on this machine, so it is not run; the message has the fix."""


class RunError(LLMCoreError):
    """It failed while running."""


class ShardError(RunError):
    """A shard cannot be read; the message names shard and row."""


class BadShardError(ShardError):
    """What is in a shard cannot be read, and will not be the next time: it may be put in quarantine."""


class CheckpointError(RunError):
    """A checkpoint cannot be written or read."""


class ClusterAwayError(RunError):
    """A cluster does not answer: it may come back."""


class DivergedError(RunError):
    """The optimization came to nothing; it would do so again, so nobody tries anew."""


class NonFiniteError(DivergedError):
    """Loss or gradient is not finite; raised before the optimizer steps."""


class HungRankError(RunError):
    """A rank has ended no step for too long; the message shows where it stands."""


class GateError(LLMCoreError):
    """A model is not what it must be to be chosen or published; the message says by how much."""

    exit_code = 3


class TrialError(RunError):
    """A trial failed; the message names it."""


class InterruptedRunError(LLMCoreError):
    """The user, or the cluster on the user's behalf, asked the run to stop."""

    exit_code = 130


class BudgetSpentError(InterruptedRunError):
    """What the run may cost is spent; it goes on when it may cost more."""

    exit_code = 3


@contextmanager
def as_note_of(error: BaseException | None, told: str) -> Iterator[None]:
    """What fails in the block becomes a note of the error that is on its way already; it is raised where none is."""
    try:
        yield
    except Exception as other:
        if error is None:
            raise
        error.add_note(redact(f"{told}: {other}"))
