"""`tune`: Ray Tune fans out fine-tuning trials; each is a Ray Train run of DeepSpeed workers.

What is true of a trial stands in its record on the storage, `trials/<id>/trial.json`, which the evaluation job feeds
on. Tune's own state is thrown away: its snapshots are written in place, and a torn one would lose the search. A search
that was killed goes on from the records: ended trials are kept, and told to the scheduler and the searcher again; the
others go on from their checkpoints.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from jobs.finetune import (
    Inputs,
    check_fits_cluster,
    check_method,
    check_task,
    find_inputs,
    parents_of,
    plan_of_data,
)
from jobs.runtime.budget import fractions, run_s, spent
from jobs.runtime.console import say
from jobs.runtime.options import RunOptions
from jobs.runtime.search.plan import SEED, SearchPlan, final_ids, proposals_of, trial_ids
from jobs.runtime.search.room import trials_at_once
from jobs.runtime.start import find_or_do
from llmcore.config.labelled import told_data
from llmcore.config.tune import TuneConfig
from llmcore.errors import ConfigError, InterruptedRunError
from llmcore.evaluation.compared import Compared
from llmcore.evaluation.kinds import Subject
from llmcore.records import Attempt, begin_attempt, finished_result
from llmcore.search import Proposals
from llmcore.storage import Folder
from llmcore.train.lengths import last_step

if TYPE_CHECKING:
    from jobs.runtime.search.records import TrialRecords

__all__ = ["course", "finished", "plan", "result_line", "run", "tune"]

KIND = "tune"
STEP_VERSION = 5
_TUNE_ENVIRONMENT = {
    # A trial that fails before its first validation has no metric, and ends by itself; Tune would end with it.
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    # Tune's own handler ends a search on Ctrl-C as if all had been tried.
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
}
_TRIAL_DRIVER = {"CPU": 0, "node:__internal_head__": 0.001}
"""A trial's driver only waits; it stays on the head node, which no preemption takes, or where it is placed."""
_PLACED_DRIVER = {"CPU": 0.001}
"""Ray takes no bundle of nothing."""


def run(config: TuneConfig, options: RunOptions) -> None:
    """`python -m jobs tune`."""
    result, storage = find_or_do(config, options, finished, lambda storage, _: tune(config, storage, options))
    say(result_line(result, storage))


def plan(config: TuneConfig) -> list[str]:
    """What `--dry-run` says: what is done, and what that needs."""
    from jobs.plan import needed_lines

    return [*course(config), *needed_lines(config)]


def course(config: TuneConfig) -> list[str]:
    """What is done; needs no model. Raises `CorpusError`, `ConfigError` for labelled data that is wrong."""
    return [
        f"Runs {_told_trials(config)} trials over {', '.join(sorted(config.space))} ({config.searcher}, "
        f"{config.scheduler}), each with {config.finetune.workers.told()} workers, from {config.base} on "
        f"{told_data(config.data)}",
        *plan_of_data(config.data, config.finetune.task),
    ]


def result_line(result: Mapping[str, Any], storage: Folder) -> str:
    """The result in one line."""
    counts = ", ".join(f"{number} {status}" for status, number in result["statuses"].items())
    ended = f", ended by {result['ended_by']}" if result["ended_by"] else ""
    front = f", on the front {', '.join(result['front'])}" if result["front"] else ""
    return (
        f"tune: {result['num_trials']} trials ({counts}{ended}); best validation {result['metric']} "
        f"{result['best_value']:.3f} by {result['best_trial']}{front} in {storage.url}/{result['run']}/trials"
    )


def finished(config: TuneConfig, storage: Folder) -> dict[str, Any] | None:
    """The result of an earlier start, if the search is closed; else what is left was checked.

    Raises `CorpusError`, `ConfigError` for what is not there or does not go together.
    """
    return _finished(config, storage, find_inputs(storage, config.base, config.data, config.finetune.task))


def _finished(config: TuneConfig, storage: Folder, inputs: Inputs) -> dict[str, Any] | None:
    result = finished_result(storage, config, kind=KIND, step_version=STEP_VERSION, inputs=inputs.hashes())
    run = storage / config.name
    if result and run.find_json("search.json") and not _may_go_on(config, run, result):
        return result
    check_task(config.finetune.task, inputs)
    return None


def _may_go_on(config: TuneConfig, run: Folder, result: Mapping[str, Any]) -> bool:
    """Whether a budget ended the search, and it has a larger one now."""
    return bool(result["ended_by"]) and not spent(config.budget, run_s(run) / 3600, result["device_seconds"] / 3600)


