"""The records of a search's trials: what is true of them, whatever becomes of Tune."""

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from math import inf
from typing import Any

from jobs.runtime.metrics import RunMetrics
from jobs.runtime.search.causes import Cause
from jobs.runtime.search.driver import failure_of
from jobs.runtime.search.held import begin_holding, end_holding, has_held, held_device_s
from jobs.runtime.search.lives import lives_of, newest_life
from jobs.runtime.search.plan import FINAL, SearchPlan
from jobs.runtime.search.schedulers import NO_CONTROLLER
from llmcore.config.fairness import COUNTERFACTUAL_GAP
from llmcore.config.finetune import FinetuneConfig
from llmcore.errors import GateError, TrialError
from llmcore.evaluation.compared import Compared
from llmcore.evaluation.kinds import Subject
from llmcore.evaluation.searches import ENDED
from llmcore.records import Attempt, attempt_folder, attempt_numbers, read_metrics, step_of
from llmcore.search import Told, pareto_front
from llmcore.storage import Folder, Manifest, read_manifest
from llmcore.tasks.evaluation_set import EvaluationSet
from llmcore.train.early_stopping import stops_early
from llmcore.train.lengths import last_step
from llmcore.train.progress import Progress

__all__ = ["TrialRecords"]

_ALSO_WORTH = ("device_seconds", COUNTERFACTUAL_GAP)
_GAP_KEY = f"validation_{COUNTERFACTUAL_GAP}"
_BEGIN, _TRIAL, _SEARCH = "begin.json", "trial.json", "search.json"


