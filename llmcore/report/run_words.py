"""What runs came to, in a few words."""

from collections.abc import Iterator
from typing import NamedTuple

from llmcore.report.runs import RunReport, RunsReport
from llmcore.report.words import count, duration, figure, flops, interval, plain

__all__ = ["KeyFigure", "headline", "key_figures"]

_KINDS = {
    "prepare": "the preparation of a corpus",
    "pretrain": "a pre-training",
    "finetune": "a fine-tuning",
    "tune": "a search",
    "evaluate": "an evaluation",
    "pipeline": "a pipeline",
    "promote": "a promotion",
    "report": "a report",
}
_REACHED = ("validation_loss", "best_value", "train_loss")
"""What a run reached, the first that it tells."""


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
        return f"{run.name}: {_KINDS.get(run.kind, run.kind)} that {_STANDS.get(status, status)}{_reached(run)}"
    apart, _ = report.differing
    told = f"differ in {len(apart)} key{'' if len(apart) == 1 else 's'}" if apart else "are configured alike"
    return f"{len(report.runs)} runs that {told}"


_STANDS = {
    "succeeded": "has succeeded",
    "failed": "has failed",
    "interrupted": "was interrupted",
    "running": "is running",
    "dead": "was killed",
}


def _reached(run: RunReport) -> str:
    for key in _REACHED:
        try:
            return f", with a {plain(key)} of {figure(float(run.result[key]))}"
        except (KeyError, ValueError):
            continue
    return ""


def key_figures(report: RunsReport) -> list[KeyFigure]:
    """Of one run, what is read first; of several none: they stand in tables."""
    return list(_key_figures(report, report.runs[0])) if len(report.runs) == 1 else []


def _key_figures(report: RunsReport, run: RunReport) -> Iterator[KeyFigure]:
    stage = report.stage(run)
    for verdict in run.verdicts:
        if verdict.split == "test":
            metric, of = next(iter(verdict.metrics.items()))
            yield KeyFigure(f"{plain(metric)} on test, by {verdict.evaluation}", figure(of.value), interval(of))
    for key in _REACHED[:1]:
        if (value := run.result.get(key)) is not None and value != "null":
            yield KeyFigure(plain(key), figure(float(value)), "nats a token" if run.kind == "pretrain" else "nats")
    attempts = f"{stage.num_attempts} attempt{'' if stage.num_attempts == 1 else 's'}"
    yield KeyFigure("time by the clock", duration(stage.total_s), attempts)
    devices = f"{count(stage.num_devices)} {stage.device}" if stage.num_devices else ""
    yield KeyFigure("device-seconds", count(sum(stage.device_seconds.values())), devices)
    if stage.tokens is not None:
        yield KeyFigure("tokens", count(stage.tokens), flops(stage.flops))
    if stage.money is not None:
        yield KeyFigure("money", figure(stage.money, 2), "all device-seconds at their price")
    if stage.mfu is not None:
        yield KeyFigure("MFU", f"{stage.mfu:.1%}", "share of the peak while it trained")
