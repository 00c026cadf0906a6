"""A Ray Train run of `train_worker`: placed, watched, and its failure told in our words."""

import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import ray.train
from ray.exceptions import RayActorError
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.v2._internal.callbacks.datasets import DatasetsCallback
from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer
from ray.train.v2.api.exceptions import WorkerGroupError

from cluster.placement import placed, selector_of
from cluster.resources import Need, gpus_each
from jobs.runtime.console import progress, say
from jobs.runtime.failures import FailureLog, in_our_words
from jobs.runtime.freeing import free_dead_groups
from jobs.runtime.interrupt import stop_first
from jobs.runtime.metrics import RunMetrics
from jobs.runtime.process_group import FormedByWorkers
from jobs.runtime.reader import OrderedSplit
from jobs.runtime.worker import train_worker
from llmcore.config.common import WorkerSettings
from llmcore.config.train import TrainSettings
from llmcore.cost import CATEGORIES, Ledger
from llmcore.errors import ConfigError, DivergedError, InterruptedRunError, RunError, StorageError
from llmcore.records import ask_to_stop, failures_of, seconds_before_restarts
from llmcore.storage import Folder
from llmcore.train.place import Place
from llmcore.train.trackers import check_trackers

__all__ = [
    "arrow_filesystem",
    "charge",
    "check_finished",
    "check_training",
    "gpus_per_worker",
    "idle_gpus",
    "run_workers",
    "watched",
    "worker_need",
]


def gpus_per_worker(workers: WorkerSettings) -> float:
    """GPUs of each worker: as configured, or one where the connected cluster has one for each."""
    return gpus_each(workers.gpus_per_worker, workers.min_workers)


def idle_gpus(workers: WorkerSettings) -> str | None:
    """What there is to say where the cluster has GPUs, and fewer of them than workers, which then take none."""
    has = ray.cluster_resources().get("GPU", 0.0)
    if workers.gpus_per_worker != "auto" or not 0 < has < workers.min_workers:
        return None
    return (
        f"the cluster has {has:g} GPU for {workers.told()} workers, who stay on the CPU: set workers.num_workers="
        f"{has:g} to train on it, or workers.gpus_per_worker=0 to say that this is meant"
    )


def worker_need(what: str, workers: WorkerSettings) -> Need:
    """What the workers ask of the cluster, elastic ones at the least."""
    each = (workers.cpus_per_worker, gpus_per_worker(workers))
    return Need(what, *each, workers.min_workers, selector_of("train"))


def check_training(train: TrainSettings, workers: WorkerSettings) -> None:
    """Raises ConfigError for what the connected cluster, or this installation, cannot train."""
    check_trackers(train.trackers)
    if train.precision == "fp16" and gpus_per_worker(workers) == 0:
        raise ConfigError("train.precision=fp16 needs GPUs, and the workers have none: use bf16 or fp32")


def run_workers(
    spec: Mapping[str, Any],
    workers: WorkerSettings,
    *,
    stream: Callable[[int], ray.data.Dataset] | None = None,
    callbacks: list[Any] | None = None,
) -> dict[str, Any]:
    """Runs `train_worker(spec)` on the workers; returns what rank 0 returned.

    `stream` is called with the world size, anew for each start of the worker group, so that a restart streams from
    where it goes on. SIGTERM and Ctrl-C have the workers save and leave: see `check_finished`. Raises the workers' own
    error where it is one of ours, else `RunError` with each failed rank and its reason.
    """
    gpus = gpus_per_worker(workers)
    if told := idle_gpus(workers):
        say(told)
    place = Place.from_json(spec["place"])
    records, metrics = place.records, RunMetrics.of(place, spec["kind"])
    os.environ |= _bounds(workers)
    # What a lost controller held is freed below, which needs no process, nor a dashboard.
    idle = (PlacementGroupCleanerCallback, *((DatasetsCallback,) if stream is None else ()))
    launched = time.time()
    metrics.launched(launched)
    trainer = _Trainer(
        train_worker,
        idle_callbacks=idle,
        train_loop_config={**spec, "launched": launched},
        backend_config=FormedByWorkers(),
        scaling_config=ScalingConfig(
            num_workers=(workers.min_workers, workers.num_workers) if workers.elastic else workers.num_workers,
            elastic_resize_monitor_interval_s=workers.resize_check_s,
            use_gpu=gpus > 0,
            resources_per_worker={"CPU": workers.cpus_per_worker} | ({"GPU": gpus} if gpus else {}),
            **placed("train"),
        ),
        run_config=RunConfig(
            # Named by the attempt, and thrown away: Ray resumes by itself from a name that it knows.
            name="ray",
            storage_path=str(records.local_path() or records.path),
            storage_filesystem=None if records.local_path() else arrow_filesystem(records),
            failure_config=FailureConfig(max_failures=workers.max_failures),
            callbacks=[FailureLog(records, metrics), *(callbacks or [])],
        ),
        datasets={"train": None} if stream is not None else None,
        dataset_config=OrderedSplit(stream) if stream is not None else None,
    )
    try:
        with stop_first(partial(_ask, records, workers.grace_s), workers.grace_s):
            outcome: dict[str, Any] | None = trainer.fit().return_value
    except WorkerGroupError as error:
        raise in_our_words(error.worker_failures, str(error)) from error
    except RayActorError:  # the controller is lost
        free_dead_groups()
        raise
    finally:
        metrics.forget()
        records.delete("ray")
    if outcome is None:
        raise RunError("the workers ended without a result: the run was aborted")
    if "diverged" in outcome:
        raise DivergedError(outcome["diverged"])
    return {**outcome, "num_restarts": len(failures_of(records))}


