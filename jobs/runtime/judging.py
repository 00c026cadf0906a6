"""The course of an evaluation: judge what there is on validation, choose, and open the test split for few."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from types import TracebackType
from typing import Any, Protocol, Self

from jobs.runtime.bias import Biases, MeasureBias
from jobs.runtime.candidates import Sources
from jobs.runtime.console import say
from jobs.runtime.harness import AskHarness, Writer
from jobs.runtime.metrics import RunMetrics
from jobs.runtime.options import RunOptions
from jobs.runtime.scorers import Evaluator, Scorers
from llmcore.config.evaluate import EvaluateConfig
from llmcore.config.fairness import COUNTERFACTUAL_GAP, FairnessChecks, check_group_columns
from llmcore.config.finetune import FinetuneConfig
from llmcore.config.judging import SEARCHED
from llmcore.errors import ConfigError, GateError, RunError
from llmcore.evaluation.baselines import baseline_model
from llmcore.evaluation.candidates import Candidate
from llmcore.evaluation.harness import Harness, Told, harness_json
from llmcore.evaluation.kinds import Subject
from llmcore.evaluation.leaderboard import Entry, Leaderboard, rank
from llmcore.evaluation.markdown import told_over
from llmcore.evaluation.outcome import Baseline, Outcome
from llmcore.evaluation.register import looks
from llmcore.evaluation.results import Evaluation, evaluate_once
from llmcore.evaluation.suite import Suite
from llmcore.evaluation.twin import twin_config
from llmcore.records import Attempt
from llmcore.storage import Folder
from llmcore.tasks.evaluation_set import EvaluationSet

__all__ = ["Finetune", "Judging"]


class Finetune(Protocol):
    """`jobs.finetune.finetune`: fine-tunes one model, and returns its run's result."""

    def __call__(self, config: FinetuneConfig, storage: Folder, options: RunOptions) -> Mapping[str, Any]:
        """The result names the published folder, `model`, under the storage, its `model_sha256` and `num_steps`."""


