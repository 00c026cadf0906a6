"""The metrics of a run as curves, read row by row and thinned on the way."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import isfinite

from llmcore.records import MetricRows, Session
from llmcore.report.model import Curve
from llmcore.report.thinning import Thinning
from llmcore.storage import Folder

__all__ = ["RunCurves", "over", "read_curves"]

_TOKENS, _ELAPSED, _STEP = "tokens_seen", "elapsed_s", "step"


@dataclass(frozen=True)
class RunCurves:
    """What a run told while it trained.

    Attributes:
        metrics: By the name of its column, each by step.
        tokens: Tokens seen, by step.
        device_seconds: Seconds that devices trained for, by step: over all attempts and restarts, also those whose
            steps were taken again; start-up is not among them.
        num_torn: Lines that cannot be read.
        not_finite: Values that are no finite number, which no curve has, by the name of their column.
    """

    metrics: Mapping[str, Curve] = field(default_factory=dict)
    tokens: Curve = field(default_factory=Curve)
    device_seconds: Curve = field(default_factory=Curve)
    num_torn: int = 0
    not_finite: Mapping[str, int] = field(default_factory=dict)


def read_curves(run: Folder, devices: Mapping[int, int]) -> RunCurves:
    """Of all rows that stand; `devices` are how many each attempt held, one where nobody knows. Raises StorageError."""
    rows = MetricRows(run)
    last_step = max((one.last_step for one in rows.sessions if one.last_step is not None), default=0)
    before = _device_seconds_before(rows.sessions, devices)
    kept: dict[str, Thinning] = {}
    not_finite: dict[str, int] = {}

    def add(name: str, step: int, value: float) -> None:
        if isfinite(value):
            kept.setdefault(name, Thinning(last_step)).add(step, value)
        else:
            not_finite[name] = not_finite.get(name, 0) + 1

    for session, row in rows:
        step = row.get(_STEP)
        if step is None:
            continue
        for name, value in row.items():
            if name != _STEP and isinstance(value, int | float) and not isinstance(value, bool):
                held = devices.get(session.attempt, 1)
                add(name, step, before[session] + held * value if name == _ELAPSED else value)
    curves = {name: _curve(thinned) for name, thinned in kept.items()}
    return RunCurves(
        tokens=curves.pop(_TOKENS, Curve()),
        device_seconds=curves.pop(_ELAPSED, Curve()),
        metrics=curves,
        num_torn=rows.num_torn,
        not_finite=not_finite,
    )


def over(curve: Curve, axis: Curve) -> tuple[float, ...]:
    """Where the points of a curve stand on another axis, which is known at some steps and straight between them.

    Before its first step it comes from nothing at step 0; after its last it stays. Empty where nothing is known of it.
    """
    import numpy as np

    if not axis.steps:
        return ()
    return tuple(map(float, np.interp(curve.steps, (0, *axis.steps), (0.0, *axis.values))))


def _curve(thinned: Thinning) -> Curve:
    points = thinned.points()
    return Curve(tuple(step for step, _ in points), tuple(value for _, value in points))


def _device_seconds_before(sessions: Iterable[Session], devices: Mapping[int, int]) -> dict[Session, float]:
    """By session, what the ones before it have spent."""
    before: dict[Session, float] = {}
    spent = 0.0
    for session in sessions:
        before[session] = spent
        spent += devices.get(session.attempt, 1) * session.elapsed_s
    return before
