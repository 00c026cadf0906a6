"""The bias of language models for people and for a table: each figure of each set, the fairest model first."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from llmcore.evaluation.markdown import table_row, told_interval
from llmcore.storage import Folder, publish
from llmcore.storage.content import readable_json

__all__ = ["BiasLine", "bias_differences", "bias_lines", "bias_markdown", "write_bias"]

_HEADS = ["set", "figure", "fair", "model", "value, 95 % interval", "from fair", "of"]
_APART_HEADS = ["set", "figure", "model", "difference, 95 % interval", "", "of"]


class BiasLine(NamedTuple):
    """A model by a figure of a set; plain JSON of `Figure` beside it."""

    set: str
    name: str
    model: str
    figure: Mapping[str, Any]

    @property
    def told(self) -> str:
        """Whether the interval leaves out what is fair; nothing where the figure says how able a model is."""
        fair = self.figure["fair"]
        if fair is None:
            return ""
        return "not distinguishable" if self.figure["low"] <= fair <= self.figure["high"] else "distinguishable"


def bias_lines(content: Mapping[str, Any]) -> list[BiasLine]:
    """By set and figure in their order, then model: the nearest to what is fair first, or the ablest.

    Args:
        content: `bias.told.bias_json`.
    """
    lines = []
    for name in content["sets"]:
        # A model that writes nothing is not asked by every set.
        of_models = {model: told[name]["figures"] for model, told in content["models"].items() if name in told}
        for figure in dict.fromkeys(figure for figures in of_models.values() for figure in figures):
            found = [
                BiasLine(name, figure, model, figures[figure])
                for model, figures in of_models.items()
                if figure in figures
            ]
            lines += sorted(found, key=_order)
    return lines


def bias_differences(content: Mapping[str, Any]) -> list[BiasLine]:
    """By set in their order, then figure and model: what each model's is less that of `against`.

    Args:
        content: `bias.told.bias_json`.
    """
    return [
        BiasLine(name, figure, model, told)
        for name in content["sets"]
        for figure, model, told in sorted(
            (
                (figure, model, told)
                for model, by_set in content["differences"].items()
                for figure, told in by_set.get(name, {}).items()
            ),
            key=lambda one: one[:2],
        )
    ]


def bias_markdown(content: Mapping[str, Any]) -> str:
    """The board as a file of Markdown; `content` is `bias.told.bias_json`."""
    lines = ["# Bias", ""]
    for name, about in content["sets"].items():
        of = f"{about['num_rows']:,}"
        if about["num_rows"] < about["num_rows_of_set"]:
            of += f" of {about['num_rows_of_set']:,}"
        lines.append(f"- {name}: {about['kind']}, {of} {'test' if about['kind'] in ('weat', 'seat') else 'row'}s")
    lines += [f"- left out: {model} {why}" for model, why in content["left_out"].items()]
    lines += [f"- {one}" for one in _too_long(content)]
    lines += [
        "",
        *_table(content),
        *_differences(content),
        "",
        "What each figure means, and what it does not show: docs/bias.md.",
    ]
    return "\n".join(lines) + "\n"


def write_bias(folder: Folder, content: Mapping[str, Any]) -> None:
    """Publish bias.json and bias.md of an evaluation that measures nothing else."""
    about = {"sets": {name: one["hash"] for name, one in content["sets"].items()}}
    with publish(folder, "evaluation-bias", about) as publication:
        publication.write_bytes("bias.json", readable_json(content))
        publication.write_bytes("bias.md", bias_markdown(content).encode())


def _too_long(content: Mapping[str, Any]) -> Iterator[str]:
    for model, told in content["models"].items():
        for name, about in told.items():
            if number := about["num_too_long"]:
                yield f"{model} has no positions for {number:,} rows of {name}: its figures there are of the others"


def _table(content: Mapping[str, Any]) -> Iterator[str]:
    yield table_row(_HEADS)
    yield table_row(["---"] * len(_HEADS))
    before = None
    for line in bias_lines(content):
        figure = line.figure
        first = (line.set, line.name) != before
        before = (line.set, line.name)
        fair = "" if figure["fair"] is None else f"{figure['fair']:g}"
        cells = [line.set, line.name.replace("_", " "), fair] if first else [""] * 3
        p_value = f", p = {figure['p_value']:.4f}" if "p_value" in figure else ""
        yield table_row([*cells, line.model, told_interval(figure) + p_value, line.told, f"{figure['num']:,}"])


def _differences(content: Mapping[str, Any]) -> Iterator[str]:
    if not (lines := bias_differences(content)):
        return
    yield from ("", f"Less {content['against']}, of the same rows:", "")
    yield table_row(_APART_HEADS)
    yield table_row(["---"] * len(_APART_HEADS))
    before = None
    for line in lines:
        first = (line.set, line.name) != before
        before = (line.set, line.name)
        cells = [line.set, line.name.replace("_", " ")] if first else [""] * 2
        yield table_row([*cells, line.model, told_interval(line.figure, "+"), line.told, f"{line.figure['num']:,}"])


def _order(line: BiasLine) -> tuple[float, str]:
    fair, value = line.figure["fair"], line.figure["value"]
    return -value if fair is None else abs(value - fair), line.model
