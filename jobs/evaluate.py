"""`evaluate`: one shared job that judges every trial as it lands, chooses, and opens the test split for few."""

import threading
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, Protocol

from jobs.runtime.console import say
from jobs.runtime.judge import Evaluator
from jobs.runtime.options import RunOptions
from jobs.runtime.start import find_or_do
from llmcore.config.common import JobSettings
from llmcore.config.evaluate import EvaluateConfig
from llmcore.config.finetune import FinetuneConfig
from llmcore.config.tune import TuneConfig
from llmcore.errors import ConfigError, CorpusError, InterruptedRunError, RunError
from llmcore.evaluation.baselines import baseline_model
from llmcore.evaluation.kinds import Subject
from llmcore.evaluation.leaderboard import Entry, rank
from llmcore.evaluation.outcome import Baseline, Outcome
from llmcore.evaluation.register import looks
from llmcore.evaluation.results import Evaluation, evaluate_once
from llmcore.evaluation.searches import Search, Trial, trials_hash
from llmcore.evaluation.suite import Suite
from llmcore.evaluation.twin import twin_config
from llmcore.records import Attempt, begin_attempt, finished_result, run_folder
from llmcore.storage import Folder, read_manifest
from llmcore.tasks.bases import find_base
from llmcore.tasks.evaluation_set import EvaluationSet

__all__ = ["Finetune", "evaluate", "plan", "result_line", "run"]

KIND = "evaluate"
STEP_VERSION = 2


class Finetune(Protocol):
    """`jobs.finetune.finetune`: fine-tunes one model, and returns its run's result."""

    def __call__(self, config: FinetuneConfig, storage: Folder, options: RunOptions) -> Mapping[str, Any]:
        """The result names the published folder, `model`, under the storage, its `model_sha256` and `num_steps`."""


def run(config: EvaluateConfig, options: RunOptions) -> None:
    """`python -m jobs evaluate`."""
    result, _ = find_or_do(config, options, finished, lambda storage, _: evaluate(config, storage, options))
    say(result_line(result))


def plan(config: JobSettings) -> list[str]:
    """What `--dry-run` says."""
    assert isinstance(config, EvaluateConfig)
    of_kind = "those of the task's kind"
    metrics, baselines = (", ".join(given) if given else of_kind for given in (config.metrics, config.baselines))
    return [
        f"Judges every trial of {', '.join(config.searches)} on validation by metrics: {metrics}",
        f"Chooses by validation {config.choose_by or of_kind}, and opens the test split for the chosen model and the "
        f"baselines: {baselines}",
    ]


def finished(config: EvaluateConfig, storage: Folder) -> dict[str, Any] | None:
    """The result of an earlier start, if there is nothing to judge that it has not judged."""
    result = finished_result(storage, config, kind=KIND, step_version=STEP_VERSION, inputs={})
    if result is None or result["trials_hash"] != trials_hash(_trials(_searches(config, storage))):
        return None
    return result if read_manifest(storage / config.name / "evaluation") is not None else None


def result_line(result: Mapping[str, Any]) -> str:
    """The result in one line."""
    metric, test = result["choose_by"], result["test"].get(result["choose_by"])
    others = [
        f"{name.replace('_', ' ')} {figures[metric]['value']:.3f}"
        for name, figures in result["baselines"].items()
        if metric in figures
    ]
    against = f", against {' and '.join(others)}" if others else ""
    ends = f"{test['value']:.3f} [{test['low']:.3f}, {test['high']:.3f}]" if test else "undefined"
    return (
        f"evaluate: trial {result['chosen']} has test {metric} {ends}{against}; "
        f"look {result['register_looks']} at this test split"
    )


