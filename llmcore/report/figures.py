"""The figures of a run: losses, trials, the leaderboard, costs."""

from collections.abc import Mapping, Sequence
from itertools import cycle, pairwise
from typing import TYPE_CHECKING, Any

from llmcore.evaluation.bootstrap import Interval
from llmcore.report.closer import CalibrationBin
from llmcore.report.drawing import COLOURS, draw_svg, legend_above, name_rows
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

_NAMED_LINES = 8
_FURTHER = (":", "-.", (0, (6, 2)), (0, (3, 1, 1, 1, 1, 1)))
"""Lines of further held-out sets, in turn."""


def loss_figure(pretrain: PretrainReport, of: str = "") -> str:
    """Loss on train, validation and further held-out sets by step, beside the cross-entropy of the train unigrams."""

    def draw(figure: "Figure", axes: "Axes") -> None:
        axes.plot(pretrain.train.steps, pretrain.train.values, color=COLOURS["second"], linewidth=1.2, label="train")
        axes.plot(
            pretrain.validation.steps,
            pretrain.validation.values,
            color=COLOURS["accent"],
            linewidth=2,
            marker="o",
            markersize=3.5,
            label="validation",
        )
        for (name, curve), style in zip(pretrain.held_out.items(), cycle(_FURTHER), strict=False):
            accent = COLOURS["accent"]
            axes.plot(curve.steps, curve.values, color=accent, linewidth=1.2, linestyle=style, label=plain(name))
        if pretrain.unigram_loss is not None:
            axes.axhline(pretrain.unigram_loss, color=COLOURS["muted"], linewidth=1, linestyle=(0, (4, 3)))
            axes.annotate(
                f"unigrams {pretrain.unigram_loss:.3f}",
                (1, pretrain.unigram_loss),
                xycoords=("axes fraction", "data"),
                xytext=(0, -4),
                textcoords="offset points",
                ha="right",
                va="top",
                color=COLOURS["muted"],
            )
        axes.set_xlabel("step")
        axes.set_ylabel("loss, nats a token")
        axes.legend(loc="upper right", labelcolor=COLOURS["ink"])

    return draw_svg(f"loss{of}", "Pre-training loss by step", 3.1, draw)


def trials_figure(trials: Sequence[TrialReport], metric: str, of: str = "") -> str:
    """The validation metric of each trial by step, the chosen one in front."""
    named = len(trials) <= _NAMED_LINES

    def draw(figure: "Figure", axes: "Axes") -> None:
        ends = []
        for trial in sorted(trials, key=lambda trial: trial.chosen):
            if not trial.curve.steps:
                continue
            colour = COLOURS["accent" if trial.chosen else "second"]
            axes.plot(trial.curve.steps, trial.curve.values, color=colour, linewidth=2.2 if trial.chosen else 1.2)
            mark = {"finished": "o", "stopped": "s"}.get(trial.status, "X")
            axes.plot(
                trial.curve.steps[-1:],
                trial.curve.values[-1:],
                mark,
                color=colour,
                markersize=5,
                markeredgecolor=COLOURS["paper"],
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
                color=colour if colour == COLOURS["accent"] else COLOURS["muted"],
                va="center",
                annotation_clip=False,
            )
        axes.set_xlabel("step (● finished, ■ stopped, ✖ failed)")
        axes.set_ylabel(f"{plain(metric)}, validation")

    return draw_svg(f"trials{of}", f"Validation {plain(metric)} of each trial by step", 3.1, draw)


def leaderboard_figure(judged: Sequence[JudgedModel], metric: str, of: str = "") -> str:
    """A forest plot: the metric of each model with its interval, on test (filled) and on validation (hollow)."""
    rows = [model for model in judged if metric in model.test or metric in model.validation]

    def draw(figure: "Figure", axes: "Axes") -> None:
        for place, model in enumerate(rows):
            colour = COLOURS["accent" if model.kind == "chosen" else "second"]
            both = metric in model.test and metric in model.validation
            if metric in model.validation:
                _whisker(axes, place + (0.17 if both else 0), model.validation[metric], colour, hollow=True)
            if metric in model.test:
                _whisker(axes, place - (0.17 if both else 0), model.test[metric], colour)
        name_rows(axes, [model.name for model in rows])
        axes.set_xlabel(f"{plain(metric)}, 95 % interval\n(● test, ○ validation)")

    return draw_svg(
        f"leaderboard{of}", f"{plain(metric)} of each model with its interval", 0.95 + 0.36 * len(rows), draw
    )


