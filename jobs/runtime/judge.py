"""The scoring process of the evaluation job: one actor that keeps torch and transformers loaded."""

from dataclasses import dataclass, field
from typing import Any

from llmcore.cost import Ledger
from llmcore.errors import CheckpointError
from llmcore.evaluation.results import Evaluation, evaluate_once, stored_evaluation
from llmcore.evaluation.suite import Suite
from llmcore.storage import Folder
from llmcore.tasks.evaluation_set import EvaluationSet, Split

__all__ = ["Evaluator"]

_RESTARTS = 3


class _Judge:
    """The actor. What it does is idempotent: when its process is lost it is started again, and asked again."""

    def __init__(self, num_threads: int) -> None:
        import torch

        torch.set_num_threads(num_threads)

    def judge(self, evaluator: "Evaluator", name: str, split: Split, model: Folder, sha256: str) -> None:
        """Load a model and store its evaluation."""
        from llmcore.evaluation.score import Predictions, Scorer

        def predict(rows: Any) -> Predictions:
            return Scorer.load(model, sha256=sha256).predict(rows, batch_tokens=evaluator.batch_tokens)

        try:
            evaluate_once(
                evaluator.storage,
                evaluator.evaluation_set,
                evaluator.suite,
                split,
                model_sha256=sha256,
                predict=predict,
                who=evaluator.who,
            )
        except CheckpointError as error:
            raise CheckpointError(f"{name}: {error}") from error


@dataclass
class Evaluator:
    """Judges models for one attempt of an evaluation; the actor starts with the first that has no stored result.

    Attributes:
        storage: Where results are stored.
        evaluation_set: The labelled set.
        suite: Metrics and intervals.
        who: The attempt, for the register.
        batch_tokens: Tokens a model scores at once.
        cpus: CPUs that Ray reserves for the actor.
        ledger: Counts the seconds of starting and of judging.
    """

    storage: Folder
    evaluation_set: EvaluationSet
    suite: Suite
    who: dict[str, Any]
    batch_tokens: int
    cpus: float
    ledger: Ledger
    _actor: Any = field(default=None, init=False, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_actor": None, "ledger": None}

    def evaluation(self, name: str, split: Split, model: Folder, sha256: str) -> Evaluation:
        """The evaluation of a published model, stored or new; `name` is for messages.

        Raises:
            CheckpointError: The model's folder is not what was published; the message has `name`.
        """
        stored = stored_evaluation(self.storage, sha256, self.suite, split)
        if stored is not None:
            return stored
        import ray

        with self.ledger.measure("start_up", "imports"):
            self._start()
        with self.ledger.measure("validation"):
            ray.get(self._actor.judge.remote(self, name, split, model, sha256))
        stored = stored_evaluation(self.storage, sha256, self.suite, split)
        assert stored is not None
        return stored

    def close(self) -> None:
        """End the actor; its CPUs are free again."""
        if self._actor is not None:
            import ray

            ray.kill(self._actor)
            self._actor = None

    def _start(self) -> None:
        if self._actor is None:
            import ray

            retries = {"max_restarts": _RESTARTS, "max_task_retries": _RESTARTS}
            judge = ray.remote(_Judge).options(num_cpus=self.cpus, **retries)
            self._actor = judge.remote(max(1, int(self.cpus)))
            ray.get(self._actor.__ray_ready__.remote())
