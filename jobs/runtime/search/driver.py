"""What drives one trial: a Ray Train run of its workers, whose validations are told to Tune."""

import json
import secrets
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Listener
from pathlib import Path
from typing import Any

from ray.train import UserCallback

from jobs.runtime.console import say
from jobs.runtime.freeing import free_dead_groups
from jobs.runtime.metrics import RunMetrics
from jobs.runtime.search.causes import Cause, cause_of, may_pass
from jobs.runtime.search.held import held_device_s
from jobs.runtime.search.lives import Life, begin_life, newest_life
from jobs.runtime.search.plan import SearchPlan
from llmcore.config.finetune import FinetuneConfig
from llmcore.errors import CheckpointError, LLMCoreError
from llmcore.logs import about, log, use_json
from llmcore.records import FAILURE, STOP, TIMING, ask_to_stop
from llmcore.storage import Folder
from llmcore.train.place import Place

__all__ = ["DONOR", "drive", "failure_of"]

DONOR = "donor.json"
"""In a checkpoint of Tune's: which life it is of, and the step. The checkpoint itself stays where it is."""
_STARTED = "started.json"
_END = None


def drive(tune_config: Mapping[str, Any], *, plan: SearchPlan, search: str, attempt: int) -> None:
    """Trains a trial to its end, again where what ended it may pass.

    It does not raise: why it failed is written down, so that what Tune itself sees fail is a driver that was lost.

    Args:
        tune_config: `point`: the `trial`, and its `values` by dotted key.
        plan: What all trials have in common.
        search: URL of the search's run.
        attempt: Number of its attempt.
    """
    import ray.tune

    trial, values = tune_config["point"]["trial"], tune_config["point"]["values"]
    folder = Folder(search) / "trials" / trial
    life = _life(folder, values, ray.tune.get_checkpoint())
    place = _place(life, search, attempt)
    records, metrics = place.records, RunMetrics.of(place, "finetune")
    use_json(False)
    about(**metrics.who())
    log(f"{trial} begins with {values}")
    _begin(records)
    try:
        config = plan.finetuning(trial, values)
        hours = plan.config.trial_hours
        if hours is not None:
            hours -= held_device_s(Folder(search), [trial], alive=attempt) / config.workers.num_workers / 3600
        with _ended_after(records, hours) as late:
            outcome = _train(config, plan, life, search, attempt)
        if outcome["stopped"] and late.is_set():
            _fail(records, "timeout", f"it took longer than trial_hours={plan.config.trial_hours:g}")
    except Exception as error:
        words = str(error) if isinstance(error, LLMCoreError) else f"{type(error).__name__}: {error}"
        log(f"{trial} failed: {words}", error=error)
        _fail(records, cause_of(error), words)


def _life(trial: Folder, values: Mapping[str, Any], checkpoint: Any) -> Life:
    """The one that goes on: a further one, where Tune has handed on another trial's checkpoint."""
    life, donor = newest_life(trial), _donor(checkpoint)
    if donor is None or life.is_of(donor):
        return life
    try:
        return begin_life(trial, values, donor)
    except CheckpointError as error:
        say(f"{trial.name}: {error}; it goes on with its own weights")
        return life


def _begin(records: Folder) -> None:
    """Waits for the ranks of a driver of this life that was lost, and takes back what it has written of its end.

    They live on for a moment, and would delete what this one reads.
    """
    if records.exists(_STARTED):
        free_dead_groups()
        time.sleep(TIMING.drained_s)
    for name in (FAILURE, STOP):
        records.delete(name)
    records.write_json(_STARTED, {"time": time.time()})


def failure_of(records: Folder) -> dict[str, Any] | None:
    """`cause` and `error` of a trial's attempt that has failed."""
    return records.find_json(FAILURE)


def _fail(records: Folder, cause: Cause, error: str) -> None:
    records.write_json(FAILURE, {"cause": cause, "error": error, "time": time.time()})


def _place(life: Life, search: str, attempt: int) -> Place:
    return Place.beneath(Folder(search), attempt, life.folder)


def _train(config: FinetuneConfig, plan: SearchPlan, life: Life, search: str, attempt: int) -> dict[str, Any]:
    from jobs.finetune import worker_spec
    from jobs.runtime.training import run_workers

    # Ray Train would begin anew after whatever went wrong; here it depends on what that was.
    workers = config.workers.model_copy(update={"max_failures": 0})
    left = config.workers.max_failures
    while True:
        spec = worker_spec(config, plan.reads, _place(life, search, attempt), verbose=plan.verbose)
        try:
            with _told_to_tune(life) as callback:
                return run_workers(spec, workers, callbacks=[callback])
        except Exception as error:
            if not left or not may_pass(cause_of(error)):
                raise
        left -= 1


class _Tell(UserCallback):  # type: ignore[misc]  # Ray is not typed
    """Sends the first rank's report to the driver, from Ray Train's controller, which is on the driver's node.

    By a socket: Ray's own queue would be a process more for each trial.
    """

    def __init__(self, address: Any, key: bytes) -> None:
        self._address, self._key = address, key

    def after_report(self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Any) -> None:
        """All ranks have reported."""
        with Client(self._address, authkey=self._key) as driver:
            driver.send(metrics[0])


@contextmanager
def _told_to_tune(life: Life) -> Iterator[_Tell]:
    """A callback for the workers' run, whose reports are told to Tune, with who could be a donor at their step."""
    key = secrets.token_bytes(32)
    listener = Listener(family="AF_UNIX", authkey=key)

    def tell() -> None:
        import ray.tune

        while (report := _received(listener)) is not _END:
            with tempfile.TemporaryDirectory() as folder:
                told = {"life": life.folder.url, "step": report["step"]}
                Path(folder, DONOR).write_text(json.dumps(told), encoding="utf-8")
                ray.tune.report(report, checkpoint=ray.tune.Checkpoint.from_directory(folder))

    thread = threading.Thread(target=tell, daemon=True, name="tell-tune")
    thread.start()
    try:
        yield _Tell(listener.address, key)
    finally:
        with Client(listener.address, authkey=key) as own:
            own.send(_END)
        thread.join()
        listener.close()


def _received(listener: Listener) -> Any:
    """What the next one who connects has to say; who breaks off, or has no key, is passed over."""
    while True:
        with suppress(OSError, EOFError, AuthenticationError), listener.accept() as sender:
            return sender.recv()


@contextmanager
def _ended_after(records: Folder, hours: float | None) -> Iterator[threading.Event]:
    """Has the workers save and leave after so many hours; the event says that they were asked to."""
    late = threading.Event()

    def end() -> None:
        late.set()
        ask_to_stop(records, "trial_hours")

    timer = threading.Timer(max(0.0, 3600 * hours), end) if hours is not None else None
    if timer is not None:
        timer.daemon = True
        timer.start()
    try:
        yield late
    finally:
        if timer is not None:
            timer.cancel()


def _donor(checkpoint: Any) -> dict[str, Any] | None:
    if checkpoint is None:
        return None
    with checkpoint.as_directory() as folder:
        return json.loads(Path(folder, DONOR).read_text(encoding="utf-8"))  # type: ignore[no-any-return]