def _ask(records: Folder, grace_s: float, why: str) -> None:
    """Has the workers save and leave, and says so."""
    say(f"{why}: training saves its step and stops, within {grace_s:g} s; a second signal ends it at once")
    try:
        ask_to_stop(records, why)
    except StorageError as error:
        say(f"training could not be asked to stop: {error}")


class _Trainer(DataParallelTrainer):  # type: ignore[misc]  # Ray is not typed
    def __init__(self, *given: Any, idle_callbacks: tuple[type, ...], **named: Any) -> None:
        """`idle_callbacks` are Ray's own that would start an actor, a process each, with nothing to do."""
        super().__init__(*given, **named)
        self._idle_callbacks = idle_callbacks

    def _create_default_callbacks(self) -> list[Any]:
        return [one for one in super()._create_default_callbacks() if not isinstance(one, self._idle_callbacks)]

    def _register_sigint_handler(self, controller: Any) -> None:
        """Nothing: Ray's own would abort at once and end with code 0; ours (`stop_first`) stands."""


def _bounds(workers: WorkerSettings) -> dict[str, str]:
    """Ray Train's own bounds, which it takes from the driver's environment alone."""
    bounds = {"RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S": str(workers.hang_s)}
    if workers.elastic:
        # What it thinks the cluster has may be older than a node's loss by 20 s; then it must not wait for long.
        bounds["RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"] = os.environ.get(
            "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", "20"
        )
    return bounds


def arrow_filesystem(folder: Folder) -> Any:
    """The file system of a folder that is on no disk, as Ray takes it."""
    from pyarrow.fs import FSSpecHandler, PyFileSystem

    return PyFileSystem(FSSpecHandler(folder.fs))


def check_finished(outcome: Mapping[str, Any]) -> None:
    """Raises InterruptedRunError where the workers left before the end, having been asked to."""
    if outcome["stopped"]:
        raise InterruptedRunError(
            f"interrupted; the checkpoint of step {outcome['num_steps']} is saved, and the same command goes on from it"
        )


def charge(ledger: Ledger, outcome: Mapping[str, Any], fit_s: float, records: Folder) -> None:
    """Adds the workers' ledger to the run's; what passed besides was spent on shutting down.

    Where the group was started anew, the last one's ledger counts all since the first launch as its placement. Of that,
    what the others spent on steps that stayed is told by their rows; the rest, steps that were taken again included, is
    what the restart cost.
    """
    spent = outcome["ledger"]
    ledger.hold(spent["devices"], spent["device"])
    ledger.merge(spent)
    earlier = seconds_before_restarts(records)
    if earlier is not None:
        waited_s = spent["start_up_parts"].get("placement", 0.0)
        ledger.add("start_up", -waited_s, "placement")
        for category in CATEGORIES:
            ledger.add(category, earlier.get(category, 0.0))
        ledger.add("restart", max(0.0, waited_s - sum(earlier.values())))
    ledger.add("idle", max(0.0, fit_s - sum(spent["seconds"].values())))


@contextmanager
def watched(records: Folder, description: str, num_steps: int) -> Iterator[None]:
    """Shows the progress of a run from the metrics that its rank 0 writes, wherever that is."""
    done = threading.Event()

    def follow() -> None:
        rows: list[dict[str, Any]] = []
        with ExitStack() as stack:
            shown = None
            while not done.wait(1.0):
                rows = _newest_rows(records / "metrics") or rows
                if rows and shown is None:  # from the first news on: what went before was starting up
                    shown = stack.enter_context(progress(num_steps, "steps", description, initial=rows[0]["step"]))
                if rows and shown is not None:
                    last = rows[-1]
                    shown.reach(last["step"], f"loss {last['loss']:.3f}, {last['tokens_per_s']:,.0f} tokens/s")

    thread = threading.Thread(target=follow, daemon=True, name="watch")
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _newest_rows(parts: Folder) -> list[dict[str, Any]]:
    names = parts.names()
    lines = (parts.find_bytes(names[-1]) or b"").splitlines() if names else []
    return [row for row in map(json.loads, lines) if "loss" in row]
