import time
from pathlib import Path

from llmcore.records import StopSignal, ask_to_stop
from llmcore.storage import Folder


def _becomes_true(signal: StopSignal, within_s: float = 5.0) -> bool:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        if signal.asked():
            return True
        time.sleep(0.02)
    return False


def test_who_is_asked_to_stop_hears_of_it(tmp_path: Path) -> None:
    attempt = Folder(str(tmp_path / "attempts/01"))
    signal = StopSignal(attempt)
    assert not signal.asked()
    ask_to_stop(attempt, "SIGTERM")
    assert _becomes_true(signal)
    signal.close()


def test_workers_that_start_anew_hear_of_it_too(tmp_path: Path) -> None:
    attempt = Folder(str(tmp_path / "attempts/01"))
    ask_to_stop(attempt, "SIGTERM")
    signal = StopSignal(attempt)
    assert _becomes_true(signal)
    other = StopSignal(Folder(str(tmp_path / "attempts/02")))
    assert not _becomes_true(other, within_s=1.0), "the next attempt was not asked"
    other.close()
