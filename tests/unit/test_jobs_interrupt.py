import signal
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from jobs.runtime import interrupt
from jobs.runtime.interrupt import interrupt_on_sigterm, stop_first

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # `_fails`, on purpose
SOON_S = 5.0


@pytest.fixture(autouse=True)
def handlers() -> Iterator[list[str]]:
    """SIGTERM as `python -m jobs` has it; afterwards all is as it was."""
    before = {signum: signal.getsignal(signum) for signum in (signal.SIGTERM, signal.SIGINT)}
    yield interrupt_on_sigterm()
    for signum, handler in before.items():
        signal.signal(signum, handler)


class Asked:
    """Takes what is asked."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.event = threading.Event()

    def __call__(self, name: str) -> None:
        self.names.append(name)
        self.event.set()


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_asks_and_the_work_goes_on(signum: signal.Signals) -> None:
    asked = Asked()
    with stop_first(asked, grace_s=60):
        signal.raise_signal(signum)
        assert asked.event.wait(SOON_S)
    assert asked.names == [signum.name]


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_the_second_signal_interrupts_at_once(second: signal.Signals, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interrupt, "_TOGETHER_S", 0.0)
    asked = Asked()
    with pytest.raises(KeyboardInterrupt), stop_first(asked, grace_s=60):
        signal.raise_signal(signal.SIGTERM)
        assert asked.event.wait(SOON_S)
        signal.raise_signal(second)


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_two_signals_at_once_are_one(second: signal.Signals, handlers: list[str]) -> None:
    asked = Asked()
    with stop_first(asked, grace_s=60):
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(second)
        assert asked.event.wait(SOON_S)
    assert (asked.names, handlers) == (["SIGTERM"], [])
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGTERM)
    signal.raise_signal(signal.SIGTERM)  # while the first one's exception is on its way through what cleans up
    assert handlers == ["SIGTERM"]


def _fails(name: str) -> None:
    raise OSError(name)


@pytest.mark.parametrize("ask", [Asked(), _fails])
def test_the_end_of_the_grace_interrupts_also_where_asking_failed(
    ask: Callable[[str], None], handlers: list[str]
) -> None:
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt), stop_first(ask, grace_s=0.2):
        signal.raise_signal(signal.SIGTERM)
        time.sleep(SOON_S)
    assert 0.2 <= time.monotonic() - started < SOON_S
    assert handlers == ["SIGTERM"]


def test_afterwards_signals_do_what_they_did() -> None:
    before = [signal.getsignal(signum) for signum in (signal.SIGTERM, signal.SIGINT)]
    asked = Asked()
    with stop_first(asked, grace_s=0.2):
        signal.raise_signal(signal.SIGTERM)
        assert asked.event.wait(SOON_S)
    assert [signal.getsignal(signum) for signum in (signal.SIGTERM, signal.SIGINT)] == before
    time.sleep(0.4)  # the end of the grace interrupts nobody who has left in time


def test_without_a_grace_the_first_signal_interrupts() -> None:
    with pytest.raises(KeyboardInterrupt), stop_first(Asked(), grace_s=0):
        signal.raise_signal(signal.SIGTERM)
