"""The figures, as inline SVG: drawn by matplotlib, coloured by the page's style sheet, the same bytes each time."""

import re
from collections.abc import Mapping, Sequence
from html import escape
from io import StringIO
from itertools import cycle, pairwise
from typing import TYPE_CHECKING, Any

from llmcore.evaluation.bootstrap import Interval
from llmcore.report.closer import CalibrationBin
from llmcore.report.model import JudgedModel, PretrainReport, StageReport, TrialReport
from llmcore.report.words import plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "calibration_figure",
    "cost_figure",
    "difference_figure",
    "leaderboard_figure",
    "loss_figure",
    "trials_figure",
]

# Stand-ins that no drawing contains by chance: each becomes a variable of the style sheet, light or dark.
_COLOURS = {
    "ink": "#010101",
    "muted": "#020202",
    "line": "#030303",
    "accent": "#040404",
    "second": "#050505",
    "paper": "#060606",
    "start-up": "#070701",
    "compute": "#070702",
    "data-wait": "#070703",
    "checkpoint": "#070704",
    "validation": "#070705",
    "restart": "#070706",
    "idle": "#070707",
    "lost": "#070709",
    "other": "#070708",
}
_STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "llmcore",
    "font.family": "sans-serif",
    "text.parse_math": False,
    "font.size": 10.0,
    "axes.edgecolor": _COLOURS["line"],
    "axes.labelcolor": _COLOURS["muted"],
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "text.color": _COLOURS["ink"],
    "xtick.color": _COLOURS["line"],
    "ytick.color": _COLOURS["line"],
    "xtick.labelcolor": _COLOURS["muted"],
    "ytick.labelcolor": _COLOURS["muted"],
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": _COLOURS["line"],
    "grid.linewidth": 0.5,
    "grid.alpha": 0.6,
    "lines.solid_capstyle": "round",
    "legend.frameon": False,
}
_WIDTH = 5.4  # inches; 72 units of the drawing each, so that text stays readable on a phone
_NAMED_LINES = 8
_FURTHER = (":", "-.", (0, (6, 2)), (0, (3, 1, 1, 1, 1, 1)))
"""Lines of further held-out sets, in turn."""


def loss_figure(pretrain: PretrainReport) -> str:
    """Loss on train, validation and further held-out sets by step, beside the cross-entropy of the train unigrams."""

    def draw(figure: "Figure", axes: "Axes") -> None:
        axes.plot(pretrain.train.steps, pretrain.train.values, color=_COLOURS["second"], linewidth=1.2, label="train")
        axes.plot(
            pretrain.validation.steps,
            pretrain.validation.values,
            color=_COLOURS["accent"],
            linewidth=2,
            marker="o",
            markersize=3.5,
            label="validation",
        )
        for (name, curve), style in zip(pretrain.held_out.items(), cycle(_FURTHER), strict=False):
            accent = _COLOURS["accent"]
            axes.plot(curve.steps, curve.values, color=accent, linewidth=1.2, linestyle=style, label=plain(name))
        if pretrain.unigram_loss is not None:
            axes.axhline(pretrain.unigram_loss, color=_COLOURS["muted"], linewidth=1, linestyle=(0, (4, 3)))
            axes.annotate(
                f"unigrams {pretrain.unigram_loss:.3f}",
                (1, pretrain.unigram_loss),
                xycoords=("axes fraction", "data"),
                xytext=(0, -4),
                textcoords="offset points",
                ha="right",
                va="top",
                color=_COLOURS["muted"],
            )
        axes.set_xlabel("step")
        axes.set_ylabel("loss, nats a token")
        axes.legend(loc="upper right", labelcolor=_COLOURS["ink"])

    return _svg("loss", "Pre-training loss by step", 3.1, draw)


