"""The scoring processes of the evaluation job: actors that keep torch and transformers loaded, and a model."""

import time
from collections import deque
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

from llmcore.config.common import WorkerSettings
from llmcore.cost import Ledger
from llmcore.errors import CheckpointError, RunError
from llmcore.evaluation.results import Evaluation, open_split, store_evaluation, stored_evaluation
from llmcore.evaluation.suite import Suite
from llmcore.logs import about, log, use_json
from llmcore.storage import Folder
from llmcore.tasks.evaluation_set import EvaluationSet, Split

if TYPE_CHECKING:
    from cluster.resources import Need
    from llmcore.evaluation.score import Predictions, Scorer

__all__ = ["Evaluator", "Scorers", "portions"]

_RESTARTS = 3
_PORTIONS_EACH = 4
"""Of a split, for each of several scorers: so few that batches stay full, so many that none waits long for the last."""
_LARGEST_PORTION = 4096
"""Rows that a scorer has at once, with what it says of them."""
_IDLE_S = 15.0
"""To start again takes half as long."""


@dataclass(frozen=True)
class _Published:
    """A model to judge, by what it is called in messages."""

    name: str
    folder: Folder
    sha256: str


class _Scorer:
    """The actor. What it does is idempotent: when its process is lost it is started again, and asked again."""

    def __init__(self, num_threads: int) -> None:
        import torch

        torch.set_num_threads(num_threads)
        use_json(False)
        self._num_threads = num_threads
        self._loaded: tuple[tuple[str, str], Scorer] | None = None

    def ready(self, suite: Suite) -> None:
        """Whether this machine can judge by the suite, before any model is loaded. Raises SandboxError."""
        if suite.runs_programs:
            from llmcore.evaluation.sandbox.check import check_sandbox

            check_sandbox()

    def predict(self, evaluator: "Evaluator", model: _Published, split: Split, portion: range) -> "Predictions":
        """What a model says of some rows of a split, in their order; it is loaded once for all of them."""
        wanted = (model.sha256, evaluator.suite.hash)  # how a model writes is the suite's
        if self._loaded is None or self._loaded[0] != wanted:
            from llmcore.evaluation.score import Scorer

            self._loaded = None  # Not two models in memory.
            about(**evaluator.who, kind="evaluate")
            log(f"a scorer loads {model.name}", model=model.folder.url)
            try:
                scorer = Scorer.load(
                    model.folder, sha256=model.sha256, suite=evaluator.suite, num_parallel=self._num_threads
                )
            except CheckpointError as error:
                raise CheckpointError(f"{model.name}: {error}") from error
            self._loaded = (wanted, scorer)
        rows = evaluator.evaluation_set.rows(split).slice(portion.start, len(portion))
        return self._loaded[1].predict(rows, batch_tokens=evaluator.batch_tokens)

    def judge(self, evaluator: "Evaluator", model: _Published, split: Split, *portions: "Predictions") -> None:
        """Judge what all of them said of the rows of a split, and store it."""
        from llmcore.evaluation.score import Predictions

        store_evaluation(
            evaluator.storage,
            evaluator.evaluation_set,
            evaluator.suite,
            split,
            model_sha256=model.sha256,
            predictions=Predictions.joined(portions),
            who=evaluator.who,
        )


@dataclass
class Scorers:
    """The actors, which all sets of an evaluation share; they start when a model has no stored result.

    Attributes:
        num: How many, among which the rows of a split are divided.
        cpus: CPUs that Ray reserves for each.
        gpus: GPUs that it reserves for each; `auto`: one where the cluster has one for each.
    """

    num: int
    cpus: float
    gpus: float | Literal["auto"]
    actors: list[Any] = field(default_factory=list, init=False, repr=False)
    _used: float = field(default=0.0, init=False, repr=False)
    _ready_for: set[str] = field(default_factory=set, init=False, repr=False)

    def start(self, suite: Suite) -> None:
        """Start them, unless they are there, and see that they can judge by a suite.

        Raises:
            ConfigError: The cluster has not the CPUs or GPUs for so many.
            SandboxError: What models write has to be run, and a machine cannot confine it.
        """
        import ray

        if not self.actors:
            from cluster.placement import placed
            from cluster.resources import check_fits

            need = self._need()
            check_fits([need])
            retries = {"max_restarts": _RESTARTS, "max_task_retries": _RESTARTS}
            reserved = {"num_cpus": need.cpus, "num_gpus": need.gpus}
            scorer = ray.remote(_Scorer).options(**reserved, **retries, **placed("evaluate"))
            self.actors = [scorer.remote(max(1, int(self.cpus))) for _ in range(self.num)]
        if suite.hash not in self._ready_for:
            ray.get([actor.ready.remote(suite) for actor in self.actors])
            self._ready_for.add(suite.hash)

    def close(self) -> None:
        """End them, if there are any; what Ray has reserved for them is free again. Others start when needed."""
        if self.actors:
            import ray

            for actor in self.actors:
                ray.kill(actor)
            self.actors, self._ready_for = [], set()

    def used(self) -> None:
        """They have just judged."""
        self._used = time.monotonic()

    def rest(self) -> None:
        """End them where they have had nothing to judge for a while: a trial may wait for what they hold.

        What is left of a cluster beside them may be enough in all, and too little on each node.
        """
        if time.monotonic() - self._used > _IDLE_S:
            self.close()

    def make_room_for(self, what: str, workers: WorkerSettings) -> None:
        """End them, if there are any, where it is not certain that such workers have room beside them."""
        from cluster.resources import fit_anyhow
        from jobs.runtime.training import worker_need

        if self.actors and not fit_anyhow([worker_need(what, workers), self._need()]):
            self.close()

    def _need(self) -> "Need":
        from cluster.placement import selector_of
        from cluster.resources import Need, gpus_each

        return Need("num_scorers", self.cpus, gpus_each(self.gpus, self.num), self.num, selector_of("evaluate"))