def difference_figure(differences: Mapping[str, Mapping[str, Interval]], metric: str, of: str = "") -> str:
    """The chosen model minus each baseline on the test split, with intervals, beside zero."""
    rows = {name: gains[metric] for name, gains in differences.items() if metric in gains}

    def draw(figure: "Figure", axes: "Axes") -> None:
        axes.axvline(0, color=COLOURS["ink"], linewidth=1)
        for place, gain in enumerate(rows.values()):
            _whisker(axes, place, gain, COLOURS["accent" if gain.excludes_zero else "second"])
        name_rows(axes, [plain(name) for name in rows])
        axes.set_xlabel(f"difference in {plain(metric)} on test,\n95 % interval")

    return draw_svg(
        f"differences{of}", f"Difference in {plain(metric)} to each baseline", 0.95 + 0.36 * len(rows), draw
    )


def calibration_figure(bins: Sequence[CalibrationBin], of: str = "") -> str:
    """How often the model is right, by how sure it is, beside the line on which both are the same."""

    def draw(figure: "Figure", axes: "Axes") -> None:
        axes.plot([0, 1], [0, 1], color=COLOURS["muted"], linewidth=1, linestyle=(0, (4, 3)))
        accent, most = COLOURS["accent"], max(one.num for one in bins)
        sure, right = ([getattr(one, side) for one in bins] for side in ("confidence", "right"))
        axes.plot(sure, right, color=accent, linewidth=1)
        axes.scatter(sure, right, [12 + 60 * one.num / most for one in bins], color=accent, zorder=3)
        axes.set_xlim(-0.03, 1.03)
        axes.set_ylim(-0.03, 1.03)
        axes.set_xlabel("how sure the model is, on average")
        axes.set_ylabel("share that is right")

    return draw_svg(f"calibration{of}", "Share that is right by how sure the model is", 3.1, draw)


def cost_figure(stages: Sequence[StageReport], of: str = "") -> str:
    """Wall seconds of each stage, stacked by category."""
    rows = [stage for stage in stages if stage.seconds]
    categories = list(
        dict.fromkeys(category for stage in rows for category in stage.seconds if stage.seconds[category])
    )

    def draw(figure: "Figure", axes: "Axes") -> None:
        left = [0.0] * len(rows)
        for category in categories:
            seconds = [stage.seconds.get(category, 0.0) for stage in rows]
            colour = COLOURS.get(category.replace("_", "-"), COLOURS["other"])
            axes.barh(
                range(len(rows)),
                seconds,
                left=left,
                height=0.62,
                color=colour,
                edgecolor=COLOURS["paper"],
                linewidth=0.6,
                label=plain(category),
            )
            left = [a + b for a, b in zip(left, seconds, strict=True)]
        for place, total in enumerate(left):
            axes.annotate(f"{total:,.1f} s", (total, place), xytext=(4, 0), textcoords="offset points", va="center")
        name_rows(axes, [stage.stage for stage in rows])
        axes.margins(x=0.16)
        axes.set_xlim(left=0)
        axes.set_xlabel("wall seconds")
        legend_above(figure, axes)

    height = 0.95 + 0.2 * -(-len(categories) // 3) + 0.36 * len(rows)
    return draw_svg(f"cost{of}", "Wall seconds of each stage by category", height, draw)


def _whisker(axes: "Axes", place: float, of: Interval, colour: str, *, hollow: bool = False) -> None:
    axes.plot([of.low, of.high], [place, place], color=colour, linewidth=1.6)
    axes.plot(
        [of.value],
        [place],
        "o",
        markersize=6,
        markeredgecolor=colour,
        markerfacecolor=COLOURS["paper"] if hollow else colour,
        markeredgewidth=1.4,
    )


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
