"""A thinned curve looks like the whole one, and reading one never holds the whole."""

import math
from itertools import pairwise
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from llmcore.records import MetricsWriter, attempt_folder
from llmcore.report.curves import over, read_curves
from llmcore.report.model import Curve
from llmcore.report.thinning import Thinning
from llmcore.storage import Folder


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=400), st.integers(1, 9))
def test_extremes_and_ends_of_each_part_are_kept_and_nothing_is_made_up(values: list[float], num_buckets: int) -> None:
    thinned = Thinning(len(values) - 1, num_buckets)
    for step, value in enumerate(values):
        thinned.add(step, value)
    points = thinned.points()
    assert len(points) <= 4 * num_buckets
    assert all(values[step] == value for step, value in points)
    assert all(before < after for (before, _), (after, _) in pairwise(points))
    kept = [value for _, value in points]
    assert (min(kept), max(kept)) == (min(values), max(values))
    assert points[0] == (0, values[0]) and points[-1] == (len(values) - 1, values[-1])


def test_few_points_are_all_kept() -> None:
    thinned = Thinning(200)
    for step in range(201):
        thinned.add(step, math.sin(step))
    assert [step for step, _ in thinned.points()] == list(range(201))


def _write(run: Folder, attempt: int, rows: list[dict[str, Any]], resumed_at: int | None = None) -> None:
    writer = MetricsWriter(attempt_folder(run, attempt), flush_every_s=1e9, resumed_at=resumed_at)
    for row in rows:
        writer.write(row)
    writer.close()


def test_a_spike_among_many_rows_is_still_seen(tmp_path: Path) -> None:
    run = Folder(str(tmp_path))
    _write(run, 1, [{"step": step, "loss": 9.0 if step == 7_654 else 1.0} for step in range(1, 20_001)])
    curve = read_curves(run, {}).metrics["loss"]
    assert len(curve.steps) <= 800
    assert curve.values[curve.steps.index(7_654)] == 9.0
    assert curve.values.count(9.0) == 1 and curve.steps[-1] == 20_000


def test_seconds_go_on_over_restarts_and_count_what_was_taken_again(tmp_path: Path) -> None:
    run = Folder(str(tmp_path))

    def rows(steps: range, seconds: float) -> list[dict[str, Any]]:
        return [
            {"step": step, "loss": 1.0, "tokens_seen": 10 * step, "elapsed_s": seconds * place}
            for place, step in enumerate(steps, start=1)
        ]

    _write(run, 1, rows(range(1, 6), 1.0), resumed_at=0)  # steps 1 to 5, of which 4 and 5 are taken again
    _write(run, 2, [*rows(range(4, 7), 2.0), {"step": 6, "validation_loss": 3.0}], resumed_at=3)
    curves = read_curves(run, {1: 2, 2: 4})
    assert curves.device_seconds.steps == (1, 2, 3, 4, 5, 6)
    assert curves.device_seconds.values == (2.0, 4.0, 6.0, 10.0 + 8.0, 10.0 + 16.0, 10.0 + 24.0)
    validated = curves.metrics["validation_loss"]
    assert over(validated, curves.device_seconds) == (34.0,)
    assert over(validated, curves.tokens) == (60.0,)


def test_between_logged_steps_an_axis_is_straight_and_without_one_there_is_none() -> None:
    axis = Curve((10, 20), (100.0, 300.0))
    assert over(Curve((5, 15, 30), (0.0, 0.0, 0.0)), axis) == (50.0, 200.0, 300.0)
    assert over(Curve((5,), (0.0,)), Curve()) == ()


def test_what_is_no_number_is_counted_and_not_drawn(tmp_path: Path) -> None:
    run = Folder(str(tmp_path))
    _write(
        run,
        1,
        [
            {"step": 1, "loss": 2.0, "note": "text", "stopped": True, "samples": []},
            {"step": 2, "loss": math.nan},
            {"step": 3, "loss": math.inf},
            {"dropped": 3},
        ],
    )
    curves = read_curves(run, {})
    assert curves.metrics == {"loss": Curve((1,), (2.0,))}
    assert curves.not_finite == {"loss": 2}


def test_rows_stand_one_at_a_time(tmp_path: Path) -> None:
    """As many rows are in memory as a part has, however many parts there are."""
    import tracemalloc

    run = Folder(str(tmp_path))

    def most(num_rows: int) -> int:
        run.delete()
        _write(run, 1, [{"step": step, "loss": float(step)} for step in range(num_rows)])
        tracemalloc.start()
        read_curves(run, {})
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    assert most(40_000) < 2 * most(4_000)
