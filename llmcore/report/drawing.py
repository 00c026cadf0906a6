"""Drawing by matplotlib, as inline SVG: coloured by the page's style sheet, the same bytes each time."""

import re
from collections.abc import Sequence
from html import escape
from io import StringIO
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["COLOURS", "draw_svg", "name_rows"]

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
    "font.size": 10.0,
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
_WIDTH = 5.4  # inches; 72 units of the drawing each, so that text stays readable on a phone


def name_rows(axes: "Axes", names: Sequence[str]) -> None:
    """Named rows from the top down, with vertical grid lines."""
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(axis="y", length=0, labelcolor=COLOURS["ink"])
    axes.set_ylim(len(names) - 0.45, -0.55)
    axes.grid(visible=False, axis="y")
    axes.grid(visible=True, axis="x")
    axes.spines["left"].set_visible(False)


def draw_svg(name: str, title: str, height: float, draw: Any) -> str:
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
    for colour, stand_in in COLOURS.items():
        svg = svg.replace(stand_in, f"var(--{colour})")
    return svg.replace("<svg", f'<svg role="img" aria-label="{escape(title)}"', 1)