def trials_figure(trials: Sequence[TrialReport], metric: str) -> str:
    """The validation metric of each trial by step, the chosen one in front."""
    named = len(trials) <= _NAMED_LINES

    def draw(figure: "Figure", axes: "Axes") -> None:
        ends = []
        for trial in sorted(trials, key=lambda trial: trial.chosen):
            if not trial.curve.steps:
                continue
            colour = _COLOURS["accent" if trial.chosen else "second"]
            axes.plot(trial.curve.steps, trial.curve.values, color=colour, linewidth=2.2 if trial.chosen else 1.2)
            mark = {"finished": "o", "stopped": "s"}.get(trial.status, "X")
            axes.plot(
                trial.curve.steps[-1:],
                trial.curve.values[-1:],
                mark,
                color=colour,
                markersize=5,
                markeredgecolor=_COLOURS["paper"],
            )
            if named or trial.chosen:
                ends.append((trial.curve.values[-1], trial.curve.steps[-1], trial.id, colour))
        axes.margins(x=0.04, y=0.12)
        for place, (value, step, name, colour) in zip(_apart(axes, [e[0] for e in ends]), ends, strict=True):
            axes.annotate(
                name,
                (step, value),
                xytext=(step, place),
                textcoords=axes.transData + _offset(figure, 6),
                color=colour if colour == _COLOURS["accent"] else _COLOURS["muted"],
                va="center",
                annotation_clip=False,
            )
        axes.set_xlabel("step (● finished, ■ stopped, ✖ failed)")
        axes.set_ylabel(f"{plain(metric)}, validation")

    return _svg("trials", f"Validation {plain(metric)} of each trial by step", 3.1, draw)


def leaderboard_figure(judged: Sequence[JudgedModel], metric: str) -> str:
    """A forest plot: the metric of each model with its interval, on test (filled) and on validation (hollow)."""
    rows = [model for model in judged if metric in model.test or metric in model.validation]

    def draw(figure: "Figure", axes: "Axes") -> None:
        for place, model in enumerate(rows):
            colour = _COLOURS["accent" if model.kind == "chosen" else "second"]
            both = metric in model.test and metric in model.validation
            if metric in model.validation:
                _whisker(axes, place + (0.17 if both else 0), model.validation[metric], colour, hollow=True)
            if metric in model.test:
                _whisker(axes, place - (0.17 if both else 0), model.test[metric], colour)
        _rows(axes, [model.name for model in rows])
        axes.set_xlabel(f"{plain(metric)}, 95 % interval (● test, ○ validation)")

    return _svg("leaderboard", f"{plain(metric)} of each model with its interval", 0.75 + 0.36 * len(rows), draw)


def difference_figure(differences: Mapping[str, Mapping[str, Interval]], metric: str) -> str:
    """The chosen model minus each baseline on the test split, with intervals, beside zero."""
    rows = {name: of[metric] for name, of in differences.items() if metric in of}

    def draw(figure: "Figure", axes: "Axes") -> None:
        axes.axvline(0, color=_COLOURS["ink"], linewidth=1)
        for place, of in enumerate(rows.values()):
            _whisker(axes, place, of, _COLOURS["accent" if of.excludes_zero else "second"])
        _rows(axes, [plain(name) for name in rows])
        axes.set_xlabel(f"difference in {plain(metric)} on test, 95 % interval")

    return _svg("differences", f"Difference in {plain(metric)} to each baseline", 0.75 + 0.36 * len(rows), draw)


def calibration_figure(bins: Sequence[CalibrationBin]) -> str:
    """How often the model is right, by how sure it is, beside the line on which both are the same."""

    def draw(figure: "Figure", axes: "Axes") -> None:
        axes.plot([0, 1], [0, 1], color=_COLOURS["muted"], linewidth=1, linestyle=(0, (4, 3)))
        accent, most = _COLOURS["accent"], max(one.num for one in bins)
        sure, right = ([getattr(one, side) for one in bins] for side in ("confidence", "right"))
        axes.plot(sure, right, color=accent, linewidth=1)
        axes.scatter(sure, right, [12 + 60 * one.num / most for one in bins], color=accent, zorder=3)
        axes.set_xlim(-0.03, 1.03)
        axes.set_ylim(-0.03, 1.03)
        axes.set_xlabel("how sure the model is, on average")
        axes.set_ylabel("share that is right")

    return _svg("calibration", "Share that is right by how sure the model is", 3.1, draw)


