"""The report job: writes once for the same records, again for others, and says where the page is."""

from pathlib import Path

import pytest

from jobs import report as job
from jobs.runtime.options import RunOptions
from llmcore.config.pipeline import ReportConfig
from llmcore.errors import ConfigError
from llmcore.storage import Folder
from tests import pipeline_records as records


def _config(storage: Path) -> ReportConfig:
    return ReportConfig(name="smoke.report", storage=str(storage), pipeline="smoke")


def test_the_last_lines_are_the_result_and_the_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    records.write_pipeline(Folder(str(tmp_path)))
    job.run(_config(tmp_path), RunOptions())
    headline, bought, where = capsys.readouterr().out.strip().splitlines()[-3:]
    assert "0.604" in headline
    assert "Pre-training helped" in bought
    page = Path(where.removeprefix("Report: "))
    assert page == tmp_path / "smoke.report" / "report.html"
    assert headline in page.read_text(encoding="utf-8")


def test_the_same_records_are_not_reported_twice(tmp_path: Path) -> None:
    storage, config = Folder(str(tmp_path)), _config(tmp_path)
    records.write_pipeline(storage)
    assert job.finished(config, storage) is None
    result = job.report(config, storage, RunOptions())
    assert job.report(config, storage, RunOptions()) == result == job.finished(config, storage)
    attempts = storage / "smoke.report" / "attempts"
    assert attempts.names() == ["01"]
    changed = records.evaluation(gain_over_random=(0.0, -0.1, 0.1))
    storage.write_json("smoke.evaluate/evaluation/metrics.json", changed)
    assert job.finished(config, storage) is None
    assert "no distinguishable difference" in job.report(config, storage, RunOptions())["bought"]
    assert attempts.names() == ["01", "02"]
    storage.delete("smoke.report/report.html")
    assert job.finished(config, storage) is None


def test_a_pipeline_that_never_ran_is_the_users_mistake(tmp_path: Path) -> None:
    storage = Folder(str(tmp_path))
    records.write_prepare(storage)
    config = ReportConfig(name="other.report", storage=str(tmp_path), pipeline="other")
    with pytest.raises(ConfigError, match=r"pipeline='other' has no run in .*, which has smoke: name one"):
        job.report(config, storage, RunOptions())
    assert not storage.exists("other.report")
