"""One way to a Ray cluster: a local one of our own, the one a Ray job runs on, or one that runs already."""

import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.guardian import Guardian
from cluster.placement import check_labels, place_environment
from cluster.warm import WarmStart, runtime_env
from llmcore.config.common import ClusterSettings
from llmcore.errors import ConfigError
from llmcore.logs import FORMAT

__all__ = ["Session", "connect", "inside_ray_job", "set_environment", "why_unreachable", "worker_environment"]

_JOB_CONFIG = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Set, under this very name, by the supervisor that starts a Ray job's entrypoint."""

_LOCAL_RAY = "LLMCORE_LOCAL_RAY"
"""Set for the stages of a pipeline: the address of the local Ray that it has started for them."""

_AUTH_MODE = "RAY_AUTH_MODE"
_ANSWER_WITHIN_S = 5.0
_STARTING_AT_ONCE = 16


@dataclass(frozen=True)
class Session:
    """A connection to a cluster."""

    address: str
    """`host:port` of the cluster."""
    started_here: bool
    """Whether the cluster is a local one that ends with this process."""
    connect_s: float
    """Seconds from the call of `connect` to the cluster's answer, the import of Ray among them."""
    num_cpus: float
    num_gpus: float
    environment: dict[str, str]
    """What the workers were given on top of their own environment."""
    for_stages: dict[str, str]
    """What a further process of this command needs in its environment to be on the same cluster."""


def inside_ray_job() -> bool:
    """Whether `ray job submit` started this process; needs no Ray."""
    return _JOB_CONFIG in os.environ


@contextmanager
def connect(settings: ClusterSettings, *, verbose: bool = False, code: Sequence[Path] = ()) -> Iterator[Session]:
    """Connect as configured, for the time of a `with` block; a cluster started here ends with it, and with the process.

    With `verbose`, what Ray and the workers print comes to the terminal. The folders of packages in `code` travel to
    the nodes of a cluster that was there before, which may not have them.
    Raises ConfigError when there is no cluster at the configured address, it refuses us, or none of its nodes has the
    labels that a part of the job asks for.
    """
    started = time.monotonic()
    own = os.environ.get(_LOCAL_RAY) if _is_local(settings) else None
    starts_one = _is_local(settings) and own is None
    environment = set_environment(settings)
    place = place_environment(settings)
    on_sigterm = signal.getsignal(signal.SIGTERM)
    guardian = Guardian() if starts_one else None
    # On a machine with GPUs what is imported before a fork may not have looked at them: not tried yet.
    warm = WarmStart() if starts_one and not _has_gpu() else None
    added = place | (warm.environment if warm else {})
    outer = {name: os.environ.get(name) for name in added}
    try:
        os.environ |= added
        import ray

        chatter = {"log_to_driver": verbose, "logging_level": "INFO" if verbose else "ERROR"}
        if guardian is not None:
            context = ray.init(
                address="local",
                num_cpus=settings.num_cpus,
                include_dashboard=verbose,  # ten processes, which start for as long as all others together
                dashboard_host="127.0.0.1",
                runtime_env=runtime_env(),
                _system_config={
                    # Small workers are many: by default Ray warns of more than a few for each CPU.
                    "worker_maximum_startup_concurrency": _STARTING_AT_ONCE,
                    # Those that it starts beforehand would be cold.
                    **({"prestart_worker_first_driver": False} if warm else {}),
                },
                **chatter,
            )
            guardian.watch(Path(context.address_info["session_dir"]).name)
        else:
            address = own or ("auto" if settings.address == "local" else settings.address)
            travelling = {"py_modules": [str(folder) for folder in code]} if code else {}
            # Workers of a local Ray have the environment of who started it, but for where its parts run.
            _join(address, _environment_of_job(place, environment, own=own is not None) | travelling, chatter)
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, on_sigterm)  # ray.init has put one that exits with code 15 in its place
        resources = ray.cluster_resources()
        gcs_address = ray.get_runtime_context().gcs_address
        check_labels(settings)
        yield Session(
            address=gcs_address,
            started_here=starts_one,
            connect_s=time.monotonic() - started,
            num_cpus=resources.get("CPU", 0.0),
            num_gpus=resources.get("GPU", 0.0),
            environment=environment,
            for_stages=_for_stages(gcs_address, warm) if starts_one else {},
        )
    finally:
        if (shutdown := getattr(sys.modules.get("ray"), "shutdown", None)) is not None:  # none: its import was cut off
            shutdown()  # from a cluster that was there before, this takes leave only
        if warm is not None:
            warm.end()
        for name, value in outer.items():
            os.environ.pop(name)
            os.environ |= {} if value is None else {name: value}
        if guardian is not None:
            guardian.let_go()


