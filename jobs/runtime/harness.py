"""lm-evaluation-harness on Ray: actors that each hold one model, and are asked by one task after the other."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from cluster.warm import COLD_START
from llmcore.config.evaluate import EvaluateConfig
from llmcore.config.harness import HarnessSettings
from llmcore.cost import Ledger
from llmcore.errors import CheckpointError, ConfigError, RunError
from llmcore.evaluation.harness import Harness, Told, store_told, stored_told
from llmcore.storage import Folder

if TYPE_CHECKING:
    from llmcore.evaluation.harness.asking import AskedModel

__all__ = ["AskHarness", "Writer", "checked_harness", "plan_of_harness"]

_RESTARTS = 3
_QUIET = {"env_vars": {"TQDM_DISABLE": "1", "DISABLE_MULTIPROC": "1", **COLD_START}}
"""Bars that nobody sees, and processes beside the CPUs that an actor has: the harness is told of neither otherwise."""


def checked_harness(config: EvaluateConfig) -> Harness | None:
    """What a configuration has lm-evaluation-harness ask. Raises ConfigError where it is not installed, or cannot."""
    return None if config.harness is None else Harness.of(config.harness, config.num_resamples)


def plan_of_harness(settings: HarnessSettings | None) -> list[str]:
    """What `--dry-run` says of it."""
    if settings is None:
        return []
    further = f", and {', '.join(settings.models)}," if settings.models else ""
    return [f"Has lm-evaluation-harness ask all of them{further} by {', '.join(settings.tasks)}"]


class Writer(NamedTuple):
    """A published model that writes, by what it is called in messages."""

    name: str
    folder: Folder
    sha256: str


class _Asker:
    """The actor. When its process is lost it is started again, and asked again."""

    def __init__(self, num_threads: int) -> None:
        import torch

        torch.set_num_threads(num_threads)
        self._loaded: tuple[str, AskedModel] | None = None

    def ask(self, storage: Folder, harness: Harness, writer: Writer, task: str) -> None:
        """Ask a model, which is loaded once for all its tasks, and keep what is said."""
        from llmcore.evaluation.harness.asking import AskedModel

        try:
            if self._loaded is None or self._loaded[0] != writer.sha256:
                self._loaded = None  # Not two models in memory.
                self._loaded = (writer.sha256, AskedModel.load(writer.folder, writer.sha256, harness))
            store_told(storage, harness, task, writer.sha256, self._loaded[1].ask(harness, task))
        except (CheckpointError, ConfigError, RunError) as error:
            raise type(error)(f"{writer.name}: {error}") from error


@dataclass(frozen=True)
class AskHarness:
    """What asks models, for one attempt of an evaluation.

    Attributes:
        storage: Where it is kept what is said.
        harness: What is asked.
        num_workers: Actors, among which models and tasks are divided.
        cpus: CPUs that Ray reserves for each.
        gpus: GPUs that it reserves for each; `auto`: one where the cluster has one for each.
        ledger: Counts the seconds.
    """

    storage: Folder
    harness: Harness
    num_workers: int
    cpus: float
    gpus: float | Literal["auto"]
    ledger: Ledger

    def told(self, writer: Writer) -> dict[str, Told] | None:
        """What is kept of a model, by task; None where a task is not."""
        kept = {task: stored_told(self.storage, self.harness, task, writer.sha256) for task in self._tasks}
        complete = {task: told for task, told in kept.items() if told is not None}
        return complete if len(complete) == len(kept) else None

    def ask(self, writers: Sequence[Writer]) -> Iterator[tuple[Writer, dict[str, Told]]]:
        """What the harness says of each model, stored or new.

        Raises:
            RunError: A task cannot be asked, or an asking process was lost again and again.
            CheckpointError: A model is not what was published.
            ConfigError: The cluster has not the CPUs or GPUs for so many actors.
        """
        lacking = {one.sha256: one for one in writers if self.told(one) is None}
        if lacking:
            with self.ledger.measure("validation"):
                self._ask([(one, task) for one in lacking.values() for task in self._lacking(one)])
        for writer in writers:
            told = self.told(writer)
            assert told is not None, writer
            yield writer, told

    @property
    def _tasks(self) -> Sequence[str]:
        return self.harness.settings.tasks

    def _lacking(self, writer: Writer) -> list[str]:
        return [task for task in self._tasks if stored_told(self.storage, self.harness, task, writer.sha256) is None]

    def _ask(self, pairs: list[tuple[Writer, str]]) -> None:
        """Each pair of model and task goes to the next actor that is free."""
        import ray
        from ray.exceptions import RayActorError
        from ray.util import ActorPool

        from cluster.placement import placed, selector_of
        from cluster.resources import Need, check_fits, gpus_each
        from jobs.runtime.errors import our_errors

        number = min(self.num_workers, len(pairs))
        gpus = gpus_each(self.gpus, number)
        check_fits([Need("num_scorers", self.cpus, gpus, number, selector_of("evaluate"))])
        asker: Any = ray.remote(_Asker).options(
            num_cpus=self.cpus,
            num_gpus=gpus,
            max_restarts=_RESTARTS,
            max_task_retries=_RESTARTS,
            runtime_env=_QUIET,
            **placed("evaluate"),
        )
        actors = [asker.remote(max(1, int(self.cpus))) for _ in range(number)]
        try:
            with our_errors():
                for _ in ActorPool(actors).map_unordered(
                    lambda actor, pair: actor.ask.remote(self.storage, self.harness, *pair), pairs
                ):
                    pass
        except RayActorError as error:
            raise RunError(
                f"the harness' process was lost {_RESTARTS + 1} times, most likely for want of memory: lower "
                f"harness.batch_size or num_scorers, or give it more memory ({error})"
            ) from error
        finally:
            for actor in actors:
                ray.kill(actor)
