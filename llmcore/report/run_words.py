"""What runs came to, in a few words."""

from collections.abc import Iterator
from typing import NamedTuple

from llmcore.evaluation.bootstrap import Interval
from llmcore.report.runs import RunReport, RunsReport
from llmcore.report.words import DASH, count, duration, energy, figure, flops, interval, measured, plain

__all__ = ["KeyFigure", "headline", "key_figures", "results"]

_KINDS = {
    "prepare": "the preparation of a corpus",
    "pretrain": "a pre-training",
    "finetune": "a fine-tuning",
    "tune": "a search",
    "evaluate": "an evaluation",
    "transfer": "a transfer",
    "pipeline": "a pipeline",
    "promote": "a promotion",
    "report": "a report",
}
_STANDS = {
    "succeeded": "has succeeded",
    "failed": "has failed",
    "interrupted": "was interrupted",
    "running": "is running",
    "dead": "was killed",
}


class KeyFigure(NamedTuple):
    """A number that is read first, and what stands below it."""

    name: str
    value: str
    about: str = ""


def headline(report: RunsReport) -> str:
    """What the page is on, in one sentence."""
    if len(report.runs) == 1:
        run = report.runs[0]
        status = report.stage(run).status
        return f"{run.name}: {_KINDS.get(run.kind, run.kind)} that {_STANDS.get(status, status)}{_reached(report, run)}"
    apart, _ = report.differing
    alike = "are configured alike" if len({run.kind for run in report.runs}) == 1 else "are of different kinds"
    told = f"differ in {len(apart)} key{'' if len(apart) == 1 else 's'}" if apart else alike
    return f"{len(report.runs)} runs that {told}"


def _reached(report: RunsReport, run: RunReport) -> str:
    if (judged := _judged(report, run)) is not None:
        return f", whose model reaches {judged[0]} {figure(judged[2].value)} on the held-out test split"
    if (best := _number(run, "best_value")) is not None:
        return f", with a best {plain(run.result.get('metric', 'value'))} of {figure(best)} on validation"
    if (loss := _number(run, "validation_loss")) is not None:
        return f", with a validation loss of {figure(loss)}"
    return ""


def key_figures(report: RunsReport) -> list[KeyFigure]:
    """Of one run, what is read first; of several none: they stand in tables."""
    return list(_key_figures(report, report.runs[0])) if len(report.runs) == 1 else []


def _key_figures(report: RunsReport, run: RunReport) -> Iterator[KeyFigure]:
    stage = report.stage(run)
    if (judged := _judged(report, run)) is not None:
        metric, evaluation, of = judged
        by = "" if evaluation == run.name else f", by {evaluation}"
        yield KeyFigure(f"{metric} on test{by}", figure(of.value), interval(of))
    if (loss := _number(run, "validation_loss")) is not None:
        yield KeyFigure("validation loss", figure(loss), "nats a token" if run.kind == "pretrain" else "nats")
    attempts = f"{stage.num_attempts} attempt{'' if stage.num_attempts == 1 else 's'}"
    yield KeyFigure("time by the clock", duration(report.parts.wall_s), attempts)
    devices = f"{count(stage.num_devices)} {stage.device}" if stage.num_devices else ""
    yield KeyFigure("device-seconds", count(sum(stage.device_seconds.values())), devices)
    if stage.tokens is not None:
        yield KeyFigure("tokens", count(stage.tokens), flops(stage.flops))
    if stage.money is not None:
        yield KeyFigure("money", figure(stage.money, 2), "all device-seconds at their price")
    if stage.energy_j is not None:
        yield KeyFigure("energy of the GPUs", energy(stage.energy_j), f"{stage.energy_j / 3.6e6:,.3g} kWh")
    if stage.mfu is not None:
        yield KeyFigure("MFU", f"{stage.mfu:.1%}", "share of the peak while it trained")


def results(report: RunsReport) -> dict[str, list[str]]:
    """Numbers of the results of several runs, by their name: a cell a run."""
    told = [{key: value for key in run.result if (value := _number(run, key)) is not None} for run in report.runs]
    names = dict.fromkeys(key for of in told for key in of if "." not in key)
    return {measured(key): [_cell(of.get(key)) for of in told] for key in names}


def _cell(value: float | None) -> str:
    if value is None:
        return DASH
    return count(value) if value.is_integer() else f"{value:.4g}"


def _judged(report: RunsReport, run: RunReport) -> tuple[str, str, Interval] | None:
    """The metric that chose, by which evaluation, and its figure on test; else the first of a run that was judged."""
    chose = {one.stage: one.metric for one in report.parts.evaluations}
    chose_among = [one.judged_by for one in report.parts.searches if one.stage == run.name]
    for verdict in run.verdicts:
        if verdict.split == "test":
            wanted = [chose.get(verdict.evaluation), *chose_among, *verdict.metrics]
            metric = next(one for one in wanted if one in verdict.metrics)
            assert metric is not None
            return plain(metric), verdict.evaluation, verdict.metrics[metric]
    return None


def _number(run: RunReport, key: str) -> float | None:
    try:
        return float(run.result[key])
    except (KeyError, ValueError):
        return None