def evaluate(
    config: EvaluateConfig,
    storage: Folder,
    options: RunOptions,
    *,
    finetune: Finetune | None = None,
    stop: threading.Event | None = None,
) -> dict[str, Any]:
    """Judge, choose, and write the leaderboard; Ray is connected. It may run in a thread beside the search.

    Args:
        config: What to judge and how; with `follow` it waits until every search says that it is closed.
        storage: Where runs and artifacts are kept.
        options: How the job was started.
        finetune: Trains the baseline from random weights; `jobs.finetune.finetune` by default.
        stop: Set it to end the waiting, as when the search has failed.

    Raises:
        RunError: No trial has a model that may be chosen; the message names them all.
        ConfigError: A search does not exist, or the searches learn different labelled sets.
        CheckpointError: A trial's model is not what was published; the message names it.
        InterruptedRunError: `stop` was set.
    """
    result = finished(config, storage)
    if result is not None:
        return result
    searches = _searches(config, storage)
    attempt = begin_attempt(
        storage,
        config,
        kind=KIND,
        step_version=STEP_VERSION,
        inputs={},
        parents=config.searches,
        allow_changes=options.allow_changes,
        say=say,
    )
    with attempt:
        work = _Work(config, storage, options, attempt, searches, finetune or _finetune(), stop or threading.Event())
        outcome = work.judge()
        figures = outcome.write(attempt.run / "evaluation")
        attempt.result = {
            "choose_by": outcome.suite.choose_by,
            "chosen": outcome.chosen.id,
            "num_trials": len(outcome.board.entries),
            "num_failed_trials": sum(entry.status == "failed" for entry in outcome.board.entries),
            "test": outcome.test.metrics_json(),
            "baselines": {name: baseline["test"] for name, baseline in figures["baselines"].items()},
            "differences": figures["differences"],
            "register_looks": outcome.num_looks,
            "trials_hash": work.trials_hash,
        }
    return attempt.result


def _finetune() -> Finetune:
    from jobs.finetune import finetune

    return finetune


def _searches(config: EvaluateConfig, storage: Folder) -> list[Search]:
    folders = [run_folder(storage, one) for one in config.searches]
    if len({folder.name for folder in folders}) < len(folders):
        raise ConfigError(f"searches={config.searches} has one name twice: trials could not be told apart")
    return [Search(folder, f"{folder.name}/" if len(folders) > 1 else "") for folder in folders]


def _trials(searches: list[Search]) -> list[Trial]:
    return [trial for search in searches for trial in search.trials()]


