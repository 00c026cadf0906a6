"""What pre-training has bought as one self-contained page: two curves with intervals, and what they come to."""

from typing import TYPE_CHECKING

from llmcore.config.transfer import WEIGHTS, Weights
from llmcore.cost.transfer import Budgeted, frontier
from llmcore.evaluation.transfer import COSTS, Cell, TransferOutcome
from llmcore.report import words
from llmcore.report.drawing import COLOURS, draw_svg
from llmcore.report.page import render_page
from llmcore.report.transfer_words import amount, paid, paid_between, sentences

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["cost_curves", "label_curves", "render_transfer"]

_COLOUR = {"pretrained": "accent", "random": "second"}
_NAME = {"pretrained": "pre-trained", "random": "random weights"}
_STYLES = ("-", (0, (5, 2)), (0, (1, 1.5)), "-.")
_MARKERS = "osD^vP*X"
_APART = 1.03
"""Neighbours at one budget are drawn so far from each other, as a factor, that their intervals can be told apart."""


def render_transfer(outcome: TransferOutcome) -> str:
    """The page, the same text for the same outcome; whatever comes from the records is escaped."""
    return render_page(
        "transfer.html.j2",
        {"labels": label_curves(outcome), "cost": cost_curves(outcome)} if outcome.cells else {},
        outcome=outcome,
        sentences=sentences(outcome),
        rows=_rows(outcome),
        by_labels=outcome.by_labels(),
        by_cost={cost: outcome.by_cost(cost) for cost in COSTS},
        paid_off={cost: outcome.paid_off(cost) for cost in COSTS},
        tells_energy=any(cell.energy_j is not None for cell in outcome.cells),
        units={"device_seconds": "device-seconds", "flops": "FLOPs"},
        amount=amount,
        paid=paid,
        paid_between=paid_between,
    )


def _rows(outcome: TransferOutcome) -> list[tuple[int, float, dict[str, Cell | None]]]:
    """Of each budget, its cells by weights; None where it has none."""
    cells = {(cell.labels, cell.epochs, cell.weights): cell for cell in outcome.cells}
    budgets = sorted({(labels, epochs) for labels, epochs, _ in cells})
    return [(*budget, {one: cells.get((*budget, one)) for one in WEIGHTS}) for budget in budgets]


def label_curves(outcome: TransferOutcome) -> str:
    """Quality by labels, a line for each kind of weights and number of epochs."""
    epochs = sorted({cell.epochs for cell in outcome.cells})

    def draw(figure: "Figure", axes: "Axes") -> None:
        for place, one in enumerate(WEIGHTS):
            for number, of_epochs in enumerate(epochs):
                cells = [cell for cell in outcome.of(one) if cell.epochs == of_epochs]
                shift = _APART ** (len(epochs) * (place - 0.5) + number - (len(epochs) - 1) / 2)
                budgets = [cell.labels * shift for cell in cells]
                plural = "" if of_epochs == 1 else "s"
                label = f"{_NAME[one]}, {of_epochs:g} epoch{plural}"
                _curve(axes, one, budgets, cells, label, _STYLES[number % len(_STYLES)])
        _logarithmic(axes, [cell.labels for cell in outcome.cells])
        axes.set_xlabel("labels: train rows")
        axes.set_ylabel(f"{words.plain(outcome.metric)}, validation")
        _legend(figure, axes)

    return draw_svg("labels", f"{words.plain(outcome.metric)} by labels, pre-trained and random weights", 3.6, draw)


def cost_curves(outcome: TransferOutcome) -> str:
    """Quality by device-seconds of the fine-tuning: all points, and as a line those better than every cheaper one."""
    labels = sorted({cell.labels for cell in outcome.cells})
    sign = 1.0 if outcome.higher_is_better else -1.0

    def draw(figure: "Figure", axes: "Axes") -> None:
        for one in WEIGHTS:
            for number, of_labels in enumerate(labels):
                cells = [cell for cell in outcome.of(one) if cell.labels == of_labels]
                marker = _MARKERS[number % len(_MARKERS)]
                label = f"{_NAME[one]}, {of_labels:,} labels"
                _curve(axes, one, [cell.device_seconds for cell in cells], cells, label, "", marker)
            best = frontier([Budgeted(cell.device_seconds, sign * cell.quality.value) for cell in outcome.of(one)])
            colour = COLOURS[_COLOUR[one]]
            axes.plot([b.budget for b in best], [sign * b.quality for b in best], color=colour, linewidth=1.2)
        _logarithmic(axes, [cell.device_seconds for cell in outcome.cells])
        axes.set_xlabel("device-seconds of the fine-tuning's steps")
        axes.set_ylabel(f"{words.plain(outcome.metric)}, validation")
        _legend(figure, axes)

    title = f"{words.plain(outcome.metric)} by device-seconds, pre-trained and random weights"
    return draw_svg("cost", title, 3.6, draw)


def _curve(
    axes: "Axes",
    weights: Weights,
    budgets: list[float],
    cells: list[Cell],
    label: str,
    style: object,
    marker: str = "o",
) -> None:
    """Values with their intervals, and the seeds' own values as small dots where there are several."""
    if not cells:
        return
    colour = COLOURS[_COLOUR[weights]]
    values = [cell.quality.value for cell in cells]
    for budget, cell in zip(budgets, cells, strict=True):
        axes.plot([budget, budget], [cell.quality.low, cell.quality.high], color=colour, linewidth=1.4)
        if len(cell.of_seeds) > 1:
            axes.plot([budget] * len(cell.of_seeds), cell.of_seeds, ".", color=colour, markersize=3)
    axes.plot(
        budgets,
        values,
        marker=marker,
        markersize=5,
        markeredgecolor=COLOURS["paper"],
        color=colour,
        linestyle=style or "",
        linewidth=1.6,
        label=label,
    )


def _logarithmic(axes: "Axes", budgets: list[float]) -> None:
    """Ticks at the budgets themselves, where they are few."""
    from matplotlib.ticker import FuncFormatter, NullLocator

    axes.set_xscale("log")
    distinct = sorted(set(budgets))
    if len(distinct) <= 6 and all(isinstance(one, int) for one in distinct):
        axes.set_xticks(distinct)
        axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.3g}" if value < 1000 else f"{value:,.0f}"))


def _legend(figure: "Figure", axes: "Axes") -> None:
    figure.legend(
        *axes.get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=10, labelcolor=COLOURS["ink"]
    )
