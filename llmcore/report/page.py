"""`PipelineReport` as one self-contained HTML page: no script, no font, no picture from elsewhere."""

from collections.abc import Sequence
from pathlib import Path

from llmcore.report import figures, search_figures, words
from llmcore.report.model import PipelineReport, StageReport

__all__ = ["render"]

_HERE = Path(__file__).parent
_FILTERS = ("count", "duration", "figure", "flops", "interval", "plain", "signed")


def render(report: PipelineReport) -> str:
    """The page, the same text for the same report; whatever comes from the records is escaped."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {name: getattr(words, name) for name in _FILTERS}
    fits = [fit for stage in report.stages for fit in stage.fits]
    page = environment.get_template("page.html.j2").render(
        report=report,
        style=Markup((_HERE / "style.css").read_text(encoding="utf-8")),
        headline=words.headline(report),
        bought=words.bought_by_pretraining(report),
        chosen=next((judged for judged in report.judged if judged.kind == "chosen"), None),
        of_slices=_of_slices(report),
        gains={name: of[report.metric] for name, of in report.differences.items() if report.metric in of},
        # Drawn by matplotlib, which escapes the texts in it.
        pictures={name: Markup(svg) for name, svg in _pictures(report).items()},
        categories=_categories(report.stages),
        fits=fits,
        parts=list(dict.fromkeys(part for fit in fits for part in fit.parts_s)),
        settings=list(dict.fromkeys(key for trial in report.trials for key in trial.config)),
        versions=_versions(report.stages),
        total_flops=sum(stage.flops or 0.0 for stage in report.stages),
    )
    return page.rstrip() + "\n"


def _pictures(report: PipelineReport) -> dict[str, str]:
    """The figures that there is something to draw for."""
    pictures = {}
    if report.pretrain and (report.pretrain.train.steps or report.pretrain.validation.steps):
        pictures["loss"] = figures.loss_figure(report.pretrain)
    if any(trial.curve.steps for trial in report.trials):
        pictures["trials"] = figures.trials_figure(report.trials, report.search_metric)
    if search_figures.has_pareto(report.trials):
        pictures["pareto"] = search_figures.pareto_figure(report.trials, report.search_metric)
    if search_figures.has_parallel(report.trials):
        pictures["parallel"] = search_figures.parallel_figure(report.trials, report.search_metric)
    if report.importance:
        pictures["importance"] = search_figures.importance_figure(report.importance, report.search_metric)
    if any(report.metric in {**model.validation, **model.test} for model in report.judged):
        pictures["leaderboard"] = figures.leaderboard_figure(report.judged, report.metric)
    if any(report.metric in of for of in report.differences.values()):
        pictures["differences"] = figures.difference_figure(report.differences, report.metric)
    if report.closer.calibration:
        pictures["calibration"] = figures.calibration_figure(report.closer.calibration)
    if any(stage.seconds for stage in report.stages):
        pictures["cost"] = figures.cost_figure(report.stages)
    return pictures


def _of_slices(report: PipelineReport) -> list[str]:
    """Metrics of slices, the choosing one first: as many as stand side by side on a page."""
    there = {metric for part in report.closer.slices for metric in part.metrics}
    return [metric for metric in report.metrics if metric in there][:4]


def _categories(stages: Sequence[StageReport]) -> list[str]:
    """Categories in which any stage spent time."""
    names = dict.fromkeys(name for stage in stages for name in stage.seconds)
    return [name for name in names if any(stage.seconds.get(name) for stage in stages)]


def _versions(stages: Sequence[StageReport]) -> dict[str, str]:
    """Versions by package; where the stages ran with several, all of them."""
    seen: dict[str, dict[str, None]] = {}
    for stage in stages:
        for package, version in stage.versions.items():
            seen.setdefault(package, {})[version] = None
    return {package: ", then ".join(versions) for package, versions in seen.items()}