def tune(config: TuneConfig, storage: Folder, options: RunOptions) -> dict[str, Any]:
    """Runs the search, or what is left of it, and closes it; Ray is connected.

    Raises `ConfigError` for what the cluster cannot hold, `TrialError` when no trial left a model.
    """
    from jobs.runtime.search.records import TrialRecords

    inputs = find_inputs(storage, config.base, config.data, config.finetune.task)  # once: a base may be read whole
    result = _finished(config, storage, inputs)
    if result is not None:
        return result
    compared = Compared.of(config.finetune.task, Subject.of(inputs.data))
    proposals, said = proposals_of(config, storage, compared.higher_is_better)
    searched = SearchPlan(config, inputs.reads(), options.verbose)
    num_trials = _num_trials(config, proposals)
    _check(searched, proposals, inputs, num_trials)
    attempt = begin_attempt(
        storage,
        config,
        kind=KIND,
        step_version=STEP_VERSION,
        inputs=inputs.hashes(),
        parents=[*parents_of(config.base, config.data), *config.first_from],
        allow_changes=options.allow_changes,
        say=say,
    )
    for line in [*inputs.labelled.lines(), *said]:
        say(line)
    with attempt:
        attempt.result["data"] = inputs.labelled.report()
        attempt.ledger.price_per_device_hour = config.budget.price_per_device_hour
        records = TrialRecords(attempt, searched, inputs.data)
        records.reopen()
        search = _Search(searched, proposals, inputs, records, attempt)
        ended_by = search.run(trial_ids(num_trials)) or search.run_finals()
        attempt.result.update(records.close(ended_by))
    return attempt.result


def _told_trials(config: TuneConfig) -> str:
    return "all" if config.searcher == "grid" and config.num_trials is None else str(config.trials)


def _num_trials(config: TuneConfig, proposals: Proposals) -> int:
    """Of the search, before the best point is trained again. Raises ConfigError where a grid has fewer."""
    if config.searcher != "grid":
        return config.trials
    there = len(proposals.first) + len(proposals.left())
    if config.num_trials is not None and config.num_trials > there:
        raise ConfigError(
            f"num_trials={config.num_trials}, and the grid has {there} points: leave num_trials out, and each is tried"
        )
    return config.num_trials or there


def _check(plan: SearchPlan, proposals: Proposals, inputs: Inputs, num_trials: int) -> None:
    """What can be known before a trial begins: its points, where they depend on nothing, the cluster, the reports."""
    config = plan.config
    known = num_trials if config.searcher != "optuna" else min(num_trials, max(1, len(proposals.first)))
    for number, trial in enumerate(trial_ids(known)):
        _check_trial(plan, inputs, trial, proposals.propose(number, []))
    check_fits_cluster(plan.finetuning("trial", {}))
    if config.scheduler == "pbt" and (fitting := _max_concurrent(config)) < num_trials:
        raise ConfigError(
            f"scheduler=pbt trains its population at once, and of num_trials={num_trials} the cluster holds {fitting}: "
            "lower num_trials, workers.num_workers or workers.cpus_per_worker"
        )
    num_reports = _reports(config, inputs)
    for scheduler, grace in (("asha", config.asha.grace_reports), ("median", config.median.grace_reports)):
        if config.scheduler == scheduler and grace > num_reports:
            raise ConfigError(
                f"{scheduler}.grace_reports={grace} is more than the {num_reports} validations of a trial: "
                "lower finetune.train.validate_every"
            )


def _check_trial(plan: SearchPlan, inputs: Inputs, trial: str, values: Mapping[str, Any]) -> None:
    """Raises ConfigError for what a trial's point makes of it."""
    config = plan.finetuning(trial, values)
    check_method(config, inputs)
    check_task(config.task, inputs)


