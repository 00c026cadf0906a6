"""Self-contained HTML pages of one look, no script, no font, no picture from elsewhere: that of a `PipelineReport`."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from llmcore.redaction import redact
from llmcore.report import figures, search_figures, words
from llmcore.report.model import PipelineReport, StageReport

__all__ = ["pictures_of", "render", "render_page", "shown_of"]

ItemT = TypeVar("ItemT")

_HERE = Path(__file__).parent
_FILTERS = ("count", "duration", "energy", "figure", "flops", "interval", "plain", "signed")


def render(report: PipelineReport) -> str:
    """The page of a pipeline, the same text for the same report; whatever comes from the records is escaped."""
    return render_page(
        "page.html.j2",
        pictures_of(report),
        **shown_of(report),
        headlines=words.headline(report).splitlines(),
        bought=words.bought_by_pretraining(report).splitlines(),
    )


def render_page(template: str, pictures: Mapping[str, str], **told: Any) -> str:
    """A template of this folder that extends the skeleton, with the style and these drawings, which stand for markup.

    Everything else that is told is escaped, and nothing of it leaves with a credential.
    """
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
    page = environment.get_template(template).render(
        style=Markup((_HERE / "style.css").read_text(encoding="utf-8")),  # nosec B704
        # Drawn by matplotlib, which escapes the texts in it.
        pictures={name: Markup(svg) for name, svg in pictures.items()},  # nosec B704
        **told,
    )
    return redact(page).rstrip() + "\n"


def shown_of(report: PipelineReport, a_row: str = "stage") -> dict[str, Any]:
    """What the parts of a pipeline's page are told, also where they stand on another; `a_row` is what a run is here."""
    fits = [fit for stage in report.stages for fit in stage.fits]
    return {
        "report": report,
        "a_row": a_row,
        "categories": _categories(report.stages),
        "fits": fits,
        "parts": list(dict.fromkeys(part for fit in fits for part in fit.parts_s)),
        "versions": _versions(report.stages),
        "total_flops": sum(stage.flops or 0.0 for stage in report.stages),
    }


def pictures_of(report: PipelineReport) -> dict[str, str]:
    """The figures that there is something to draw for; the first of a kind by its kind, others with their number."""
    pictures: dict[str, str] = {}
    for of, pretrain in _numbered(report.pretrainings):
        if pretrain.train.steps or pretrain.validation.steps:
            pictures[f"loss{of}"] = figures.loss_figure(pretrain, of)
    for of, search in _numbered(report.searches):
        if any(trial.curve.steps for trial in search.trials):
            pictures[f"trials{of}"] = figures.trials_figure(search.trials, search.metric, of)
        if search_figures.has_pareto(search.trials):
            pictures[f"pareto{of}"] = search_figures.pareto_figure(search.trials, search.metric, of)
        if search_figures.has_parallel(search.trials):
            pictures[f"parallel{of}"] = search_figures.parallel_figure(search.trials, search.metric, of)
        if search.importance:
            pictures[f"importance{of}"] = search_figures.importance_figure(search.importance, search.metric, of)
    for of, judged in _numbered(report.evaluations):
        if any(judged.metric in {**model.validation, **model.test} for model in judged.judged):
            pictures[f"leaderboard{of}"] = figures.leaderboard_figure(judged.judged, judged.metric, of)
        if judged.gains:
            pictures[f"differences{of}"] = figures.difference_figure(judged.differences, judged.metric, of)
        if judged.closer.calibration:
            pictures[f"calibration{of}"] = figures.calibration_figure(judged.closer.calibration, of)
    if any(stage.seconds for stage in report.stages):
        pictures["cost"] = figures.cost_figure(report.stages)
    return pictures


def _numbered(items: Sequence[ItemT]) -> Iterator[tuple[str, ItemT]]:
    """Each with what stands behind the names of its figures."""
    return ((f"{number}" if number > 1 else "", item) for number, item in enumerate(items, start=1))


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
