"""`RunsReport` as a page: of one run, or of several side by side."""

from llmcore.report import run_figures
from llmcore.report.page import pictures_of, render_page, shown_of
from llmcore.report.run_words import headline, key_figures, results
from llmcore.report.runs import RunsReport

__all__ = ["render_runs"]


def render_runs(report: RunsReport) -> str:
    """The page, the same text for the same report; whatever comes from the records is escaped."""
    alone = report.runs[0] if len(report.runs) == 1 else None
    pictures = pictures_of(report.parts)
    curves: list[run_figures.Drawn] = []
    compared: dict[str, list[run_figures.Drawn]] = {}
    if alone is not None:
        curves = run_figures.curve_figures(alone, without=["loss"] if "loss" in pictures else [])
    else:  # of the parts of a pipeline's page, costs alone stand side by side
        pictures = {name: svg for name, svg in pictures.items() if name == "cost"}
        compared = run_figures.compared_figures(report)
    drawn = [*curves, *(one for group in compared.values() for one in group)]
    apart, same = report.differing
    return render_page(
        "runs.html.j2",
        pictures | {one.name: one.svg for one in drawn},
        **shown_of(report.parts, "run"),
        runs=report,
        alone=alone,
        headline=headline(report),
        keys=key_figures(report),
        results=results(report),
        styles=run_figures.line_styles([run.name for run in report.runs]),
        curves=curves,
        compared=compared,
        apart=apart,
        same=same,
    )