def _reports(config: TuneConfig, inputs: Inputs) -> int:
    """Validations of a full trial: what schedulers count."""
    train = config.finetune.train
    steps = last_step(train, inputs.data.num_rows("train"))
    every = train.validate_every or steps
    return -(-steps // every)


def _max_concurrent(config: TuneConfig) -> int:
    """Trials whose workers the cluster holds at once; Tune itself would queue the workers of one too many for ever."""
    import ray

    from jobs.runtime.training import gpus_per_worker

    has, each = ray.cluster_resources(), gpus_per_worker(config.finetune.workers)
    gpus = has["GPU"] if each else None
    return trials_at_once(config, cpus=has.get("CPU", 0.0), gpus=gpus, gpus_per_worker=each)


def _driver_resources() -> Any:
    import ray.tune

    from cluster.placement import selector_of

    selector = selector_of("drivers")
    if not selector:
        return _TRIAL_DRIVER
    return ray.tune.PlacementGroupFactory([_PLACED_DRIVER], bundle_label_selector=[selector])


@dataclass(frozen=True)
class _Search:
    """One attempt at a search."""

    plan: SearchPlan
    proposals: Proposals
    inputs: Inputs
    records: "TrialRecords"
    attempt: Attempt

    def run(self, ids: list[str]) -> str | None:
        """Runs what is left of these trials; returns what ended it before, if something did."""
        if all(map(self.records.has_ended, ids)):
            return None
        if spent := self._spent():
            return spent
        scheduler = self._scheduler()
        if self.plan.config.scheduler == "pbt":
            return self._fit(ids, scheduler, {"point": self._population(ids)}, None)
        from jobs.runtime.search.proposing import ProposeTrials

        self.records.tell_again(scheduler)
        check = partial(_check_trial, self.plan, self.inputs)
        searcher = ProposeTrials(self.proposals, self.records, ids, check, self._spent, say)
        return self._fit(ids, scheduler, {}, searcher)

    def run_finals(self) -> str | None:
        """Trains the best point again with each of the seeds that are asked for, each to its end."""
        seeds = final_ids(self.plan.config)
        best = self.records.best()
        if not seeds or best is None:
            return None
        begun = [self.records.values[one] for one in seeds if one in self.records.values]
        point = begun[0] if begun else best["point"]
        if not all(map(self.records.has_ended, seeds)) and (spent := self._spent()):
            return spent
        for trial, seed in seeds.items():
            if trial not in self.records.values:
                self.records.begin(trial, point | {SEED: seed})
        from ray.tune.schedulers import FIFOScheduler

        return self._fit(list(seeds), FIFOScheduler(), {"point": self._grid(list(seeds))}, None)

    def _scheduler(self) -> Any:
        from jobs.runtime.search.schedulers import make_scheduler

        return make_scheduler(self.plan.config, self.records.compared, _reports(self.plan.config, self.inputs))

    def _population(self, ids: list[str]) -> Any:
        for number, trial in enumerate(ids):
            if trial not in self.records.values:
                self.records.begin(trial, self.proposals.propose(number, []))
        return self._grid(ids)

    def _grid(self, ids: list[str]) -> Any:
        import ray.tune

        there = [trial for trial in ids if not self.records.has_ended(trial)]
        return ray.tune.grid_search([{"trial": trial, "values": self.records.values_now(trial)} for trial in there])

    def _fit(self, ids: list[str], scheduler: Any, space: dict[str, Any], searcher: Any) -> str | None:
        import ray.tune
        from ray.tune import progress_reporter

        from jobs.runtime.freeing import FreeDeadGroups
        from jobs.runtime.search.callback import WriteRecords
        from jobs.runtime.search.driver import drive
        from jobs.runtime.search.stopper import StopWhenSpent
        from jobs.runtime.training import arrow_filesystem

        config, attempt, records = self.plan.config, self.attempt, self.records
        left = [trial for trial in ids if not records.has_ended(trial)]
        if not left:
            return None
        budget = StopWhenSpent(self._spent)
        driven = partial(drive, plan=self.plan, search=attempt.run.url, attempt=attempt.number)
        tuner = ray.tune.Tuner(
            ray.tune.with_resources(driven, _driver_resources()),
            param_space=space,
            tune_config=ray.tune.TuneConfig(
                scheduler=scheduler,
                search_alg=searcher,
                num_samples=1 if searcher is None else len(left),
                max_concurrent_trials=min(_max_concurrent(config), len(left)),
            ),
            run_config=ray.tune.RunConfig(
                name="tune",
                storage_path=str(attempt.folder.local_path() or attempt.folder.path),
                storage_filesystem=None if attempt.folder.local_path() else arrow_filesystem(attempt.folder),
                callbacks=[WriteRecords(records, scheduler, say)],
                failure_config=ray.tune.FailureConfig(max_failures=config.finetune.workers.max_failures),
                stop=budget,
                verbose=0,
            ),
        )
        os.environ |= _TUNE_ENVIRONMENT
        if not self.plan.verbose:  # it prints a line of each trial that never reported, whatever `verbose` says
            progress_reporter.TrialProgressCallback._print = lambda *_: None
        try:
            with FreeDeadGroups():
                tuner.fit()
        finally:
            attempt.folder.delete("tune")
        if budget.why is not None:
            say(f"tune: {budget.why} is spent: no further trial begins")
            for line in records.cut_off(budget.why):
                say(line)
        elif not all(map(records.has_ended, ids)):
            raise InterruptedRunError(
                "the search was stopped before all its trials had ended: the same command goes on"
            )
        return budget.why

    def _spent(self) -> str | None:
        budget = self.plan.config.budget
        if not budget.has_bound and budget.price_per_device_hour is None:
            return None  # asked every other second: the storage is left alone
        hours = run_s(self.attempt.run, alive=self.attempt.number) / 3600
        device_hours = self.records.device_s() / 3600
        self.records.metrics.spent(budget, fractions(budget, hours, device_hours), device_hours)
        return spent(budget, hours, device_hours)
