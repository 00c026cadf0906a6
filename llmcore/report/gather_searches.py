"""Searches and their trials, from their records and from what an evaluation says of their models."""

from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import ValidationError

from llmcore.evaluation.searches import Search
from llmcore.report.model import Curve, SearchReport, TrialReport
from llmcore.report.reading import Records, leaves, told_error
from llmcore.report.recorded import EvaluationRecord, SearchRecord, TrialRecord
from llmcore.search.importance import FEWEST_TRIALS, importances

__all__ = ["METRIC", "search_report"]

METRIC = "macro_f1"
"""By which models are told where no record names another."""


def search_report(records: Records, stage: str, judged: EvaluationRecord | None) -> SearchReport:
    """A search and its trials, with what an evaluation says of them, where one has judged them. Raises StorageError."""
    search = records.read(SearchRecord, records.run(stage), "search.json") or SearchRecord()
    evaluation = judged or EvaluationRecord()
    metric = search.metric or evaluation.suite.get("choose_by") or METRIC
    trials = tuple(_trials(records, stage, search, metric, evaluation))
    return SearchReport(
        stage=stage,
        trials=trials,
        metric=metric,
        judged_by=evaluation.suite.get("choose_by") or metric,
        closed=search.closed,
        ended_by=search.ended_by,
        importance=_importance(records, stage, search, trials),
    )


def _importance(records: Records, stage: str, search: SearchRecord, trials: Sequence[TrialReport]) -> dict[str, float]:
    """Which keys of the search made the difference, where there are enough trials to tell."""
    searched = [one for one in trials if one.status != "failed" and not one.id.startswith("final")]
    worth = [(one.config, one.best) for one in searched if one.best is not None]
    if len(worth) < FEWEST_TRIALS:
        return {}
    try:
        config = Search(records.run(stage)).config()
    except ValidationError as error:
        records.note(f"{records.run(stage).url}/config.yaml: {error.errors()[0]['msg']}")
        config = None
    return {} if config is None else importances(config.space, worth, higher_is_better=search.higher_is_better)


def _trials(
    records: Records, stage: str, search: SearchRecord, metric: str, evaluation: EvaluationRecord
) -> Iterator[TrialReport]:
    # Where several searches were judged together, the search's name stands before the trial's.
    prefix = f"{records.run(stage).name}/"
    judged = {model.id.removeprefix(prefix): model.validation or {} for model in evaluation.models}
    chosen = (evaluation.chosen or "").removeprefix(prefix)
    trials = records.run(stage) / "trials"
    for name in trials.names():
        record = records.read(TrialRecord, trials / name, "trial.json")
        if record is None:
            continue
        by_step = sorted(record.reports, key=lambda report: report.get("step", 0))
        curve = _curve(by_step, metric)
        yield TrialReport(
            id=record.id,
            status=record.status,
            config=dict(leaves(record.config, (str, int, float, bool, type(None)))),
            curve=curve if curve.steps else _curve(by_step, f"validation_{metric}"),
            seed=record.seed,
            num_steps=record.num_steps,
            seconds=record.seconds,
            device_seconds=record.device_seconds,
            cause=record.cause,
            best=record.best_value,
            error=told_error(record.error),
            on_front=record.id in search.front,
            chosen=record.id == chosen,
            validation=judged.get(record.id, {}),
        )


def _curve(rows: list[dict[str, Any]], metric: str) -> Curve:
    points = [(row["step"], float(row[metric])) for row in rows if "step" in row and row.get(metric) is not None]
    return Curve(tuple(step for step, _ in points), tuple(value for _, value in points))
