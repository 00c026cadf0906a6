"""What every job's configuration has: a name, a storage, a cluster; and how many workers train."""

from typing import Annotated, Literal

from pydantic import StringConstraints

from llmcore.config.base import Section, free, identity

__all__ = ["ClusterSettings", "JobSettings", "Name", "WorkerSettings"]

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,79}$")]


class ClusterSettings(Section):
    """Where the job runs."""

    address: str = free(
        "local",
        description="`local` starts Ray on this machine; `auto` takes the running cluster; or `host:port`. "
        "Inside a Ray job, `local` means the cluster the job runs on.",
    )
    num_cpus: int | None = free(None, ge=1, description="CPUs of a `local` Ray; null takes what the machine has.")


class JobSettings(Section):
    """The keys every job has."""

    name: Name = identity(description="Name of the run: lower case letters, digits, `.`, `_`, `-`.")
    storage: str = free("runs", description="Where runs and artifacts are kept: any fsspec URL, or a folder.")
    cluster: ClusterSettings = free(ClusterSettings, description="Where the job runs.")


class WorkerSettings(Section):
    """The Ray Train workers of one run."""

    num_workers: int = free(2, ge=1, description="Ranks: Ray Train workers, each one DeepSpeed process.")
    cpus_per_worker: float = free(0.5, gt=0, description="CPUs Ray reserves for each worker.")
    gpus_per_worker: float | Literal["auto"] = free(
        "auto", description="GPUs for each worker; `auto` takes one where the cluster has one for each, else none."
    )
    threads_per_worker: int = free(1, ge=1, description="Threads of PyTorch in a worker without a GPU.")
    max_failures: int = free(3, ge=0, description="Restarts of the worker group after a lost worker.")
