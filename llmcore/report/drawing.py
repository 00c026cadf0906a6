"""Drawing by matplotlib, as inline SVG: coloured by the page's style sheet, the same bytes each time."""

import re
from collections.abc import Sequence
from html import escape
from io import StringIO
from textwrap import fill
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["COLOURS", "draw_svg", "legend_above", "name_rows"]

# Stand-ins that no drawing contains by chance: each becomes a variable of the style sheet, light or dark.
COLOURS = {
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
    "font.size": 11.0,
    "axes.edgecolor": COLOURS["line"],
    "axes.labelcolor": COLOURS["muted"],
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "text.color": COLOURS["ink"],
    "xtick.color": COLOURS["line"],
    "ytick.color": COLOURS["line"],
    "xtick.labelcolor": COLOURS["muted"],
    "ytick.labelcolor": COLOURS["muted"],
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": COLOURS["line"],
    "grid.linewidth": 0.5,
    "grid.alpha": 0.6,
    "lines.solid_capstyle": "round",
    "legend.frameon": False,
}
_LONGEST_ROW = 30
"""Letters of a row's name that leave room for the row."""
_WIDTH = 4.9  # inches; 72 units of the drawing each, so that text stays readable on a phone


def name_rows(axes: "Axes", names: Sequence[str]) -> None:
    """Named rows from the top down, with vertical grid lines; of a long name, whose table has all of it, both ends."""
    axes.set_yticks(range(len(names)), [_both_ends(name) for name in names])
    axes.tick_params(axis="y", length=0, labelcolor=COLOURS["ink"])
    axes.set_ylim(len(names) - 0.45, -0.55)
    axes.grid(visible=False, axis="y")
    axes.grid(visible=True, axis="x")
    axes.spines["left"].set_visible(False)


def legend_above(figure: "Figure", axes: "Axes") -> None:
    """What the lines and bars of a drawing are called, over its whole width: names of rows leave the axes little."""
    handles, labels = axes.get_legend_handles_labels()
    place = {"loc": "outside upper left", "ncols": 3, "borderaxespad": 0.2, "borderpad": 0.0}
    style = {"handlelength": 1.2, "columnspacing": 1.4, "fontsize": 10, "labelcolor": COLOURS["ink"]}
    figure.legend(handles, labels, **place, **style)


def _both_ends(name: str) -> str:
    return name if len(name) <= _LONGEST_ROW else f"{name[: _LONGEST_ROW // 2]}…{name[-(_LONGEST_ROW // 2 - 1) :]}"


def _in_lines(label: str, width: int) -> str:
    """A label of an axis in lines of so many letters: a longer one would be cut off at the drawing's edge."""
    return "\n".join(fill(line, width) for line in label.split("\n"))


def draw_svg(name: str, title: str, height: float, draw: Any) -> str:
    """What `draw(figure, axes)` draws, as an `<svg>` element that scales with the page and names its own ids."""
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH, height), layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.add_subplot()
        draw(figure, axes)
        axes.set_xlabel(_in_lines(axes.get_xlabel(), 42))
        axes.set_ylabel(_in_lines(axes.get_ylabel(), 30))
        buffer = StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' xmlns(:\w+)?="[^"]*"', "", svg)
    svg = re.sub(r' (width|height)="[\d.]+pt"', "", svg, count=2)
    svg = re.sub(r'( id="|href="#|url\(#)', rf"\g<1>{name}-", svg).replace("xlink:href", "href")
    for colour, stand_in in COLOURS.items():
        svg = svg.replace(stand_in, f"var(--{colour})")
    return svg.replace("<svg", f'<svg role="img" aria-label="{escape(title)}"', 1)
