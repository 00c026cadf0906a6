"""The records of a search's trials: what is true of them, whatever becomes of Tune."""

import time
from collections.abc import Mapping
from math import inf
from types import SimpleNamespace
from typing import Any

from llmcore.config.finetune import FinetuneConfig
from llmcore.errors import TrialError
from llmcore.evaluation.compared import Compared
from llmcore.evaluation.kinds import Subject
from llmcore.records import Attempt, read_metrics
from llmcore.storage import Folder, Manifest, read_manifest
from llmcore.tasks.evaluation_set import EvaluationSet
from llmcore.train.early_stopping import stops_early
from llmcore.train.kept import complete_names
from llmcore.train.lengths import last_step
from llmcore.train.place import Place
from llmcore.train.progress import Progress

__all__ = ["TrialRecords", "trial_ids"]

_ENDED = ("finished", "stopped", "failed")


def trial_ids(num_trials: int) -> list[str]:
    """Names of the trials: the same in each start of a search."""
    return [f"trial-{index:03d}" for index in range(num_trials)]


class TrialRecords:
    """Writes `trials/<id>/trial.json` as trials end, and `search.json` when no more will come."""

    def __init__(
        self,
        attempt: Attempt,
        samples: dict[str, dict[str, Any]],
        configs: dict[str, FinetuneConfig],
        data: EvaluationSet,
    ) -> None:
        self._attempt = attempt
        self._samples = samples
        self._configs = configs
        self._num_examples = data.num_rows("train")
        self.compared = Compared.of(next(iter(configs.values())).task, Subject.of(data))
        self._reports: dict[str, list[dict[str, Any]]] = {trial: [] for trial in samples}
        self._ledgers: dict[str, dict[str, Any]] = {}
        self._start_times: dict[str, float] = {}

    def folder(self, trial: str) -> Folder:
        """A trial's folder."""
        return self._attempt.run / "trials" / trial

    def ended(self) -> dict[str, dict[str, Any]]:
        """Records of the trials that have ended, by id."""
        found = {trial: self.folder(trial).find_json("trial.json") for trial in self._samples}
        return {trial: record for trial, record in found.items() if record and record["status"] in _ENDED}

    def open_trials(self) -> list[str]:
        """Trials that have not ended."""
        ended = self.ended()
        return [trial for trial in self._samples if trial not in ended]

    def place(self, trial: str) -> Place:
        """Where a trial's workers write: its folder is laid out like a run's."""
        return Place.beneath(self._attempt, self.folder(trial))

    def tell_again(self, scheduler: Any) -> None:
        """Tells a new scheduler what ended trials reported, so that it compares the others with them."""
        for trial, record in self.ended().items():
            if not record["reports"]:
                continue
            told = SimpleNamespace(trial_id=trial, config={}, status="TERMINATED")
            scheduler.on_trial_add(None, told)
            for number, report in enumerate(record["reports"], start=1):
                scheduler.on_trial_result(None, told, {"report": number, **report})
            scheduler.on_trial_remove(None, told)

    def started(self, trial: str, time_s: float) -> list[dict[str, Any]]:
        """Takes up when a trial started (seconds since the epoch).

        Returns what it reported in older attempts up to the checkpoint that it goes on from, numbered: a scheduler that
        was not told of it would fill the trial's first rung with a later report.
        """
        self._start_times.setdefault(trial, time_s)
        checkpoints = complete_names(self.folder(trial) / "checkpoints")
        resumed_at = int(checkpoints[-1].split("-")[1]) if checkpoints else 0
        older = [report for report in self._older_reports(trial) if report["step"] <= resumed_at]
        return [{"report": number, **report} for number, report in enumerate(older, start=1)]

    def reported(self, trial: str, result: dict[str, Any]) -> None:
        """Takes up a report of a trial."""
        figures = {key: value for key, value in result.items() if key == "step" or key.startswith("validation_")}
        if "step" in figures:
            self._reports[trial].append(figures)
            self._ledgers[trial] = result["ledger"]

    def write(self, trial: str, error: str | None) -> str:
        """Writes the record of a trial that has ended; returns it as a line."""
        folder = self.folder(trial)
        exports = self._exports(trial)
        steps = max((export.about["step"] for export in exports.values()), default=None)
        model = self._best(exports)
        best = None if model is None else exports[model].about
        status = "failed" if error else ("finished" if self._is_finished(trial, steps) else "stopped")
        if not error and model is None:
            status, error = "failed", "it ended without an export"
        record = {
            "id": trial,
            "status": status,
            "config": self._samples[trial],
            "reports": self._all_reports(trial),
            "model": None if model is None else f"{self._attempt.run.name}/trials/{trial}/exports/{model}",
            "model_sha256": None if model is None else exports[model].sha256,
            "best_step": None if best is None else best["step"],
            "best_value": None if best is None else best["metrics"][self.compared.key],
            "error": error,
            "seconds": time.time() - self._start_times.get(trial, time.time()),
            "num_steps": steps,
            "seed": self._configs[trial].train.seed,
            "attempt": self._attempt.number,
        }
        if ledger := self._ledgers.get(trial):
            folder.write_json("cost.json", ledger)
            self._attempt.ledger.num_devices, self._attempt.ledger.device = ledger["devices"], ledger["device"]
            self._attempt.ledger.merge(ledger)
        folder.write_json("trial.json", record)
        values = ", ".join(f"{key.rpartition('.')[2]}={_short(value)}" for key, value in self._samples[trial].items())
        told = f"{self.compared.key.replace('_', ' ')} {record['best_value']:.3f}" if best is not None else ""
        outcome = error or f"{told} after {record['best_step']} of {steps} steps"
        return f"{trial} {status}: {values}: {outcome}"

    def _exports(self, trial: str) -> dict[str, Manifest]:
        """The complete exports of a trial, oldest first."""
        exports = self.folder(trial) / "exports"
        found = ((name, read_manifest(exports / name)) for name in exports.names())
        return {name: manifest for name, manifest in found if manifest is not None}

    def _best(self, exports: Mapping[str, Manifest]) -> str | None:
        best, value = None, None
        for name, manifest in exports.items():
            better = self.compared.better(manifest.about["metrics"], value)
            if better is not None:
                best, value = name, better
        return best

    def _is_finished(self, trial: str, steps: int | None) -> bool:
        """Whether a trial that took so many steps ended by itself: at its last one, or since it gained nothing more."""
        train = self._configs[trial].train
        if steps == last_step(train, self._num_examples):
            return True
        checkpoints = self.folder(trial) / "checkpoints"
        newest = [read_manifest(checkpoints / name) for name in complete_names(checkpoints)[-1:]]
        return any(one is not None and stops_early(Progress(**one.about["progress"]), train) for one in newest)

    def _all_reports(self, trial: str) -> list[dict[str, Any]]:
        """Reports of this attempt, after those of older ones up to where it went on."""
        told = [report["step"] for report in self._reports[trial]]
        older = [report for report in self._older_reports(trial) if report["step"] < min(told, default=inf)]
        return [*older, *self._reports[trial]]

    def _older_reports(self, trial: str) -> list[dict[str, Any]]:
        rows = read_metrics(self.folder(trial))
        return [row for row in rows if self.compared.key in row]

    def close(self) -> dict[str, Any]:
        """Says that no trial will come any more, and returns the search's result.

        Raises `TrialError` if a trial is still open, or none left a model.
        """
        ended = self.ended()
        missing = [trial for trial in self._samples if trial not in ended]
        if missing:
            raise TrialError(f"trials {missing} left no record: run the same command again to finish them")
        self._attempt.run.write_json(
            "search.json",
            {"closed": True, "num_trials": len(ended), "trials": list(ended), "metric": self.compared.metric},
        )
        values = {
            trial: record["best_value"] for trial, record in ended.items() if record["model"] and record["reports"]
        }
        if not values:
            raise TrialError(
                "no trial left a model: " + "; ".join(f"{trial}: {record['error']}" for trial, record in ended.items())
            )
        best = (max if self.compared.higher_is_better else min)(values, key=lambda trial: values[trial])
        statuses = [record["status"] for record in ended.values()]
        return {
            "run": self._attempt.run.name,
            "num_trials": len(ended),
            "statuses": {status: statuses.count(status) for status in _ENDED if status in statuses},
            "metric": self.compared.metric,
            "best_trial": best,
            "best_value": values[best],
        }


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