@dataclass
class Judging:
    """One attempt at one labelled set: from records and models to an outcome. As a context it is the attempt's.

    Fields as the arguments of `jobs.evaluate.evaluate`; `scorers` may serve other sets as well.
    """

    config: EvaluateConfig
    storage: Folder
    options: RunOptions
    attempt: Attempt
    sources: Sources
    harness: Harness | None
    finetune: Finetune
    scorers: Scorers
    candidates: list[Candidate] = field(default_factory=list)
    validation: dict[str, Evaluation] = field(default_factory=dict)
    _baselines: Sequence[str] = ()
    ended: bool = False

    def __enter__(self) -> Self:
        self.attempt.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if not self.ended:
            self.ended = True
            self._metrics.forget()
            self.attempt.__exit__(kind, error, traceback)

    def look(self) -> bool:
        """Judge on validation what has landed by now; whether no more will come.

        Raises `ConfigError` for a search that is not there and is not waited for.
        """
        if missing := self.sources.missing():
            if not self.config.follow:
                raise ConfigError(
                    f"no `tune` run at {', '.join(missing)}: run it first, or wait for it with follow=true"
                )
            return False
        closed = self.sources.closed()  # before the records are listed
        self.candidates = self.sources.candidates()
        for candidate in self.candidates:
            self._count()
            if candidate.model_sha256 is not None and candidate.model_sha256 not in self.validation:
                evaluation = self._evaluator.evaluation(str(candidate), "validation", *_model_of(candidate))
                self.validation[candidate.model_sha256] = evaluation
                say(f"evaluate: {candidate} ({candidate.status}) on validation: {_figures(evaluation)}")
        self._count()
        return closed or not self.config.follow

    def _count(self) -> None:
        """Tells who watches how many models have landed that are not judged."""
        landed = {one.model_sha256 for one in self.candidates if one.model_sha256 is not None}
        self._metrics.set("llmcore_evaluations_pending", len(landed - self.validation.keys()))

    @property
    def _metrics(self) -> RunMetrics:
        return RunMetrics(self.attempt.run.name, self.attempt.number, "evaluate")

    def conclude(self) -> Outcome:
        """Choose, once all is judged, and open the test split for the chosen model and the baselines.

        Raises `RunError` where no model may be chosen.
        """
        evaluator, labelled = self._evaluator, self._evaluator.evaluation_set
        board = rank([self._entry(candidate) for candidate in self.candidates], evaluator.suite)
        if board.leader is None:
            barred = [f"{entry.id}: {entry.barred}" for entry in board.entries if entry.barred]
            raise GateError("; ".join(barred)) if barred else RunError(_nothing_to_choose(self.candidates))
        chosen = next(candidate for candidate in self.candidates if candidate.id == board.leader.id)
        test = evaluator.evaluation(str(chosen), "test", *_model_of(chosen))
        made = {name: self._baseline(name, chosen, board, evaluator) for name in self._baselines}
        baselines = {name: baseline for name, baseline in made.items() if baseline is not None}
        num_looks = len(looks(self.storage, labelled.split_hash("test")))
        checked = self.sources.checked(labelled)
        searched = bool(self.sources.searches)
        if self.harness is not None or self.sources.biases is not None:
            self.scorers.close()  # the harness has processes of its own, and so has what measures bias
        told = None if self.harness is None else self._ask(self.harness)
        bias = None if self.sources.biases is None else self._measure_bias(self.sources.biases)
        return Outcome(
            labelled, evaluator.suite, board, board.leader, test, baselines, num_looks, checked, searched, told, bias
        )

    @cached_property
    def _evaluator(self) -> Evaluator:
        """Once all that is judged has begun; whatever cannot be is refused."""
        labelled = self.sources.labelled(self.config)
        suite = self._suite(labelled)
        for name in self.sources.strangers(labelled):
            say(f"evaluate: model {name} has learnt other data; rows of {labelled.name!r} may stand there")
        who = {"run": self.attempt.run.name, "attempt": self.attempt.number}
        return Evaluator(
            self.storage, labelled, suite, who, self.config.batch_tokens, self.scorers, self.attempt.ledger
        )

    def _suite(self, labelled: EvaluationSet) -> Suite:
        """What the models are judged by; whatever cannot be is refused."""
        config, subject = self.config, Subject.of(labelled)
        try:
            metrics, choose_by, baselines = config.judged_by(subject.kind)
            check_group_columns(config.fairness.groups if config.fairness else [], labelled.metadata, labelled.name)
        except ValueError as error:
            raise ConfigError(f"evaluation set {labelled.name!r}: {error}") from error
        suite = Suite(
            labelled.hash,
            subject,
            metrics,
            choose_by,
            config.num_resamples,
            config.seed,
            config.generation,
            config.fairness,
        )
        suite.all_metrics(), suite.choosing_metric()  # a metric that the set does not define is refused before any work
        if config.baselines is None and self.sources.searches:
            baselines = (*baselines, *(name for name in SEARCHED if name != "config" or self.sources.config_trials()))
        self.sources.check(suite, baselines, harness=self.harness is not None)
        self._baselines = baselines
        return suite

    def _entry(self, candidate: Candidate) -> Entry:
        validation = None if candidate.model_sha256 is None else self.validation[candidate.model_sha256]
        barred = _too_unfair(validation, self.config.fairness)
        return Entry(
            candidate.id, candidate.status, validation, candidate.error, candidate.settings, candidate.num_steps, barred
        )

    def _ask(self, harness: Harness) -> dict[str, Any]:
        """What lm-evaluation-harness says of all models that may be chosen, and of those that it alone is to ask."""
        writers = [*self._published(), *self.sources.further]
        config = self.config
        asking = AskHarness(
            self.storage, harness, config.num_scorers, config.cpus, self.scorers.gpus, self.attempt.ledger
        )
        told = {}
        for writer, by_task in asking.ask(writers):
            told[writer.name] = by_task
            say(f"evaluate: {writer.name} by lm-evaluation-harness: {_asked_figures(by_task)}")
        return harness_json(harness, told)

    def _measure_bias(self, biases: Biases) -> dict[str, Any]:
        """What published sets say of the same models, as far as they are language models, and of further ones."""
        measuring = MeasureBias.of(self.config, self.storage, biases, self.scorers.gpus, self.attempt.ledger)
        return measuring.measure(self._published())

    def _published(self) -> list[Writer]:
        """All models that may be chosen."""
        there = [one for one in self.candidates if one.model_sha256 is not None and one.status != "failed"]
        return [Writer(one.id, *_model_of(one)) for one in there]

    def _baseline(self, name: str, chosen: Candidate, board: Leaderboard, evaluator: Evaluator) -> Baseline | None:
        if name == "random_weights":
            return self._random_weights(chosen, evaluator)
        if name in SEARCHED:
            return self._judged_too(name, board, evaluator)
        model = baseline_model(name, evaluator.evaluation_set, evaluator.suite)
        test = evaluate_once(
            evaluator.storage,
            evaluator.evaluation_set,
            evaluator.suite,
            "test",
            model_sha256=model.model_sha256,
            predict=model.predict,
            who=evaluator.who,
        )
        return Baseline(test, model.describe(test))

    def _judged_too(self, name: str, board: Leaderboard, evaluator: Evaluator) -> Baseline | None:
        """Another one of the judged models, on test; None where there is none."""
        wanted = [board.runner_up.id] if name == "runner_up" and board.runner_up else []
        if name == "config":
            wanted = self.sources.config_trials()
        found = next((one for one in self.candidates if one.id in wanted and one.model_sha256), None)
        if found is None:
            say(
                f"evaluate: the baseline {name} is left out: "
                + ("it has failed" if wanted else "one model alone is judged")
            )
            return None
        test = evaluator.evaluation(str(found), "test", *_model_of(found))
        return Baseline(test, {"id": found.id})

    def _random_weights(self, chosen: Candidate, evaluator: Evaluator) -> Baseline:
        made = self.sources.source_of(chosen).fine_tuning()
        if made is None:
            raise RunError(f"the record of how {chosen} was made has gone: restore it, and evaluate again")
        twin = twin_config(self.config, self.storage, chosen, made)
        say(f"evaluate: fine-tuning the random-weights twin of {chosen}: {twin.name}")
        self.scorers.make_room_for(twin.name, twin.workers)
        result = self.finetune(twin, self.storage, self.options)
        folder, sha256 = self.storage / result["model"], result["model_sha256"]
        test = evaluator.evaluation("the random-weights baseline", "test", folder, sha256)
        about = {
            "run": twin.name,
            "num_steps": result["num_steps"],
            "chosen_num_steps": chosen.num_steps,
            "seed": chosen.seed,
        }
        return Baseline(test, about)


