"""Rows of metrics: parts on storage, one telling of each step."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmcore.errors import StorageError
from llmcore.records import (
    MetricRows,
    MetricsWriter,
    attempt_folder,
    read_metrics,
    read_metrics_counted,
    seconds_before_restarts,
)
from llmcore.storage import Folder


@pytest.fixture
def run(tmp_path: Path) -> Folder:
    return Folder(str(tmp_path / "run"))


def tell(run: Folder, attempt: int, steps: list[int], resumed_at: int | None = None) -> None:
    writer = MetricsWriter(attempt_folder(run, attempt), flush_every_s=1e9, resumed_at=resumed_at)
    for step in steps:
        writer.write({"step": step, "attempt": attempt})
    writer.close()


def told(run: Folder) -> list[tuple[int, int]]:
    return [(row["step"], row["attempt"]) for row in read_metrics(run)]


def test_rows_come_back_in_order_with_plain_numbers(run: Folder) -> None:
    writer = MetricsWriter(attempt_folder(run, 1), flush_every_s=0)
    rows: list[dict[str, Any]] = [
        {"step": 1, "loss": 0.5, "note": "ü"},
        {"step": 1, "validation_loss": np.float32(0.25)},
        {"step": np.int64(2), "loss": 0.125},
        {"dropped": 3},
    ]
    for row in rows:
        writer.write(row)
    assert read_metrics(run) == [
        {"step": 1, "loss": 0.5, "note": "ü"},
        {"step": 1, "validation_loss": 0.25},
        {"step": 2, "loss": 0.125},
        {"dropped": 3},
    ]
    assert read_metrics(run / "none") == []


def test_a_row_is_on_storage_once_the_writer_flushed_or_the_time_is_up(run: Folder) -> None:
    writer = MetricsWriter(attempt_folder(run, 1), flush_every_s=1e9)
    writer.flush()
    assert not run.exists()
    writer.write({"step": 1})
    assert read_metrics(run) == []
    writer.flush()
    assert read_metrics(run) == [{"step": 1}]


def test_a_long_run_has_few_parts_and_old_ones_are_left_alone(tmp_path: Path) -> None:
    run = Folder(str(tmp_path))
    parts = tmp_path / "attempts" / "01" / "metrics"
    writer = MetricsWriter(attempt_folder(run, 1), flush_every_s=0)
    for step in range(300):
        writer.write({"step": step})
    first = (parts / "part-00000.jsonl").stat()
    for step in range(300, 1000):
        writer.write({"step": step})
    assert [row["step"] for row in read_metrics(run)] == list(range(1000))
    assert len(list(parts.iterdir())) == 4
    after = (parts / "part-00000.jsonl").stat()
    assert (after.st_ino, after.st_mtime_ns) == (first.st_ino, first.st_mtime_ns)


def test_what_was_told_of_steps_taken_again_is_replaced(run: Folder) -> None:
    tell(run, 1, [10, 20, 30, 40])
    tell(run, 2, [30, 40, 50])  # went on from the checkpoint at 20, and does not say so
    assert told(run) == [(10, 1), (20, 1), (30, 2), (40, 2), (50, 2)]


def test_a_writer_that_says_where_it_went_on_replaces_all_later_rows(run: Folder) -> None:
    tell(run, 1, [5, 10, 15, 20, 25])
    tell(run, 2, [20, 30], resumed_at=12)  # 15 is void although 2 tells of 20 first
    assert told(run) == [(5, 1), (10, 1), (20, 2), (30, 2)]
    tell(run, 3, [], resumed_at=0)
    assert told(run) == [(5, 1), (10, 1), (20, 2), (30, 2)]  # it told nothing: nothing is void yet


def test_a_worker_restarted_within_an_attempt_goes_on(run: Folder) -> None:
    tell(run, 1, [10, 20, 30])
    tell(run, 1, [20, 30, 40], resumed_at=15)
    assert attempt_folder(run, 1).walk() == ["metrics/part-00000.jsonl", "metrics/part-00001.jsonl"]
    assert [step for step, _ in told(run)] == [10, 20, 30, 40]


def test_sessions_have_parts_of_their_own_and_rows_that_come_too_late_are_void(run: Folder) -> None:
    late = MetricsWriter(attempt_folder(run, 1), flush_every_s=1e9)
    for step in (10, 20):
        late.write({"step": step})
    late.flush()
    newer = MetricsWriter(attempt_folder(run, 1), 2, flush_every_s=1e9, resumed_at=15)
    newer.write({"step": 20, "again": True})
    newer.flush()
    seen = MetricRows(run)
    for step in range(30, 1000):  # more than a part holds: it goes on to the next one
        late.write({"step": step})
    late.close()
    due = [{"step": 10}, {"step": 20, "again": True}]
    assert [row for _, row in seen] == due, "also for a reader that began before"
    assert read_metrics(run) == due
    assert attempt_folder(run, 1).walk()[-1] == "metrics/session-002-part-00000.jsonl"


def test_a_validation_row_of_the_same_step_stays_beside(run: Folder) -> None:
    writer = MetricsWriter(attempt_folder(run, 1), flush_every_s=0)
    rows = [{"step": 10, "loss": 1.0}, {"step": 10, "validation_loss": 1.1}, {"step": 20, "loss": 0.9}]
    for row in rows:
        writer.write(row)
    assert read_metrics(run) == rows


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 12)), min_size=1, max_size=6))
@settings(max_examples=40, deadline=None)
def test_whatever_the_restarts_each_step_is_told_once_by_its_last_taker(starts: list[tuple[int, int]]) -> None:
    run = Folder(f"memory://metrics-{hash(tuple(starts))}")
    run.delete()
    expected: dict[int, int] = {}
    for number, (start, num_steps) in enumerate(starts, 1):
        expected = {step: taker for step, taker in expected.items() if step <= start}
        expected |= {start + 1 + offset: number for offset in range(num_steps)}
        tell(run, number, [start + 1 + offset for offset in range(num_steps)], resumed_at=start)
    assert told(run) == sorted(expected.items())


def test_torn_lines_are_counted_and_the_others_read_at_every_length(run: Folder) -> None:
    tell(run, 1, [1, 2])
    part = attempt_folder(run, 1) / "metrics"
    whole = part.read_bytes("part-00000.jsonl")
    for length in range(len(whole)):
        part.write_bytes("part-00000.jsonl", whole[:length])
        rows, num_torn = read_metrics_counted(run)
        lines = whole[:length].split(b"\n")
        complete = sum(1 for line in whole.splitlines() if line in lines)
        assert len(rows) == max(0, complete - 1)
        assert num_torn == (1 if lines[-1] and lines[-1] not in whole.splitlines() else 0)
    part.write_bytes("part-00000.jsonl", b"[1]\n" + json.dumps({"step": 1}).encode())
    assert read_metrics_counted(run) == ([{"step": 1}], 1)


def test_rows_survive_a_flush_that_fails(run: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = MetricsWriter(attempt_folder(run, 1), flush_every_s=0)
    with monkeypatch.context() as broken, pytest.raises(StorageError):

        def full(*_: object) -> None:
            raise StorageError("no space left")

        broken.setattr(Folder, "write_bytes", full)
        writer.write({"step": 1})
    writer.write({"step": 2})
    assert read_metrics(run) == [{"step": 1}, {"step": 2}]


def _row(step: int, elapsed_s: float, compute: float) -> dict[str, float]:
    return {"step": step, "elapsed_s": elapsed_s, "compute_fraction": compute, "validation_fraction": 0.1}


def test_what_lost_workers_spent_counts_for_the_steps_that_stayed(tmp_path: Path) -> None:
    attempt = Folder(str(tmp_path))
    assert seconds_before_restarts(attempt) is None
    sessions: list[tuple[int, list[dict[str, float]]]] = [
        (0, [_row(1, 10.0, 0.5), _row(2, 20.0, 0.8), _row(3, 30.0, 0.9)]),  # its third step is taken again
        (2, [_row(3, 4.0, 0.5)]),  # and once more
        (2, [_row(3, 6.0, 0.5), _row(4, 8.0, 0.5)]),  # of the last the ledger tells
    ]
    for resumed_at, rows in sessions:
        writer = MetricsWriter(attempt, resumed_at=resumed_at)
        for row in rows:
            writer.write(row)
        writer.write({"step": 4, "validation_loss": 1.0})
        writer.close()
    kept = seconds_before_restarts(attempt)
    assert kept == {"compute": pytest.approx(5.0 + 8.0), "validation": pytest.approx(1.0 + 1.0)}


def test_workers_that_started_once_were_not_restarted(tmp_path: Path) -> None:
    attempt = Folder(str(tmp_path))
    writer = MetricsWriter(attempt, resumed_at=0)
    writer.write(_row(1, 10.0, 0.5))
    writer.close()
    assert seconds_before_restarts(attempt) is None
