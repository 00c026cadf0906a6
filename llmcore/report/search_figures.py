"""The figures of a search: what its keys did, and what quality cost."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from llmcore.report.drawing import COLOURS, draw_svg, name_rows
from llmcore.report.model import TrialReport
from llmcore.report.words import plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["has_parallel", "has_pareto", "importance_figure", "parallel_figure", "pareto_figure"]

_FEWEST_LINES = 3
_LOG_SPAN = 20.0
"""From which span on an axis of positive numbers is logarithmic."""


def has_pareto(trials: Sequence[TrialReport]) -> bool:
    """Whether there is more than one trial of which both is known."""
    return len(_priced(trials)) > 1


def pareto_figure(trials: Sequence[TrialReport], metric: str, of: str = "") -> str:
    """The validation metric that each trial reached, by the device-seconds that it took."""

    def draw(figure: "Figure", axes: "Axes") -> None:
        for trial in _priced(trials):
            colour = COLOURS["accent" if trial.chosen else "second"]
            place = (trial.device_seconds or 0.0, trial.best or 0.0)
            face = colour if trial.on_front or trial.chosen else COLOURS["paper"]
            axes.plot(*place, "o", markersize=6, markeredgecolor=colour, markerfacecolor=face, markeredgewidth=1.4)
            if trial.on_front or trial.chosen:
                axes.annotate(
                    trial.id, place, xytext=(6, 4), textcoords="offset points", color=COLOURS["muted"], fontsize=10
                )
        axes.margins(x=0.16, y=0.14)
        axes.set_xlabel("device seconds")
        axes.set_ylabel(f"{plain(metric)}, validation")

    return draw_svg(f"pareto{of}", f"{plain(metric)} of each trial by what it cost", 3.1, draw)


def _priced(trials: Sequence[TrialReport]) -> list[TrialReport]:
    """Those that left a model, and of which it is known what they held."""
    return [one for one in trials if one.device_seconds is not None and one.best is not None and one.status != "failed"]


def has_parallel(trials: Sequence[TrialReport]) -> bool:
    """Whether several trials differ in several things."""
    return len(trials) >= _FEWEST_LINES and len(_axes_of(trials)) > 1


def parallel_figure(trials: Sequence[TrialReport], metric: str, of: str = "") -> str:
    """Parallel coordinates: an axis a key, the last one of the metric; a line a trial."""
    keys = _axes_of(trials)
    columns: list[list[Any]] = [[trial.config.get(key) for trial in trials] for key in keys]
    columns.append([trial.best for trial in trials])
    scaled = [_scaled(column) for column in columns]

    def draw(figure: "Figure", axes: "Axes") -> None:
        for place, trial in enumerate(trials):
            points = [(x, column[0][place]) for x, column in enumerate(scaled) if column[0][place] is not None]
            colour = COLOURS["accent" if trial.chosen else "second"]
            width, style = (2.2, "-") if trial.chosen else (1.0, "--" if trial.status == "failed" else "-")
            axes.plot(*zip(*points, strict=True), style, color=colour, linewidth=width, zorder=3 if trial.chosen else 2)
        for x, (_, ticks) in enumerate(scaled):
            axes.axvline(x, color=COLOURS["line"], linewidth=0.8)
            for height, text in ticks:
                on_paper = {"facecolor": COLOURS["paper"], "edgecolor": "none", "pad": 1.0}
                axes.annotate(
                    text,
                    (x, height),
                    xytext=(4, 0),
                    textcoords="offset points",
                    va="center",
                    fontsize=9.5,
                    bbox=on_paper,
                )
        names = [*(plain(key.rpartition(".")[2]) for key in keys), plain(metric)]
        axes.set_xticks(range(len(names)), names)
        axes.set_yticks([])
        axes.set_ylim(-0.06, 1.06)
        axes.spines["left"].set_visible(False)
        axes.grid(visible=False)
        axes.margins(x=0.12)

    return draw_svg(f"parallel{of}", f"The values of each trial, and its {plain(metric)}", 3.1, draw)


def importance_figure(importance: Mapping[str, float], metric: str, of: str = "") -> str:
    """The share of each key."""

    def draw(figure: "Figure", axes: "Axes") -> None:
        axes.barh(range(len(importance)), list(importance.values()), height=0.55, color=COLOURS["accent"])
        name_rows(axes, [plain(key) for key in importance])
        axes.set_xlim(left=0)
        axes.set_xlabel(f"share of the difference in {plain(metric)}")

    return draw_svg(
        f"importance{of}", f"What made the difference in {plain(metric)}", 0.75 + 0.36 * len(importance), draw
    )


def _axes_of(trials: Sequence[TrialReport]) -> list[str]:
    """Keys in which trials differ."""
    keys = dict.fromkeys(key for trial in trials for key in trial.config)
    return [key for key in keys if len({str(trial.config.get(key)) for trial in trials}) > 1]


def _scaled(column: Sequence[Any]) -> tuple[list[float | None], list[tuple[float, str]]]:
    """Values as heights from 0 to 1, and what is written beside the axis at which height."""
    from math import log10

    there = [value for value in column if value is not None]
    numbers = [value for value in there if isinstance(value, int | float) and not isinstance(value, bool)]
    if not there or len(numbers) < len(there):
        names = sorted({str(value) for value in there})
        heights = {name: place / max(1, len(names) - 1) for place, name in enumerate(names)}
        told = [(height, name) for name, height in heights.items()]
        return [None if value is None else heights[str(value)] for value in column], told
    low, high = min(numbers), max(numbers)
    of = log10 if low > 0 and high / low > _LOG_SPAN else float
    span = (of(high) - of(low)) or 1.0
    ticks = [(0.0, f"{low:.3g}"), (1.0, f"{high:.3g}")] if high > low else [(0.0, f"{low:.3g}")]
    return [None if value is None else (of(value) - of(low)) / span for value in column], ticks
