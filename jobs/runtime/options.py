"""What the command line says besides the configuration."""

from dataclasses import dataclass

__all__ = ["RunOptions"]


@dataclass(frozen=True)
class RunOptions:
    """How a job is started; nothing here changes what it computes."""

    allow_changes: bool = False
    """Go on with a run although `flagged` fields changed."""
    verbose: bool = False
    """Let Ray, DeepSpeed and transformers speak, and show tracebacks."""
    inside_ray_job: bool = False
    """Started by `ray job submit`: the working directory is a copy, and the cluster is the job's."""