@dataclass
class _Work:
    """One attempt: from the searches' records to an outcome. Fields as the arguments of `evaluate`."""

    config: EvaluateConfig
    storage: Folder
    options: RunOptions
    attempt: Attempt
    searches: list[Search]
    finetune: Finetune
    stop: threading.Event
    trials_hash: str = ""
    validation: dict[str, Evaluation] = field(default_factory=dict)

    def judge(self) -> Outcome:
        """Judge what the searches leave, choose, and open the test split for the chosen model and the baselines."""
        tuned = self._configs()
        labelled = self._evaluation_set(tuned)
        suite, names = self._suite(labelled)
        who = {"run": self.attempt.run.name, "attempt": self.attempt.number}
        batch_tokens, cpus = self.config.batch_tokens, self.config.cpus
        evaluator = Evaluator(self.storage, labelled, suite, who, batch_tokens, cpus, self.attempt.ledger)
        with closing(evaluator):
            trials = self._follow(evaluator)
            self.trials_hash = trials_hash(trials)
            board = rank([self._entry(trial) for trial in trials], suite)
            if board.leader is None:
                raise RunError(_nothing_to_choose(trials))
            chosen = next(trial for trial in trials if trial.id == board.leader.id)
            test = evaluator.evaluation(f"trial {chosen.id}", "test", *_model_of(chosen))
            baselines = {name: self._baseline(name, chosen, evaluator) for name in names}
        num_looks = len(looks(self.storage, labelled.split_hash("test")))
        checked = _checked(tuned, labelled)
        return Outcome(labelled, suite, board, board.leader, test, baselines, num_looks, checked)

    def _configs(self) -> dict[Search, TuneConfig]:
        """The searches' configurations, once all have begun."""
        found: dict[Search, TuneConfig] = {}
        while True:
            found |= {search: read for search in self.searches if (read := search.config()) is not None}
            if len(found) == len(self.searches):
                return found
            if not self.config.follow:
                missing = [search.folder.url for search in self.searches if search not in found]
                raise ConfigError(
                    f"no `tune` run at {', '.join(missing)}: run it first, or wait for it with follow=true"
                )
            self._pause()

    def _evaluation_set(self, tuned: Mapping[Search, TuneConfig]) -> EvaluationSet:
        sets = {search: search.evaluation_set(config) for search, config in tuned.items()}
        hashes = {one.hash for one in sets.values()}
        if len(hashes) > 1:
            learnt = ", ".join(f"{search.folder.name}: {one.name} {one.hash[:12]}" for search, one in sets.items())
            raise ConfigError(f"the searches learn different labelled sets ({learnt}): evaluate them one by one")
        return next(iter(sets.values()))

    def _suite(self, labelled: EvaluationSet) -> tuple[Suite, tuple[str, ...]]:
        """What the models are judged by, and the names of the baselines."""
        subject = Subject.of(labelled)
        try:
            metrics, choose_by, baselines = self.config.judged_by(subject.kind)
        except ValueError as error:
            raise ConfigError(f"evaluation set {labelled.name!r}: {error}") from error
        suite = Suite(labelled.hash, subject, metrics, choose_by, self.config.num_resamples, self.config.seed)
        suite.all_metrics(), suite.choosing_metric()  # a metric that the set does not define is refused before any work
        return suite, baselines

    def _follow(self, evaluator: Evaluator) -> list[Trial]:
        """Judge trials on validation as their records land; all of them, once every search is closed."""
        while True:
            closed = all(search.closed() is not None for search in self.searches)  # before the records are listed
            trials = _trials(self.searches)
            for trial in trials:
                if trial.model_sha256 is not None and trial.model_sha256 not in self.validation:
                    evaluation = evaluator.evaluation(f"trial {trial.id}", "validation", *_model_of(trial))
                    self.validation[trial.model_sha256] = evaluation
                    say(f"evaluate: trial {trial.id} ({trial.status}) on validation: {_figures(evaluation)}")
            if closed or not self.config.follow:
                return trials
            self._pause()

    def _pause(self) -> None:
        if self.stop.wait(self.config.poll_s):
            raise InterruptedRunError("the evaluation was told to stop before the search was closed")

    def _entry(self, trial: Trial) -> Entry:
        validation = None if trial.model_sha256 is None else self.validation[trial.model_sha256]
        return Entry(trial.id, trial.status, validation, trial.error, trial.settings, trial.num_steps)

    def _baseline(self, name: str, chosen: Trial, evaluator: Evaluator) -> Baseline:
        if name == "random_weights":
            return self._random_weights(chosen, evaluator)
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

    def _random_weights(self, chosen: Trial, evaluator: Evaluator) -> Baseline:
        search = next(one for one in self.searches if chosen.id.startswith(one.prefix))
        twin = twin_config(self.config, self.storage, chosen, search)
        say(f"evaluate: fine-tuning the random-weights twin of trial {chosen.id}: {twin.name}")
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


def _checked(tuned: Mapping[Search, TuneConfig], labelled: EvaluationSet) -> bool | None:
    """Whether all that the models were pre-trained on was checked for the held-out rows of the set; None: unknown."""
    said = []
    for search, config in tuned.items():
        try:
            sets = find_base(search.storage, config.base)[1].about.get("decontaminated")
        except CorpusError:
            sets = None  # the trials are there, what they were made from is not
        said.append(None if sets is None else labelled.hash in sets)
    return None if None in said else all(said)


def _model_of(trial: Trial) -> tuple[Folder, str]:
    assert trial.model is not None and trial.model_sha256 is not None
    return trial.model, trial.model_sha256


def _nothing_to_choose(trials: list[Trial]) -> str:
    if not trials:
        return "the searches have no ended trial: there is nothing to judge"
    said = "; ".join(f"{trial.id}: {' '.join((trial.error or 'left no model').split())}" for trial in trials)
    return f"none of {len(trials)} trials has a model that may be chosen: {said}"


def _figures(evaluation: Evaluation) -> str:
    return ", ".join(
        f"{name} {one.value:.3f} [{one.low:.3f}, {one.high:.3f}]" for name, one in evaluation.metrics.items()
    )
