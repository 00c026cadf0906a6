"""Stages at work: in their order, side by side where they may be, and what comes of a failure, a kill, a signal."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from jobs.runtime import stages
from jobs.runtime.options import RunOptions
from jobs.runtime.overview import Overview
from jobs.runtime.stages import Graph, run_stages
from llmcore.config.common import JobSettings
from llmcore.errors import ConfigError, InterruptedRunError, RunError
from tests import stage_jobs
from tests.drivers import ROOT, environment


@pytest.fixture(autouse=True)
def _nothing_is_imported_first(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(stages, "_IMPORTED", ())
    stages.start_early()
    return


class Seen:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.why: dict[str, str] = {}

    def began(self, stage: str) -> None:
        self.told.append(f"{stage} began")

    def said(self, stage: str, line: str) -> None:
        self.told.append(f"{stage}: {line}")

    def reached(self, stage: str, line: str) -> None:
        self.told.append(f"{stage} at {line}")

    def ended(self, stage: str, how: str, why: str = "") -> None:
        self.told.append(f"{stage} {how}")
        self.why[stage] = why


def graph(folder: Path, beside: dict[str, str] | None = None, **needs: str) -> Graph:
    """Stages by name, and what each needs; those in `beside` begin with the one that they need."""
    wanted = {stage: frozenset(filter(None, given.split(","))) for stage, given in needs.items()}
    after = {stage: set(given) - {(beside or {}).get(stage, "")} for stage, given in wanted.items()}
    jobs = {stage: JobSettings(name=stage, storage=str(folder)) for stage in needs}
    return Graph(jobs, dict.fromkeys(needs, stage_jobs.__name__), after, wanted)


def run(of: Graph, *done: str, seen: Seen | None = None, **environment: str) -> list[str]:
    seen = seen or Seen()
    took = run_stages(of, done, RunOptions(), environment, seen)
    assert all(seconds >= 0 for seconds in took.values())
    return seen.told


def test_what_is_done_is_left_out_and_the_rest_comes_in_its_order(tmp_path: Path) -> None:
    of = graph(tmp_path, a="", b="a", c="b", d="b,c")
    told = run(of, "a", GREETING="good day")
    assert [line for line in told if line.endswith(("began", "done"))] == [
        "b began", "b done", "c began", "c done", "d began", "d done",
    ]  # fmt: skip
    assert "b: good day from b" in told and "b at halfway" in told


def test_stages_that_need_nothing_of_each_other_run_side_by_side(tmp_path: Path) -> None:
    """Each waits for the other: one after the other they would never end."""
    told = run(graph(tmp_path, meets_b="", meets_a=""))
    assert told[:2] == ["meets_b began", "meets_a began"]


def test_when_one_fails_what_needs_it_is_not_begun_and_the_others_end(tmp_path: Path) -> None:
    seen = Seen()
    of = graph(
        tmp_path, beside={"follows": "fails"}, fails="", follows="fails", never="follows", other="", last="other"
    )
    with pytest.raises(ConfigError, match="value=3: give another"):
        run(of, seen=seen)
    assert {"fails failed", "follows stopped", "other done", "last done"} <= set(seen.told)
    assert "never began" not in seen.told


def test_an_error_of_others_is_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"^ZeroDivisionError: \S.* by zero$"):
        run(graph(tmp_path, divides=""))


def test_each_of_several_errors_is_told_when_it_comes(tmp_path: Path) -> None:
    seen = Seen()
    with pytest.raises((RunError, ConfigError)):
        run(graph(tmp_path, beside={"follows": "fails"}, fails="", divides="", follows="fails"), seen=seen)
    assert seen.why["fails"] == "value=3: give another" and "by zero" in seen.why["divides"]


def test_a_stage_that_alone_is_interrupted_does_not_keep_who_follows_it_waiting(tmp_path: Path) -> None:
    seen = Seen()
    of = graph(tmp_path, beside={"follows": "interrupts"}, interrupts="", follows="interrupts")
    with pytest.raises(InterruptedRunError):
        run(of, seen=seen)
    assert {"interrupts failed", "follows stopped"} <= set(seen.told)


def test_a_stage_that_leaves_without_a_word_is_not_done(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="SystemExit: 0"):
        run(graph(tmp_path, leaves=""))
    with pytest.raises(RunError, match="the process of stage vanishes was ended with code 0"):
        run(graph(tmp_path, vanishes="", last="vanishes"))


def test_the_server_of_stages_can_go_and_signals_still_arrive(tmp_path: Path) -> None:
    class Killing(Seen):
        def said(self, stage: str, line: str) -> None:
            super().said(stage, line)
            if line == "waits":
                os.kill(psutil.Process(int((tmp_path / "waits.pid").read_text())).ppid(), signal.SIGKILL)
                os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(InterruptedRunError, match="interrupted by SIGTERM"):
        run(graph(tmp_path, waits=""), seen=Killing())
    assert (tmp_path / "waits.interrupted").exists()


def test_a_stage_whose_process_is_killed_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="the process of stage dies was ended by SIGKILL"):
        run(graph(tmp_path, dies=""))


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_passed_on_once_and_nothing_more_begins(tmp_path: Path, signum: signal.Signals) -> None:
    class Interrupting(Seen):
        def said(self, stage: str, line: str) -> None:
            super().said(stage, line)
            if line == "waits":
                os.kill(os.getpid(), signum)

    seen = Interrupting()
    before = signal.getsignal(signum)
    with pytest.raises(InterruptedRunError, match=f"interrupted by {signum.name}"):
        run(graph(tmp_path, waits="", next="waits"), seen=seen)
    assert "waits stopped" in seen.told and "next began" not in seen.told
    assert (tmp_path / "waits.interrupted").read_text() == "KeyboardInterrupt"
    assert signal.getsignal(signum) == before


def test_a_signal_that_comes_before_a_stage_can_hear_it_is_heard(tmp_path: Path) -> None:
    of = graph(tmp_path, waits="")
    process = stages._Process(of, "waits", RunOptions(), {})
    process.signal(signal.SIGTERM)
    while (told := process.news())[0] != "end":
        pass
    assert isinstance(told[1], InterruptedRunError), told
    assert time.monotonic() - process.began < stage_jobs.LONGEST_S / 2


def test_a_pipeline_that_is_killed_takes_its_stages_with_it(tmp_path: Path) -> None:
    script = "import sys; from pathlib import Path; from tests.unit.test_jobs_stages import graph, run; "
    script += "run(graph(Path(sys.argv[1]), waits=''))"
    pipeline = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], cwd=ROOT, env=environment())
    deadline = time.monotonic() + 60
    while not (there := tmp_path / "waits.pid").exists() or not there.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    stage = int(there.read_text())
    pipeline.kill()
    pipeline.wait()
    while _is_alive(stage):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _is_alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False


def test_the_overview_names_a_stage_unless_its_job_does(capsys: pytest.CaptureFixture[str]) -> None:
    with Overview({"sst2": "tune", "tune": "tune"}, watched=False) as shown:
        for stage in ("sst2", "tune"):
            shown.began(stage)
            shown.said(stage, "tune: 3 trials")
        shown.ended("tune", "done")
        shown.ended("sst2", "failed", "value=3: give another")
    told = ["[sst2] tune: 3 trials", "tune: 3 trials", "[tune] done after 0 s"]
    assert capsys.readouterr().out.splitlines() == [*told, "[sst2] failed after 0 s: value=3: give another"]


def test_who_watches_sees_a_line_for_each_stage(capsys: pytest.CaptureFixture[str]) -> None:
    with Overview({"books": "prepare", "bert": "pretrain"}, watched=True) as shown:
        shown.began("books")
        shown.ended("books", "done")
        shown.began("bert")
        shown.reached("bert", "pretrain: 40/200 steps (20%), 31 s left")
        seen = capsys.readouterr().err
    assert "✓ books  prepare   done     0 s" in seen
    assert "▸ bert   pretrain  at work  40/200 steps (20%), 31 s left" in seen
