"""What every job's configuration has: a name, a storage, a cluster; and how many workers train."""

from typing import Annotated, Any, Literal

from pydantic import StringConstraints, model_validator

from llmcore.config.base import Section, free, identity
from llmcore.config.budget import BudgetSettings
from llmcore.config.place import PlaceSettings

__all__ = ["LONGEST_NAME", "ClusterSettings", "JobSettings", "ModelJobSettings", "Name", "WorkerSettings"]

LONGEST_NAME = 80
Name = Annotated[str, StringConstraints(pattern=rf"^[a-z0-9][a-z0-9._-]{{0,{LONGEST_NAME - 1}}}$")]


class ClusterSettings(Section):
    """Where the job runs."""

    address: str = free(
        "local",
        description="`local` starts Ray on this machine; `auto` takes the running cluster; or `host:port`. "
        "Inside a Ray job, `local` means the cluster the job runs on.",
    )
    num_cpus: int | None = free(None, ge=1, description="CPUs of a `local` Ray; null takes what the machine has.")
    place: PlaceSettings = free(PlaceSettings, description="On which nodes the parts of the job run, by their labels.")
    autoscaling: bool = free(
        False,
        description="Whether nodes come when they are asked for: then a job waits for what is not there yet, instead "
        "of being refused at its start.",
    )


class JobSettings(Section):
    """The keys every job has."""

    name: Name = identity(description="Name of the run: lower case letters, digits, `.`, `_`, `-`.")
    storage: str = free("runs", description="Where runs and artifacts are kept: any fsspec URL, or a folder.")
    cluster: ClusterSettings = free(ClusterSettings, description="Where the job runs.")


class ModelJobSettings(JobSettings):
    """The keys of a job that leaves one model."""

    budget: BudgetSettings = free(BudgetSettings, description="What the run may cost.")

    push_to_hub: str | None = free(
        None,
        pattern=r"^[\w.-]+/[\w.-]+$",
        description="`owner/name`: upload the finished model to the Hugging Face hub, with HF_TOKEN. A repository that "
        "is not there is made, a private one.",
    )


class WorkerSettings(Section):
    """The Ray Train workers of one run."""

    num_workers: int = free(2, ge=1, description="Ranks: Ray Train workers, each one DeepSpeed process.")
    elastic: list[int] | None = free(
        None,
        min_length=2,
        max_length=2,
        description="`[min, max]` instead of `num_workers`: as many workers as the cluster holds. When a node is lost "
        "or comes, training goes on from the newest checkpoint with fewer or more.",
    )
    resize_check_s: float = free(60.0, gt=0, description="Seconds between two looks for room for more elastic workers.")
    cpus_per_worker: float = free(0.5, gt=0, description="CPUs Ray reserves for each worker.")
    gpus_per_worker: float | Literal["auto"] = free(
        "auto", description="GPUs for each worker; `auto` takes one where the cluster has one for each, else none."
    )
    threads_per_worker: int = free(1, ge=1, description="Threads of PyTorch in a worker without a GPU.")
    max_failures: int = free(3, ge=0, description="Restarts of the worker group after a lost or hung worker.")
    hang_s: float = free(
        1800.0,
        gt=0,
        description="Seconds without the end of a step after which a worker counts as hung, and the group starts anew; "
        "longer than any validation or checkpoint takes.",
    )
    grace_s: float = free(
        30.0,
        ge=0,
        description="Seconds that SIGTERM or Ctrl-C leaves for the step's end and a checkpoint; 0 ends at once.",
    )

    @property
    def min_workers(self) -> int:
        """The fewest workers that train."""
        return self.elastic[0] if self.elastic else self.num_workers

    def told(self) -> str:
        """How many, for a line of text."""
        return f"{self.min_workers} to {self.num_workers}" if self.elastic else str(self.num_workers)

    @model_validator(mode="before")
    @classmethod
    def _elastic_says_how_many(cls, given: Any) -> Any:
        if isinstance(given, dict) and isinstance(given.get("elastic"), list) and len(given["elastic"]) == 2:
            return {"num_workers": given["elastic"][1]} | given
        return given

    @model_validator(mode="after")
    def _elastic_is_a_range(self) -> "WorkerSettings":
        if self.elastic is None:
            return self
        fewest, most = self.elastic
        if not 1 <= fewest <= most:
            raise ValueError(f"elastic=[{fewest}, {most}] is no range of workers: give [min, max] with 1 <= min <= max")
        if self.num_workers != most:
            raise ValueError(
                f"num_workers={self.num_workers} contradicts elastic=[{fewest}, {most}]: leave num_workers out"
            )
        return self
