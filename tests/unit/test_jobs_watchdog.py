import threading
import time
from contextvars import ContextVar
from pathlib import Path

import pytest

from jobs.runtime import watchdog
from jobs.runtime.watchdog import Pulse, supervised
from llmcore.errors import ConfigError, HungRankError
from llmcore.train.summed import Summed

LOCAL: ContextVar[str] = ContextVar("LOCAL", default="unset")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog, "_LOOK_EVERY_S", 0.02)


def test_what_the_work_returns_or_raises_comes_through() -> None:
    LOCAL.set("here")
    assert supervised(lambda _: LOCAL.get(), 60) == "here"

    def fails(_: Pulse) -> None:
        raise ConfigError("lr=-1")

    with pytest.raises(ConfigError, match="lr=-1"):
        supervised(fails, 60)


def test_a_rank_that_gives_signs_of_life_is_left_alone() -> None:
    def steps(pulse: Pulse) -> int:
        for _ in range(20):
            pulse()
            time.sleep(0.02)
        return 20

    assert supervised(steps, 0.3) == 20


def stands_still(pulse: Pulse) -> None:
    pulse()
    pulse()
    threading.Event().wait(30)


def test_a_rank_that_stands_still_is_told_of_with_its_innermost_frames() -> None:
    started = time.monotonic()
    with pytest.raises(HungRankError) as raised:
        supervised(stands_still, 0.2)
    assert 0.2 < time.monotonic() - started < 5
    first, *rest = str(raised.value).splitlines()
    assert first.startswith("no step has ended for ")
    assert f"{Path(__file__).name}:" in str(raised.value) and " in stands_still" in str(raised.value)
    assert rest[0] == "thread rank:" and " in wait" in rest[1]


def test_who_waits_for_others_is_given_twice_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog, "_WAITS_IN", ("/threading.py",))  # as if it waited in a collective
    started = time.monotonic()
    with pytest.raises(HungRankError):
        supervised(stands_still, 0.3)
    assert 0.6 < time.monotonic() - started < 5


def test_who_waits_for_a_sum_that_was_begun_waits_for_others() -> None:
    never = object.__new__(Summed)
    never._work = threading.Event()  # type: ignore[assignment]  # a collective that nobody else comes to

    def waits(pulse: Pulse) -> None:
        pulse()
        pulse()
        never.values()

    started = time.monotonic()
    with pytest.raises(HungRankError, match=r"summed\.py"):
        supervised(waits, 0.3)
    assert 0.6 < time.monotonic() - started < 5


def test_a_start_may_take_longer_than_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog, "_START_S", 0.5)

    def compiles(pulse: Pulse) -> str:
        pulse()
        time.sleep(0.3)
        return "compiled"

    assert supervised(compiles, 0.1) == "compiled"
    started = time.monotonic()
    with pytest.raises(HungRankError):
        supervised(lambda pulse: time.sleep(30), 0.1)
    assert 0.6 < time.monotonic() - started < 5
