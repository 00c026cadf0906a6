"""A job made ready: validated, packed, named; everything that a cluster is told of it."""

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cluster.pinned import to_install
from cluster.submit.identity import Name, settings_hash
from cluster.submit.package import Package, build_package, code_root
from llmcore.config import dump_config, load_config
from llmcore.config.commands import config_class
from llmcore.config.common import JobSettings
from llmcore.config.pipeline import PipelineConfig
from llmcore.errors import ConfigError
from llmcore.records import SUBMISSION
from llmcore.storage import resolve_storage

__all__ = ["Placement", "Submission", "make_submission", "parse_labels"]

_STOPS_WITHIN_S = 60
"""Seconds beside the grace of training until Ray kills a job that was asked to stop: its end has to be recorded."""


_CONSTRAINED = "-c ${RAY_RUNTIME_ENV_CREATE_WORKING_DIR}/constraints.txt"
"""A line of pip's requirements; the variable is the folder that Ray unpacks the package into."""


@dataclass(frozen=True)
class Placement:
    """Where the job's driver runs; with nothing given it is on the head node."""

    labels: Mapping[str, str] = field(default_factory=dict)
    """Of the node, beside `cluster.place.drivers`; a value may be an expression of Ray's, such as `!spot`."""
    cpus: float = 0.0

    def to_json(self) -> str:
        """As text, for the job's metadata."""
        return json.dumps({"labels": dict(self.labels), "cpus": self.cpus})

    @classmethod
    def from_json(cls, text: str) -> "Placement":
        """The placement of `to_json`."""
        return cls(**json.loads(text))


@dataclass(frozen=True)
class Submission:
    """What is sent; the same for every attempt but for the number of the attempt."""

    name: Name
    command: str
    entrypoint: str
    storage: str
    settings: str
    """Hash of all settings: two of one name may still differ in what makes no other run."""
    package_uri: str
    package: Package | None
    """None where the cluster has it already."""
    runtime_env: Mapping[str, Any]
    metadata: Mapping[str, str]
    placement: Placement

    @property
    def result(self) -> str:
        """Where the run is kept."""
        return f"{self.storage}/{self.name.run}"

    def request(self, name: Name) -> dict[str, Any]:
        """The JSON that the Jobs API is sent for an attempt."""
        environment = {**self.runtime_env.get("env_vars", {}), SUBMISSION: str(name)}
        told: dict[str, Any] = {
            "submission_id": str(name),
            "entrypoint": self.entrypoint,
            "runtime_env": {**self.runtime_env, "env_vars": environment},
            "metadata": {**self.metadata, "attempt": str(name.attempt)},
        }
        if self.placement.labels:
            told["entrypoint_label_selector"] = dict(self.placement.labels)
        if self.placement.cpus:
            told["entrypoint_num_cpus"] = self.placement.cpus
        return told


def make_submission(
    command: str,
    config_file: Path,
    overrides: Sequence[str],
    *,
    flags: Sequence[str] = (),
    include: Sequence[Path] = (),
    install: bool = False,
    placement: Placement | None = None,
) -> Submission:
    """Validate a configuration, pack it with the code, and name the job; nothing is sent.

    `flags` are further options of `python -m jobs COMMAND`. With `install` Ray installs what differs from
    `constraints.txt` for the job. Raises UserError for what would be refused on the cluster, too.
    """
    config = load_config(config_class(command), config_file, overrides)
    storage = resolve_storage(config.storage, inside_ray_job=True).url
    root = code_root()
    package, travelling = build_package(root, config_file, include)
    where = placement or Placement()
    where = replace(where, labels={**config.cluster.place.drivers, **where.labels})
    return Submission(
        name=Name.of(config, command),
        command=command,
        entrypoint=shlex.join(["python", "-m", "jobs", command, travelling, *overrides, *flags]),
        storage=storage,
        settings=settings_hash(config),
        package_uri=package.uri,
        package=package,
        runtime_env=_runtime_env(package.uri, config, root if install else None),
        metadata={
            "run": config.name,
            "storage": storage,
            "command": command,
            "settings": settings_hash(config),
            "configuration": dump_config(config),
            "include": json.dumps([str(path) for path in include]),
            "placement": where.to_json(),
        },
        placement=where,
    )


def _runtime_env(uri: str, config: JobSettings, install_from: Path | None) -> dict[str, Any]:
    """No secrets: Ray shows what is in here to whoever asks, and writes it into its logs."""
    wait_s = round(max(_graces(config), default=0.0)) + _STOPS_WITHIN_S
    environment: dict[str, Any] = {"working_dir": uri, "env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": str(wait_s)}}
    if install_from is not None:
        # What is there in the right version is left as it is; DeepSpeed is built against the torch that is there.
        environment["pip"] = {
            "packages": [_CONSTRAINED, *to_install(install_from)],
            "pip_check": False,
            "pip_install_options": ["--disable-pip-version-check", "--no-build-isolation"],
        }
    return environment


def _graces(config: JobSettings) -> Iterator[float]:
    """How long the trainings of a configuration may take for their last checkpoint."""
    jobs = config.jobs.values() if isinstance(config, PipelineConfig) else [config]
    for job in jobs:
        yield from _values_of("grace_s", job.model_dump(mode="json"))


def _values_of(key: str, data: Any) -> Iterator[float]:
    if isinstance(data, dict):
        if isinstance(data.get(key), int | float):
            yield float(data[key])
        for value in data.values():
            yield from _values_of(key, value)


def parse_labels(given: Sequence[str]) -> dict[str, str]:
    """Labels of a node from `key=value`. Raises ConfigError for what is none."""
    pairs = [one.partition("=") for one in given]
    if wrong := [one for one, (key, equals, value) in zip(given, pairs, strict=True) if not (key and equals and value)]:
        raise ConfigError(
            f"--driver-label {wrong[0]}: expected key=value, a label of the nodes that drivers may run on"
        )
    return {key: value for key, _, value in pairs}
