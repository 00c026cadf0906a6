import logging
import os
import warnings

import pytest

from jobs.runtime.console import Progress, quiet, say


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_without_a_person_a_line_at_most_every_ten_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    with Progress(100, "steps", "pretrain", watched=False, clock=clock) as progress:
        for _ in range(100):
            clock.now += 0.5
            progress.advance()
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "pretrain: 20/100 steps (20%), 40 s left",
        "pretrain: 40/100 steps (40%), 30 s left",
        "pretrain: 60/100 steps (60%), 20 s left",
        "pretrain: 80/100 steps (80%), 10 s left",
        "pretrain: 100/100 steps (100%), 0 s left",
    ]


def test_long_waits_are_told_in_minutes_and_a_note_stands_beside() -> None:
    clock = Clock()
    progress = Progress(10, "trials", "tune", watched=False, clock=clock)
    clock.now = 60.0
    progress.reach(1, note="best 0.5")
    assert progress.line() == "tune: 1/10 trials (10%), 9 min 00 s left, best 0.5"


def test_of_work_of_unknown_size_what_is_done_is_told() -> None:
    progress = Progress(None, "documents", "read", watched=False)
    assert progress.line() == "read: 0 documents"
    progress.reach(1234)
    assert progress.line() == "read: 1234 documents"


def test_for_a_person_there_is_a_bar_and_lines_go_above_it(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress(10, "steps", "pretrain", watched=True) as progress:
        progress.advance(3, note="loss 5.1")
        say("hello")
    out, err = capsys.readouterr()
    assert out == "hello\n"
    assert "pretrain" in err


def test_quiet_sets_what_the_user_has_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {"TRANSFORMERS_VERBOSITY": "info"})
    with warnings.catch_warnings():
        quiet(True)
        assert os.environ == {"TRANSFORMERS_VERBOSITY": "info"}
        levels = {
            name: logging.getLogger(name).level for name in ("ray", "transformers", "datasets", "torch", "deepspeed")
        }
        quiet(False)
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
    assert os.environ["TRANSFORMERS_VERBOSITY"] == "info"
    assert os.environ["RAY_DATA_DISABLE_PROGRESS_BARS"] == "1"