@dataclass
class Evaluator:
    """Judges models on one set, for one attempt of an evaluation.

    What the actors say of rows lies in Ray's object store, from where the one that judges reads it.

    Attributes:
        storage: Where results are stored.
        evaluation_set: The labelled set.
        suite: Metrics, intervals, and how models write.
        who: The attempt, for the register.
        batch_tokens: Tokens a model scores at once.
        scorers: The actors.
        ledger: Counts the seconds of starting and of judging.
    """

    storage: Folder
    evaluation_set: EvaluationSet
    suite: Suite
    who: dict[str, Any]
    batch_tokens: int
    scorers: Scorers
    ledger: Ledger

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"scorers": None, "ledger": None}

    def evaluation(self, name: str, split: Split, folder: Folder, sha256: str) -> Evaluation:
        """The evaluation of a published model, stored or new; `name` is for messages.

        Raises:
            CheckpointError: The model's folder is not what was published; the message has `name`.
            SandboxError: What it writes has to be run, and this machine cannot confine it.
            ConfigError: The cluster has not the CPUs or GPUs for so many scorers.
            RunError: A scoring process was lost again and again.
        """
        stored = stored_evaluation(self.storage, sha256, self.suite, split)
        if stored is not None:
            return stored
        if split == "test" and self.suite.fairness and self.suite.fairness.thresholds:
            self.evaluation(name, "validation", folder, sha256)  # there they are found
        from ray.exceptions import RayActorError

        from jobs.runtime.errors import our_errors

        model = _Published(name, folder, sha256)
        try:
            with our_errors():
                with self.ledger.measure("start_up", "imports"):
                    self.scorers.start(self.suite)
                with self.ledger.measure("validation"):
                    self._judge(model, split)
                self.scorers.used()
        except RayActorError as error:
            raise RunError(
                f"{name}: its scoring process was lost {_RESTARTS + 1} times, most likely for want of memory: lower "
                f"batch_tokens or num_scorers, or give it more memory ({error})"
            ) from error
        stored = stored_evaluation(self.storage, sha256, self.suite, split)
        assert stored is not None
        return stored

    def _judge(self, model: _Published, split: Split) -> None:
        """Each portion goes to the next actor that is free."""
        import ray

        open_split(self.storage, self.evaluation_set, self.suite, split, model_sha256=model.sha256, who=self.who)
        free = deque(self.scorers.actors)
        busy: dict[Any, Any] = {}
        said: list[Any] = []
        for portion in portions(self.evaluation_set.num_rows(split), self.scorers.num):
            if not free:
                [done], _ = ray.wait(list(busy))
                free.append(busy.pop(done))
            actor = free.popleft()
            said.append(actor.predict.remote(self, model, split, portion))
            busy[said[-1]] = actor
        ray.get(self.scorers.actors[0].judge.remote(self, model, split, *said))


def portions(num_rows: int, num_scorers: int) -> list[range]:
    """A split's rows, each in one portion, in their order: portions of as good as equal size, none of them empty."""
    wanted = 1 if num_scorers == 1 else _PORTIONS_EACH * num_scorers
    number = min(num_rows, max(wanted, -(-num_rows // _LARGEST_PORTION)))
    ends = [num_rows * part // number for part in range(number + 1)]
    return [range(begin, end) for begin, end in pairwise(ends)]