class TrialRecords:
    """Writes `trials/<id>/{begin,trial}.json` as trials begin and end, and `search.json` when no more will come.

    Who writes raises RunHeldError where a later attempt of the search has begun: this one stood still, and woke up.

    Attributes:
        compared: What trials are compared by, on validation.
        values: The point of each trial that has begun, by id.
        metrics: Those of the search.
    """

    def __init__(self, attempt: Attempt, plan: SearchPlan, data: EvaluationSet) -> None:
        self._attempt, self._plan = attempt, plan
        self.metrics = RunMetrics(attempt.run.name, attempt.number, "tune")
        self._num_examples = data.num_rows("train")
        self.compared = Compared.of(plan.config.finetune.task, Subject.of(data))
        begun = {name: self.folder(name).find_json(_BEGIN) for name in sorted((attempt.run / "trials").names())}
        self.values: dict[str, dict[str, Any]] = {name: one["values"] for name, one in begun.items() if one}
        found = {trial: self.folder(trial).find_json(_TRIAL) for trial in self.values}
        self._ended = {trial: one for trial, one in found.items() if one and one["status"] in ENDED}
        self._ledgers: dict[str, dict[str, Any]] = {}
        self._started_s: dict[str, float] = {}
        self._cost_s = {trial: self._held(trial) for trial in self.values}
        self._count()

    def folder(self, trial: str) -> Folder:
        """A trial's folder."""
        return self._attempt.run / "trials" / trial

    def reopen(self) -> None:
        """More trials will come, though an earlier start has said that none would."""
        if self._attempt.run.find_json(_SEARCH) is not None:
            self._attempt.check_newest()
            self._attempt.run.write_json(_SEARCH, {"closed": False, "trials": list(self._ended)})

    def begin(self, trial: str, values: Mapping[str, Any]) -> None:
        """A trial is to be tried: from now on it has this point in each start of the search."""
        self._attempt.check_newest()
        self.values[trial] = dict(values)
        self.folder(trial).write_json(_BEGIN, {"values": self.values[trial], "attempt": self._attempt.number})
        self._count()

    def _count(self) -> None:
        """Tells who watches how many trials there are of each state."""
        ended = Counter(record["status"] for record in self._ended.values())
        for state in ENDED:
            self.metrics.set("llmcore_trials", ended[state], state)
        self.metrics.set("llmcore_trials", len(self.open_trials()), "begun")

    def values_now(self, trial: str) -> dict[str, Any]:
        """What a trial goes on with: its point, or what its newest life was given."""
        record = newest_life(self.folder(trial)).record
        return dict(self.values[trial] if record is None else record["values"])

    def cut_off(self, why: str) -> Iterator[str]:
        """Writes records of the trials that were stopped since the budget is spent; lines of them.

        One that never had a device has not begun: a start with a larger budget begins it.
        """
        for trial in self.open_trials():
            folder = self.folder(trial)
            if not any(has_held(folder, number) for number in attempt_numbers(folder)):
                self._attempt.check_newest()
                folder.delete(_BEGIN)
                del self.values[trial]
            elif any(True for _ in self._exports(trial)):
                yield self.write(trial)
            else:
                yield self.write(trial, cause="budget", error=f"{why} was spent before its first validation")

    def has_ended(self, trial: str) -> bool:
        """Whether a trial's record says of an end."""
        return trial in self._ended

    def ended(self) -> dict[str, dict[str, Any]]:
        """Records of the trials that have ended, by id."""
        return {trial: self._ended[trial] for trial in self.values if trial in self._ended}

    def open_trials(self) -> list[str]:
        """Trials that have begun and not ended."""
        return [trial for trial in self.values if trial not in self._ended]

    def told(self) -> list[Told]:
        """What is known of each trial of the search, for its proposals; models that are trained again are none."""
        searched = [trial for trial in self.values if not trial.startswith(FINAL)]
        return [
            Told(self.values[trial], self._worth(self._ended[trial]), violation=self._violation(self._ended[trial]))
            if trial in self._ended
            else Told(self.values[trial], None, running=True)
            for trial in searched
        ]

    def _worth(self, record: Mapping[str, Any]) -> tuple[float, ...] | None:
        if record["best_value"] is None or record["status"] == "failed":
            return None
        worth = {"quality": record["best_value"], **{key: record.get(key) for key in _ALSO_WORTH}}
        wanted = [worth[objective] for objective in self._plan.config.objectives]
        return None if None in wanted else tuple(wanted)

    def _violation(self, record: Mapping[str, Any]) -> float | None:
        """By how much a trial's counterfactual gap is over what it may be, negative below; None without a bound."""
        most = self._most_gap
        gap = record.get(COUNTERFACTUAL_GAP)
        return None if most is None else inf if gap is None else gap - most

    def _is_fair(self, record: Mapping[str, Any]) -> bool:
        return (self._violation(record) or 0) <= 0

    @property
    def _most_gap(self) -> float | None:
        fairness = self._plan.config.finetune.fairness
        return None if fairness is None else fairness.max_counterfactual_gap

    def tell_again(self, scheduler: Any) -> None:
        """Tells a new scheduler what ended trials reported, so that it compares the others with them."""
        for trial, record in self.ended().items():
            if not record["reports"]:
                continue
            told = _Ended(trial)
            scheduler.on_trial_add(NO_CONTROLLER, told)
            for report in self._numbered(trial, record["reports"]):
                scheduler.on_trial_result(NO_CONTROLLER, told, report)
            scheduler.on_trial_remove(NO_CONTROLLER, told)

    def started(self, trial: str, time_s: float) -> list[dict[str, Any]]:
        """Takes up when a trial's driver started (seconds since the epoch).

        Returns what it reported in older attempts up to the checkpoint that it goes on from, numbered: a scheduler that
        was not told of it would fill the trial's first rung with a later report.
        """
        self._started_s.setdefault(trial, time_s)
        workers = self._config(trial).workers
        begin_holding(self.folder(trial), self._attempt.number, workers.num_workers, time_s)
        checkpoints = newest_life(self.folder(trial)).complete()
        resumed_at = step_of(checkpoints[-1]) if checkpoints else 0
        older = [report for report in self._reports(trial) if report["step"] <= resumed_at]
        return self._numbered(trial, older)

    def _numbered(self, trial: str, reports: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Reports with the numbers that they had when they were told."""
        train = self._config(trial).train
        every = train.validate_every or last_step(train, self._num_examples)
        return [{"report": -(-report["step"] // every), **report} for report in reports]

    def reported(self, trial: str, result: dict[str, Any]) -> None:
        """Takes up a report of a trial."""
        if "ledger" in result:
            self._ledgers[trial] = result["ledger"]

    def device_s(self) -> float:
        """Device-seconds of all trials by now, those of older attempts included."""
        running = self.open_trials()
        return sum(self._cost_s.get(trial, 0.0) for trial in self._ended) + sum(map(self._held, running))

    def _held(self, trial: str) -> float:
        return held_device_s(self._attempt.run, [trial], alive=self._attempt.number)

    def write(self, trial: str, *, cause: Cause | None = None, error: str | None = None) -> str:
        """Writes the record of a trial that has ended; returns it as a line.

        Args:
            trial: Its id.
            cause: Why it failed, where it has; else what its driver has written down counts.
            error: The same in words.
        """
        end_holding(self.folder(trial), self._attempt.number, time.time())
        life = newest_life(self.folder(trial))
        if cause is None and (failed := failure_of(attempt_folder(life.folder, self._attempt.number))):
            cause, error = failed["cause"], failed["error"]
        found = list(self._exports(trial))
        exports = {name: manifest for name, manifest, _ in found}
        steps = max((export.about["step"] for export in exports.values()), default=None)
        model = self._best_of({name: manifest.about["metrics"] for name, manifest in exports.items()})
        best = None if model is None else exports[model].about
        status = "failed" if cause else ("finished" if self._is_finished(trial, steps) else "stopped")
        if not cause and model is None:
            status, cause, error = "failed", "error", "it ended without an export"
        self._cost_s[trial] = self._held(trial)
        record = {
            "id": trial,
            "status": status,
            "config": self.values[trial],
            "point": next((point for name, _, point in found if name == model), None),
            "reports": self._reports(trial),
            "model": model,
            "model_sha256": None if model is None else exports[model].sha256,
            "best_step": None if best is None else best["step"],
            "best_value": None if best is None else best["metrics"][self.compared.key],
            COUNTERFACTUAL_GAP: None if best is None else best["metrics"].get(_GAP_KEY),
            "cause": cause,
            "error": error,
            "seconds": time.time() - self._started_s.get(trial, time.time()),
            "device_seconds": self._cost_s[trial],
            "num_steps": steps,
            "seed": self._config(trial).train.seed if cause != "configuration" else None,
            "lives": [
                {"values": self.values[trial]},
                *(dict(one.record or {}) for one in lives_of(self.folder(trial))[1:]),
            ],
            "attempt": self._attempt.number,
        }
        self._attempt.check_newest()
        if ledger := self._ledgers.get(trial):
            self.folder(trial).write_json("cost.json", ledger)
            self._attempt.ledger.num_devices, self._attempt.ledger.device = ledger["devices"], ledger["device"]
            self._attempt.ledger.merge(ledger)
        self.folder(trial).write_json(_TRIAL, record)
        self._ended[trial] = record
        self._count()
        return self._line(record)

    def _line(self, record: Mapping[str, Any]) -> str:
        values = ", ".join(f"{key.rpartition('.')[2]}={_short(value)}" for key, value in record["config"].items())
        told = ""
        if record["best_step"] is not None:
            told = f"{self.compared.key.replace('_', ' ')} {record['best_value']:.3f} after {record['best_step']}"
        outcome = (
            f"{record['cause']}: {record['error']}" if record["cause"] else f"{told} of {record['num_steps']} steps"
        )
        return f"{record['id']} {record['status']}: {values}: {outcome}"

    def _config(self, trial: str) -> FinetuneConfig:
        return self._plan.finetuning(trial, self.values[trial])

    def _exports(self, trial: str) -> Iterator[tuple[str, Manifest, dict[str, Any]]]:
        """The complete exports of a trial by their path under the storage, oldest first, and the point of each."""
        for life in lives_of(self.folder(trial)):
            exports = life.folder / "exports"
            below = exports.url.removeprefix(self._attempt.run.url)
            for name in exports.names():
                manifest = read_manifest(exports / name)
                if manifest is not None:
                    point = self.values[trial] if life.record is None else life.record["values"]
                    yield f"{self._attempt.run.name}{below}/{name}", manifest, dict(point)

    def _best_of(self, metrics: Mapping[str, Mapping[str, float]]) -> str | None:
        """The name of the best ones, of those that are fair enough if there are such; of equals, the first."""
        fair = {name: one for name, one in metrics.items() if self._is_fair({COUNTERFACTUAL_GAP: one.get(_GAP_KEY)})}
        best, value = None, None
        for name, one in (fair or metrics).items():
            better = self.compared.better(one, value)
            if better is not None:
                best, value = name, better
        return best

    def _is_finished(self, trial: str, steps: int | None) -> bool:
        """Whether a trial that took so many steps ended by itself: at its last one, or since it gained nothing more."""
        train, last = self._config(trial).train, last_step(self._config(trial).train, self._num_examples)
        life = newest_life(self.folder(trial))
        saved = life.complete()[-1:]
        if last in (steps, *map(step_of, saved)):  # saved alone, where all steps were taken over with the weights
            return True
        newest = [read_manifest(life.checkpoints / name) for name in saved]
        return any(one is not None and stops_early(Progress(**one.about["progress"]), train) for one in newest)

    def _reports(self, trial: str) -> list[dict[str, Any]]:
        """Validations of a trial, as its lives have written them down; of each up to where the next one went on."""
        rows: list[dict[str, Any]] = []
        for life in lives_of(self.folder(trial)):
            taken_over = inf if life.record is None else life.record["step"]
            rows = [row for row in rows if row["step"] <= taken_over]
            rows += [row for row in read_metrics(life.folder) if self.compared.key in row]
        return rows

    def best(self) -> dict[str, Any] | None:
        """The record of the best trial that has a model and is fair enough, but for those of the best point again.

        None where there is none.
        """
        best = self._best_of(
            {
                trial: {self.compared.key: record["best_value"]}
                for trial, record in self.ended().items()
                if record["model"]
                and record["status"] != "failed"
                and not trial.startswith(FINAL)
                and self._is_fair(record)
            }
        )
        return None if best is None else self._ended[best]

    def front(self) -> list[str]:
        """Where there are two objectives, the trials that none is better than in both."""
        if len(self._plan.config.objectives) < 2:
            return []
        worth = {trial: self._worth(record) for trial, record in self.ended().items()}
        there = {trial: one for trial, one in worth.items() if one is not None}
        places = pareto_front(list(there.values()), (self.compared.higher_is_better, False))
        return [list(there)[place] for place in places]

    def close(self, ended_by: str | None = None) -> dict[str, Any]:
        """Says that no trial will come any more, and returns the search's result.

        Args:
            ended_by: What ended it before all its trials had, in words.

        Raises:
            TrialError: A trial is still open, or none left a model.
        """
        if missing := self.open_trials():
            raise TrialError(f"trials {missing} left no record: run the same command again to finish them")
        ended, front, best = self.ended(), self.front(), self.best()
        self._attempt.check_newest()
        self._attempt.run.write_json(
            _SEARCH,
            {
                "closed": True,
                "num_trials": len(ended),
                "trials": list(ended),
                "metric": self.compared.metric,
                "higher_is_better": self.compared.higher_is_better,
                "best": best and best["id"],
                "ended_by": ended_by,
                "front": front,
            },
        )
        if best is None and (
            gaps := [gap for one in ended.values() if (gap := one.get(COUNTERFACTUAL_GAP)) is not None]
        ):
            raise GateError(
                f"no trial is within finetune.fairness.max_counterfactual_gap={self._most_gap}: the least gap of "
                f"{len(gaps)} is {min(gaps):.4f}; search fairness.augment or fairness.consistency, or allow more"
            )
        if best is None:
            spent = f"{ended_by} is spent; " if ended_by else ""
            raise TrialError(
                f"no trial left a model: {spent}"
                + "; ".join(f"{trial}: {record['cause']}: {record['error']}" for trial, record in ended.items())
            )
        statuses = [record["status"] for record in ended.values()]
        causes = [record["cause"] for record in ended.values() if record["cause"]]
        return {
            "run": self._attempt.run.name,
            "num_trials": len(ended),
            "statuses": {status: statuses.count(status) for status in ENDED if status in statuses},
            "causes": {cause: causes.count(cause) for cause in dict.fromkeys(causes)},
            "num_exploited": sum(len(record["lives"]) - 1 for record in ended.values()),
            "metric": self.compared.metric,
            "best_trial": best["id"],
            "best_value": best["best_value"],
            "device_seconds": self.device_s(),
            "front": front,
            "ended_by": ended_by,
        }


class _Ended:
    """A trial of an older start, as a scheduler sees it."""

    def __init__(self, trial: str) -> None:
        self.trial_id, self.config, self.status = trial, dict[str, Any](), "TERMINATED"


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