def cost_figure(stages: Sequence[StageReport]) -> str:
    """Wall seconds of each stage, stacked by category."""
    rows = [stage for stage in stages if stage.seconds]
    categories = list(
        dict.fromkeys(category for stage in rows for category in stage.seconds if stage.seconds[category])
    )

    def draw(figure: "Figure", axes: "Axes") -> None:
        left = [0.0] * len(rows)
        for category in categories:
            seconds = [stage.seconds.get(category, 0.0) for stage in rows]
            colour = _COLOURS.get(category.replace("_", "-"), _COLOURS["other"])
            axes.barh(
                range(len(rows)),
                seconds,
                left=left,
                height=0.62,
                color=colour,
                edgecolor=_COLOURS["paper"],
                linewidth=0.6,
                label=plain(category),
            )
            left = [a + b for a, b in zip(left, seconds, strict=True)]
        for place, total in enumerate(left):
            axes.annotate(f"{total:,.1f} s", (total, place), xytext=(4, 0), textcoords="offset points", va="center")
        _rows(axes, [stage.stage for stage in rows])
        axes.margins(x=0.16)
        axes.set_xlim(left=0)
        axes.set_xlabel("wall seconds")
        axes.legend(
            loc="lower left", bbox_to_anchor=(-0.02, 1), ncols=4, handlelength=0.9, columnspacing=1.2, fontsize=9
        )

    return _svg("cost", "Wall seconds of each stage by category", 1.4 + 0.36 * len(rows), draw)


def _whisker(axes: "Axes", place: float, of: Interval, colour: str, *, hollow: bool = False) -> None:
    axes.plot([of.low, of.high], [place, place], color=colour, linewidth=1.6)
    axes.plot(
        [of.value],
        [place],
        "o",
        markersize=6,
        markeredgecolor=colour,
        markerfacecolor=_COLOURS["paper"] if hollow else colour,
        markeredgewidth=1.4,
    )


def _rows(axes: "Axes", names: Sequence[str]) -> None:
    """Named rows from the top down, with vertical grid lines."""
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(axis="y", length=0, labelcolor=_COLOURS["ink"])
    axes.set_ylim(len(names) - 0.45, -0.55)
    axes.grid(visible=False, axis="y")
    axes.grid(visible=True, axis="x")
    axes.spines["left"].set_visible(False)


def _apart(axes: "Axes", values: Sequence[float]) -> list[float]:
    """Places for labels beside these values, in their order, far enough apart to be read."""
    low, high = axes.get_ylim()
    gap = (high - low) * 0.07
    places = list(values)
    order = sorted(range(len(values)), key=lambda index: values[index])
    for below, above in pairwise(order):
        places[above] = max(places[above], places[below] + gap)
    return places


def _offset(figure: "Figure", points: float) -> Any:
    from matplotlib.transforms import ScaledTranslation

    return ScaledTranslation(points / 72, 0, figure.dpi_scale_trans)


def _svg(name: str, title: str, height: float, draw: Any) -> str:
    """What `draw(figure, axes)` draws, as an `<svg>` element that scales with the page and names its own ids."""
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH, height), layout="constrained")
        FigureCanvasSVG(figure)
        draw(figure, figure.add_subplot())
        buffer = StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' xmlns(:\w+)?="[^"]*"', "", svg)
    svg = re.sub(r' (width|height)="[\d.]+pt"', "", svg, count=2)
    svg = re.sub(r'( id="|href="#|url\(#)', rf"\g<1>{name}-", svg).replace("xlink:href", "href")
    for colour, stand_in in _COLOURS.items():
        svg = svg.replace(stand_in, f"var(--{colour})")
    return svg.replace("<svg", f'<svg role="img" aria-label="{escape(title)}"', 1)
