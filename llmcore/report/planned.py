"""What a training will need, as a page: memory by ZeRO stage, time, money, and the model that would learn most."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from llmcore.cost.plan import RankMemory
from llmcore.report.drawing import COLOURS, draw_svg, legend_above, name_rows
from llmcore.report.page import render_page

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["PlannedJob", "memory_figure", "optimum_figure", "ranges_figure", "render_plan"]

_GIB, _MIB = 2**30, 2**20
_PARTS = {
    "states": "compute",
    "gradients": "data-wait",
    "buffers": "checkpoint",
    "activations": "validation",
}
"""What memory is held for, and the colour of each."""

Ends = tuple[float, float]
"""The lowest and the highest."""


@dataclass(frozen=True)
class PlannedJob:
    """A job by calculation; all but its name and its words is empty for one that trains nothing, or not yet.

    Attributes:
        lines: The plan in words.
        stage: ZeRO's, as configured.
        memory: Of a rank, by ZeRO stage; that of `stage` as configured, the others without offloading.
        device: Name of the GPU that it is for.
        usable: Of its memory, the bytes that tensors get.
        num_parameters: Of the model.
        num_tokens: That it trains on.
        optimum: Of a pre-training, parameters and tokens of the model that learns most of as many FLOPs.
        device_hours: Of all devices and trials.
        money: The same at its price.
        currency: Of the money.
    """

    name: str
    lines: tuple[str, ...]
    stage: int | None = None
    memory: Mapping[int, RankMemory] = field(default_factory=dict)
    device: str | None = None
    usable: float | None = None
    num_parameters: int | None = None
    num_tokens: float | None = None
    optimum: Ends | None = None
    device_hours: Ends | None = None
    money: Ends | None = None
    currency: str = ""


def render_plan(title: str, jobs: Sequence[PlannedJob]) -> str:
    """The page; whatever comes from configurations is escaped."""
    pictures: dict[str, str] = {}
    for number, job in enumerate(jobs):
        if job.memory:
            pictures[f"memory-{number}"] = memory_figure(job, f"-{number}")
        if job.optimum is not None:
            pictures[f"optimum-{number}"] = optimum_figure(job, f"-{number}")
    hours = {job.name: job.device_hours for job in jobs if job.device_hours is not None}
    money = {job.name: job.money for job in jobs if job.money is not None}
    currency = next((job.currency for job in jobs if job.money is not None), "")
    if hours:
        pictures["device-hours"] = ranges_figure("device-hours", "device-hours", hours)
    if money:
        pictures["money"] = ranges_figure("money", f"money, {currency}", money)
    return render_page(
        "plan.html.j2",
        pictures,
        plan=title,
        jobs=jobs,
        hours=_total(hours.values()),
        money=_total(money.values()),
        currency=currency,
        parts=list(_PARTS),
        bytes_of=_bytes_of,
    )


def memory_figure(job: PlannedJob, of: str = "") -> str:
    """Memory of a rank at each ZeRO stage, stacked by what it is held for, beside what the device has for tensors."""
    most = max([*(memory.device for memory in job.memory.values()), job.usable or 0.0])
    unit, size = ("GiB", _GIB) if most >= _GIB / 2 else ("MiB", _MIB)

    def draw(figure: "Figure", axes: "Axes") -> None:
        rows = list(job.memory.values())
        left = [0.0] * len(rows)
        for part, colour in _PARTS.items():
            held = [_bytes_of(memory, part) / size for memory in rows]
            axes.barh(
                range(len(rows)),
                held,
                left=left,
                height=0.62,
                color=COLOURS[colour],
                edgecolor=COLOURS["paper"],
                linewidth=0.6,
                label=part,
            )
            left = [a + b for a, b in zip(left, held, strict=True)]
        for place, total in enumerate(left):
            axes.annotate(f"{total:,.1f}", (total, place), xytext=(4, 0), textcoords="offset points", va="center")
        if job.usable is not None:
            axes.axvline(job.usable / size, color=COLOURS["ink"], linewidth=1, linestyle=(0, (4, 3)))
        name_rows(axes, [f"ZeRO-{stage}{', asked' if stage == job.stage else ''}" for stage in job.memory])
        axes.margins(x=0.16)
        axes.set_xlim(left=0)
        axes.set_xlabel(f"memory of a rank, {unit}")
        legend_above(figure, axes)

    return draw_svg(f"memory{of}", "Memory of a rank by ZeRO stage", 1.4 + 0.36 * len(job.memory), draw)


def optimum_figure(job: PlannedJob, of: str = "") -> str:
    """The model and its tokens beside all that as many FLOPs pay for, and the one of them that learns most."""
    assert job.optimum is not None and job.num_parameters is not None and job.num_tokens is not None
    best, here = job.optimum, (float(job.num_parameters), job.num_tokens)

    def draw(figure: "Figure", axes: "Axes") -> None:
        from matplotlib.ticker import EngFormatter, LogLocator

        low, high = min(best[0], here[0]) / 4, max(best[0], here[0]) * 4
        budget = best[0] * best[1]
        axes.loglog([low, high], [budget / low, budget / high], color=COLOURS["second"], label="as many FLOPs")
        axes.loglog(*best, "s", color=COLOURS["validation"], markersize=7, label="learns most (Chinchilla)")
        axes.loglog(*here, "o", color=COLOURS["accent"], markersize=7, label="this one")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(LogLocator(subs=(1.0, 3.0)))
            axis.set_major_formatter(EngFormatter(sep=""))
        axes.minorticks_off()
        axes.grid(visible=True, axis="x")
        axes.set_xlabel("parameters")
        axes.set_ylabel("tokens")
        legend_above(figure, axes)

    return draw_svg(f"optimum{of}", "Parameters and tokens for as many FLOPs", 3.1, draw)


def ranges_figure(name: str, label: str, ranges: Mapping[str, Ends]) -> str:
    """From the lowest to the highest of each job."""

    def draw(figure: "Figure", axes: "Axes") -> None:
        for place, (low, high) in enumerate(ranges.values()):
            axes.plot([low, high], [place, place], color=COLOURS["accent"], linewidth=5, solid_capstyle="butt")
            axes.plot([low, high], [place, place], "|", color=COLOURS["accent"], markersize=12, markeredgewidth=1.6)
        name_rows(axes, list(ranges))
        axes.margins(x=0.08)
        axes.set_xlim(left=0)
        axes.set_xlabel(f"{label}, lowest to highest")

    return draw_svg(name, f"{label} of each training", 0.75 + 0.36 * len(ranges), draw)


def _bytes_of(memory: RankMemory, part: str) -> float:
    """Bytes of one of the parts, which together are the rank's."""
    return memory.gradients - memory.buffers if part == "gradients" else float(getattr(memory, part))


def _total(ranges: Iterable[Ends]) -> Ends | None:
    pairs = list(ranges)
    return (sum(low for low, _ in pairs), sum(high for _, high in pairs)) if pairs else None
