"""The leaderboard for people, as a file of Markdown: what was chosen and what it is worth, then every model."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from llmcore.evaluation.leaderboard import Entry, Leaderboard
from llmcore.evaluation.suite import Suite

__all__ = ["leaderboard_markdown", "table_row", "told_interval", "told_over"]

_APART = {True: "distinguishable", False: "not distinguishable", None: ""}


def leaderboard_markdown(content: Mapping[str, Any], board: Leaderboard, suite: Suite) -> str:
    """The file.

    Args:
        content: What `metrics.json` has.
        board: All models, ranked on validation.
        suite: What they were judged by.
    """
    metric = suite.choosing_metric().name
    chosen = next(model for model in content["models"] if model["id"] == content["chosen"])
    told = told_interval(chosen["test"].get(metric)) or "undefined"
    lines = [
        f"# {content['set']['name']}: {content['set']['kind'].replace('_', ' ')}",
        "",
        f"Chosen by validation {metric}: **{content['chosen']}**; on test {told}. "
        f"Looks at this test split: {content['register_looks']}.",
        "",
    ]
    for name, of in content["differences"].items():
        if (apart := of.get(metric)) is not None:
            zero = ", not distinguishable" if apart["low"] <= 0 <= apart["high"] else ""
            lines.append(f"- {name.replace('_', ' ')}: {told_interval(apart, '+')}{zero}")
    lines += ["", *_table(board, suite), "", f"{content['note']}."]
    return "\n".join(lines) + "\n"


def _table(board: Leaderboard, suite: Suite) -> Iterator[str]:
    metrics = [metric.name for metric in suite.all_metrics()]
    settings = sorted({key for entry in board.entries for key in entry.settings})
    heads = ["", "model", "status", *(f"{name}, validation" for name in metrics), "from the leader"]
    heads += [*(key.rpartition(".")[2] for key in settings), "error"]
    yield table_row(heads)
    yield table_row(["---"] * len(heads))
    for position, entry in enumerate(board.entries, start=1):
        yield table_row([str(position) if entry.eligible else "", *_cells(entry, board, metrics, settings)])


def _cells(entry: Entry, board: Leaderboard, metrics: Sequence[str], settings: Sequence[str]) -> Iterator[str]:
    yield from (entry.id, entry.status)
    for name in metrics:
        found = entry.validation.metrics.get(name) if entry.validation else None
        yield told_interval(found.to_json() if found else None)
    yield _APART[board.distinguishable.get(entry.id)]
    for key in settings:
        value = entry.settings.get(key)
        yield "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
    yield entry.why_not


def told_interval(interval: Mapping[str, float] | None, sign: str = "") -> str:
    """A figure with the ends of its interval; nothing where there is none."""
    if interval is None:
        return ""
    value, low, high = (f"{interval[end]:{sign}.4f}" for end in ("value", "low", "high"))
    return f"{value} ({low} to {high})"


def told_over(gap: Mapping[str, float], most: float) -> str:
    """By how much a counterfactual gap, an interval, is over what it may be."""
    over = f"{gap['value'] - most:.4f} over max_counterfactual_gap={most:g}"
    return f"its counterfactual gap is {told_interval(gap)}, which is {over}"


def table_row(cells: Sequence[str]) -> str:
    """A row of a table."""
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
