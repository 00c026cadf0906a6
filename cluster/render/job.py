"""A job that a cluster is rendered for: what it asks of the nodes, held against what they will have."""

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.placement import why_nowhere
from cluster.resources import Need, why_not
from llmcore.config.cluster import ClusterConfig
from llmcore.config.commands import COMMANDS, config_class
from llmcore.config.common import ClusterSettings, JobSettings, WorkerSettings
from llmcore.config.document import dump_yaml
from llmcore.config.evaluate import EvaluateConfig
from llmcore.config.loading import load_config, validate_data
from llmcore.config.pipeline import PipelineConfig
from llmcore.config.place import ROLE
from llmcore.config.pretrain import PretrainConfig
from llmcore.config.tune import TuneConfig
from llmcore.errors import ConfigError

__all__ = ["JobOnCluster", "load_job"]

_READING_CPUS = 0.5
"""Of Ray Data beside workers that train, as the job reserves it."""


@dataclass(frozen=True)
class JobOnCluster:
    """A job's command, and its configuration as it is on the cluster."""

    command: str
    config: JobSettings
    path: str
    """Of the file that it was read from, for people."""
    overrides: Sequence[str] = ()

    def told(self) -> str:
        """How it was asked for, on the command line."""
        return " ".join(["--job", self.command, self.path, *map(shlex.quote, self.overrides)])

    def text(self) -> str:
        """The configuration, as YAML: what is not as it is by default."""
        return dump_yaml(self.config.model_dump(mode="json", exclude_defaults=True))


def load_job(config: ClusterConfig, command: str, path: Path, overrides: Sequence[str] = ()) -> JobOnCluster:
    """Read a job's configuration, make it one for the cluster, and see that it fits.

    On the cluster it has the cluster's storage and the address of the cluster; its parts run on the groups that are
    there for them, unless it says itself where.

    Raises:
        ConfigError: The command is none, the configuration is wrong, or what it asks for is not there: what, and the
            fix.
    """
    if command not in COMMANDS:
        raise ConfigError(f"--job {command}: no such job; expected one of {', '.join(COMMANDS)}")
    given = load_config(config_class(command), path, overrides)
    whole = given.model_dump(mode="json")
    whole |= {"storage": config.storage, "cluster": _settings(config, given).model_dump(mode="json")}
    job = JobOnCluster(command, validate_data(type(given), whole), str(path), tuple(overrides))
    _check(config, job)
    return job


def _settings(config: ClusterConfig, job: JobSettings) -> ClusterSettings:
    """Where the job's parts run: as it says, else on the groups whose role it is."""
    roles = {group.role for group in config.groups.values()}
    groups = {"drivers": "driver", "data": "data", "train": "train", "evaluate": "train"}
    by_role = {part: {ROLE: role} for part, role in groups.items() if role in roles and len(roles) > 1}
    own = job.cluster.place.model_dump(mode="json", exclude_defaults=True)
    return ClusterSettings.model_validate(
        {"address": "auto", "autoscaling": config.autoscaling, "place": by_role | own}  # auto: set by Ray for its jobs
    )


def _check(config: ClusterConfig, job: JobOnCluster) -> None:
    """Raises ConfigError for what the cluster, all its nodes being there, cannot hold."""
    resources: list[dict[str, float]] = []
    labels: list[dict[str, str]] = []
    for group in config.groups.values():
        resources += [{"CPU": group.cpus, "GPU": group.gpus}] * group.most
        labels += [group.labels] * group.most
    heads = [config.head.labels] if config.head is not None else []
    settings = job.config.cluster
    reason = why_nowhere(settings, [*labels, *heads])
    if reason is None:
        for needs in _needs(job.config, sum(node["GPU"] for node in resources)):
            reason = reason or why_not(needs, resources, labels)
    if reason is not None:
        raise ConfigError(f"{job.path} does not fit on cluster {config.name}: {reason}")


def _needs(job: JobSettings, gpus: float) -> Iterator[list[Need]]:
    """What a job asks for at the same time; of a pipeline, each stage by itself."""
    if isinstance(job, PipelineConfig):
        for stage in job.jobs:
            yield from _needs(job.jobs[stage], gpus)
        return
    place = job.cluster.place
    workers: Any = getattr(job.finetune if isinstance(job, TuneConfig) else job, "workers", None)
    if isinstance(job, EvaluateConfig):
        each = (1.0 if gpus >= job.num_scorers else 0.0) if job.gpus == "auto" else job.gpus
        yield [Need(job.name, job.cpus, each, job.num_scorers, place.evaluate)]
    elif isinstance(workers, WorkerSettings):
        needs = [Need(job.name, workers.cpus_per_worker, _gpus_each(workers, gpus), workers.min_workers, place.train)]
        if isinstance(job, PretrainConfig):
            needs.append(Need("reading the tokens", 0.0 if workers.elastic else _READING_CPUS, labels=place.data))
            if job.stream is not None:
                lanes = job.stream.num_tasks
                needs.append(Need("reading raw shards", job.stream.cpus_per_lane, count=lanes, labels=place.data))
        yield needs


def _gpus_each(workers: WorkerSettings, gpus: float) -> float:
    if workers.gpus_per_worker != "auto":
        return workers.gpus_per_worker
    return 1.0 if gpus >= workers.min_workers else 0.0
