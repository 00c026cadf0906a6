from pathlib import Path

import pytest
from ray.train.v2._internal.exceptions import WorkerHealthCheckFailedError, WorkerHealthCheckTimeoutError

from jobs.runtime.failures import FailureLog, in_our_words
from jobs.runtime.metrics import RunMetrics
from llmcore.errors import ConfigError, HungRankError, RunError, StorageError
from llmcore.records import failures_of
from llmcore.storage import Folder

GONE = WorkerHealthCheckFailedError("A worker health check failed.", RuntimeError("\nThe actor died.\n\tpid: 7"))
METRICS = RunMetrics("a", 1, "pretrain")
SILENT = WorkerHealthCheckTimeoutError("A worker health check has been hanging for 12.30 seconds.")


def test_each_failure_is_a_line_with_a_reason_for_each_rank(tmp_path: Path) -> None:
    attempt = Folder(str(tmp_path))
    assert failures_of(attempt) == []
    log = FailureLog(attempt, METRICS)
    log.after_exception(None, {1: GONE, 0: ConnectionError("reset by peer\nmore")})
    log.after_exception(None, {2: SILENT})
    first, second = failures_of(attempt)
    assert first["ranks"] == {"0": "ConnectionError: reset by peer", "1": "RuntimeError: The actor died."}
    assert second["ranks"]["2"].startswith("it does not answer") and "12.30 seconds" in second["ranks"]["2"]
    assert first["time"] <= second["time"]
    assert first["details"] == {"0": "reset by peer\nmore", "1": "\nThe actor died.\n\tpid: 7"}


def test_a_full_storage_is_said_and_hides_no_failure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "failures").write_text("no folder can be here")
    FailureLog(Folder(str(tmp_path)), METRICS).after_exception(None, {0: GONE})
    assert capsys.readouterr().out.startswith("failures: ")


def test_an_error_of_ours_is_told_as_itself_with_its_rank() -> None:
    told = in_our_words({1: HungRankError("no step has ended for 12 s"), 0: ConnectionError("reset")}, "")
    assert type(told) is HungRankError and str(told) == "rank 1: no step has ended for 12 s"
    told = in_our_words({0: ConfigError("lr=-1")}, "")
    assert type(told) is ConfigError and told.exit_code == 2


def test_a_storage_that_fails_while_running_is_no_mistake_of_the_user() -> None:
    told = in_our_words({2: StorageError("/x cannot be written: No space left on device")}, "")
    assert type(told) is RunError and told.exit_code == 1
    assert str(told) == "rank 2: /x cannot be written: No space left on device"


def test_other_errors_are_told_of_all_ranks() -> None:
    told = in_our_words({1: GONE, 0: ConnectionError("reset")}, "")
    assert str(told) == "rank 0: ConnectionError: reset; rank 1: RuntimeError: The actor died."
    assert str(in_our_words({}, "nobody knows")) == "nobody knows"