def _environment_of_job(place: dict[str, str], environment: dict[str, str], *, own: bool) -> dict[str, Any]:
    """The runtime environment of a job on a cluster that is there already."""
    if own:
        return {**runtime_env(), **({"env_vars": place} if place else {})}
    return {"env_vars": _not_set_by_job(environment | place)}


def _for_stages(address: str, warm: WarmStart | None) -> dict[str, str]:
    given = {_LOCAL_RAY: address, **(warm.environment if warm else {})}
    if _AUTH_MODE in os.environ:  # ray.init has set it
        given[_AUTH_MODE] = os.environ[_AUTH_MODE]
    return given


def set_environment(settings: ClusterSettings) -> dict[str, str]:
    """Set what Ray reads of the environment, also when it is imported; returns what the workers are given of it."""
    environment = worker_environment(local=_is_local(settings))
    for name, value in {**environment, "TUNE_GLOBAL_CHECKPOINT_S": "2"}.items():
        os.environ.setdefault(name, value)
    return environment


def _is_local(settings: ClusterSettings) -> bool:
    return settings.address == "local" and not inside_ray_job()


def worker_environment(*, local: bool) -> dict[str, str]:
    """What every worker needs in its environment; no secrets, since Ray shows these in its logs."""
    # Without a GPU of its own a process is to see none: by itself Ray (2.60) shows it all.
    environment = {"RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1"}
    if local:
        environment["RAY_TRAIN_ENABLE_PREEMPTION_WATCHER"] = "0"  # nobody takes this machine away: a process less a run
        environment["RAY_TRAIN_HEALTH_CHECK_INTERVAL_S"] = "0.25"  # each report waits for a look at the workers
    if local and not _has_gpu():
        environment["DS_ACCELERATOR"] = "cpu"
    if not local:
        environment[FORMAT] = "json"
    return {name: os.environ.get(name, value) for name, value in environment.items()}


def _has_gpu() -> bool:
    devices = Path("/dev")
    return any(devices.glob("nvidia[0-9]*")) or (devices / "kfd").exists()


def _join(address: str, environment: dict[str, Any], chatter: dict[str, Any]) -> None:
    """Connect to a cluster that runs already, after a look whether it answers at all: Ray itself waits for minutes."""
    import ray
    from ray._private.services import canonicalize_bootstrap_address_or_die

    try:
        host, _, port = canonicalize_bootstrap_address_or_die(address).rpartition(":")
        with socket.create_connection((host.strip("[]"), int(port)), timeout=_ANSWER_WITHIN_S):
            pass
        ray.init(address=address, runtime_env=environment, **chatter)
    except (OSError, RuntimeError, ValueError) as error:  # a ConnectionError is an OSError
        raise ConfigError(f"cluster.address={address!r}: {why_unreachable(error)}") from error


def why_unreachable(error: BaseException) -> str:
    """Why there is no way to a cluster, and the fix, from what Ray raised."""
    from ray.exceptions import AuthenticationError

    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, AuthenticationError) or "AuthenticationError" in str(cause):
            return (
                "the cluster asks for its token and got none or another; set RAY_AUTH_MODE=token, and where the token "
                "is not in ~/.ray/auth_token, RAY_AUTH_TOKEN_PATH"
            )
        cause = cause.__cause__
    reason = " ".join(str(error).split()).partition(". Please")[0]
    return (
        f"no Ray cluster can be reached ({reason}); start one with `ray start --head`, name another by `host:port`, "
        "or use cluster.address=local"
    )


def _not_set_by_job(environment: dict[str, str]) -> dict[str, str]:
    """Without what the job's own runtime environment sets: Ray takes no variable twice, and the submitter's stands."""
    job = json.loads(os.environ.get(_JOB_CONFIG, "{}"))
    taken = (job.get("runtime_env") or {}).get("env_vars") or {}
    return {name: value for name, value in environment.items() if name not in taken}
