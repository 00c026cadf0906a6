"""The figures of any runs: curves of one, and of several on one plot."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from llmcore.report.curves import over
from llmcore.report.drawing import COLOURS, draw_svg, legend_above
from llmcore.report.plots import AXES, Axis, Plot, compared_columns, heading_of, label_of, plots_of
from llmcore.report.runs import RunReport, RunsReport

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Drawn", "LineStyle", "compared_figures", "curve_figures", "line_styles"]

_SERIES = ("accent", "data-wait", "validation", "checkpoint", "start-up", "restart", "other", "muted")
"""Colours of lines, in turn."""
_DASHES: tuple[tuple[int, ...], ...] = ((), (6, 3), (2, 2), (8, 3, 2, 3))
"""Lines and gaps, in turn once all colours have been taken."""
_FEW = 30
"""Of so many points each is marked, so that a single one is seen."""


class LineStyle(NamedTuple):
    """How the line of a run is drawn, in every plot and beside its name."""

    name: str
    colour: str
    dashes: tuple[int, ...]


class Drawn(NamedTuple):
    """A drawing by its name among the pictures, and what it is of."""

    name: str
    heading: str
    svg: str


def line_styles(names: Sequence[str]) -> list[LineStyle]:
    """Of each run its own; colours come again with other dashes."""
    return [
        LineStyle(name, _SERIES[place % len(_SERIES)], _DASHES[place // len(_SERIES) % len(_DASHES)])
        for place, name in enumerate(names)
    ]


def curve_figures(run: RunReport, *, without: Sequence[str] = ()) -> list[Drawn]:
    """The metrics of one run by step; `without` names plots that are drawn elsewhere."""
    return [
        Drawn(f"curve-{number}", plot.heading, _plot_figure(f"curve-{number}", plot))
        for number, plot in enumerate(plots_of(run.curves, run.kind))
        if plot.name not in without
    ]


def compared_figures(report: RunsReport) -> dict[str, list[Drawn]]:
    """By the name of a metric, its curves in all runs: over steps, tokens, and device-seconds where they are known."""
    styles = line_styles([run.name for run in report.runs])
    found: dict[str, list[Drawn]] = {}
    for number, column in enumerate(compared_columns(run.curves for run in report.runs)):
        kinds = {run.kind for run in report.runs if column in run.curves.metrics}
        label = label_of(column, kinds.pop() if len(kinds) == 1 else "")
        metric = heading_of(column)
        for axis in AXES:
            lines = {
                style: (places, run.curves.metrics[column].values)
                for style, run in zip(styles, report.runs, strict=True)
                if column in run.curves.metrics and (places := _places(run, column, axis))
            }
            if lines:
                name = f"compared-{number}-{axis.name}"
                svg = _lines_figure(name, f"{metric} by {axis.label}", label, axis.label, lines)
                found.setdefault(metric, []).append(Drawn(name, f"{metric} {axis.over}", svg))
    return found


def _places(run: RunReport, column: str, axis: Axis) -> tuple[float, ...]:
    """Where the points of a metric stand on an axis; nowhere where the run does not tell."""
    curve = run.curves.metrics[column]
    match axis.name:
        case "tokens":
            return over(curve, run.curves.tokens)
        case "device-seconds":
            return over(curve, run.curves.device_seconds)
        case _:
            return tuple(map(float, curve.steps))


def _plot_figure(name: str, plot: Plot) -> str:
    styles = line_styles(list(plot.curves))
    lines = {
        style: (tuple(map(float, curve.steps)), curve.values)
        for style, curve in zip(styles, plot.curves.values(), strict=True)
    }
    return _lines_figure(name, f"{plot.label} by step", plot.label, "step", lines, named=len(lines) > 1)


def _lines_figure(
    name: str,
    title: str,
    label: str,
    axis: str,
    lines: Mapping[LineStyle, tuple[Sequence[float], Sequence[float]]],
    *,
    named: bool = False,
) -> str:
    """Lines over one axis; `named`: their names stand in the drawing, above it."""

    def draw(figure: "Figure", axes: "Axes") -> None:
        from matplotlib.ticker import EngFormatter

        for style, (places, values) in lines.items():
            axes.plot(
                places,
                values,
                color=COLOURS[style.colour],
                linestyle=(0, style.dashes) if style.dashes else "-",
                linewidth=1.5,
                marker="o" if len(values) <= _FEW else None,
                markersize=3.5,
                label=style.name,
            )
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.set_xlabel(axis)
        axes.set_ylabel(label)
        if named:
            legend_above(figure, axes)

    return draw_svg(name, title, 3.1, draw)