def _model_of(candidate: Candidate) -> tuple[Folder, str]:
    assert candidate.model is not None and candidate.model_sha256 is not None
    return candidate.model, candidate.model_sha256


def _too_unfair(validation: Evaluation | None, fairness: FairnessChecks | None) -> str | None:
    """Why a judged model may not be chosen; None where it may."""
    most = None if fairness is None else fairness.max_counterfactual_gap
    if validation is None or most is None:
        return None
    gap = validation.metrics.get(COUNTERFACTUAL_GAP)
    if gap is None:
        return "no row of validation names anybody of the pairs, so that its counterfactual gap is not known"
    return None if gap.value <= most else told_over(gap.to_json(), most)


def _nothing_to_choose(candidates: Sequence[Candidate]) -> str:
    if not candidates:
        return "the searches have no ended trial: there is nothing to judge"
    said = "; ".join(f"{one.id}: {' '.join((one.error or 'left no model').split())}" for one in candidates)
    return f"none of {len(candidates)} trials has a model that may be chosen: {said}"


def _asked_figures(by_task: Mapping[str, Told]) -> str:
    return ", ".join(
        f"{task} {metric} {_number(figure['value'])} ± {_number(figure['stderr'])}"
        for told in by_task.values()
        for task, about in told.tasks.items()
        for metric, figure in about["metrics"].items()
    )


def _number(value: float | None) -> str:
    return "?" if value is None else f"{value:.4g}"


def _figures(evaluation: Evaluation) -> str:
    return ", ".join(
        f"{name} {one.value:.3f} [{one.low:.3f}, {one.high:.3f}]" for name, one in evaluation.metrics.items()
    )
