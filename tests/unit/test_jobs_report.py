"""The report job: writes once for the same records, again for others, and says where the page is."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from jobs import report as job
from jobs.cli import commands
from jobs.runtime.options import RunOptions
from llmcore.config.pipeline import ReportConfig
from llmcore.errors import ConfigError, RunHeldError
from llmcore.records import attempt_folder
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


def _command(*given: str) -> tuple[str, BaseException | None]:
    shown = CliRunner().invoke(commands, ["report", *given])
    return shown.output, None if isinstance(shown.exception, SystemExit) else shown.exception


@pytest.fixture
def two_runs(tmp_path: Path) -> Path:
    records.write_run(Folder(str(tmp_path)), "slow", learning_rate=1e-3)
    records.write_run(Folder(str(tmp_path)), "fast", learning_rate=1e-2)
    return tmp_path


def test_runs_are_named_on_the_command_line(two_runs: Path) -> None:
    out, error = _command("slow", "fast", "--storage", str(two_runs))
    assert error is None, error
    page = two_runs / "slow-vs-fast.report" / "report.html"
    assert out.splitlines()[-2:] == ["2 runs that differ in 1 key", f"Report: {page}"]
    assert "train.optimizer.learning_rate" in page.read_text(encoding="utf-8")
    record = Folder(str(two_runs / "slow-vs-fast.report")).read_json("run.json")
    assert (record["kind"], record["parents"]) == ("report", ["slow", "fast"])


def test_the_same_records_of_runs_are_not_reported_twice(two_runs: Path) -> None:
    storage = Folder(str(two_runs))
    for _ in range(2):
        assert _command("slow", "--name", "mine", "--storage", str(two_runs))[1] is None
    assert (storage / "mine" / "attempts").names() == ["01"]
    records.write_run(storage, "slow", learning_rate=1e-3)
    assert _command("slow", "--name", "mine", "--storage", str(two_runs))[1] is None
    assert (storage / "mine" / "attempts").names() == ["01", "02"]


def test_a_run_by_its_url_is_reported_into_another_storage(two_runs: Path, tmp_path: Path) -> None:
    _, error = _command(f"file://{two_runs}/slow", "--storage", str(tmp_path / "pages"))
    assert error is None, error
    assert (tmp_path / "pages" / "slow.report" / "report.html").exists()


def test_a_pipeline_by_its_name_is_reported_as_at_its_own_end(tmp_path: Path) -> None:
    storage = Folder(str(tmp_path))
    records.write_pipeline(storage)
    (storage / "smoke").write_json("run.json", {"kind": "pipeline", "parents": [], "fingerprint": "0"})
    job.report(_config(tmp_path), storage, RunOptions())
    out, error = _command("smoke", "--storage", str(tmp_path))
    assert error is None, error
    assert "Pre-training helped" in out
    assert (storage / "smoke.report" / "attempts").names() == ["01"]


def test_an_unknown_run_is_told_with_those_that_there_are(two_runs: Path) -> None:
    _, error = _command("slow", "slwo", "--storage", str(two_runs))
    assert isinstance(error, ConfigError) and error.exit_code == 2
    assert "there is no run slwo in" in str(error) and "which has fast, slow: give names of these" in str(error)
    assert sorted(path.name for path in two_runs.iterdir()) == ["fast", "slow"]


def test_a_name_that_is_none_is_told(two_runs: Path) -> None:
    error = _command("slow", "--name", "My Page", "--storage", str(two_runs))[1]
    assert isinstance(error, ConfigError) and "My Page" in str(error)


def test_names_of_many_runs_make_one_that_may_be(tmp_path: Path) -> None:
    names = [f"a-run-with-a-rather-long-name-{number}" for number in range(4)]
    for name in names:
        records.write_run(Folder(str(tmp_path)), name)
    config = job.config_of_runs(names, str(tmp_path), None)
    assert config.name.startswith("a-run-with-a-rather-long-name-0-and-3-more-") and config.name.endswith(".report")
    assert job.config_of_runs(names[::-1], str(tmp_path), None).name != config.name


def test_a_dry_run_writes_nothing(two_runs: Path) -> None:
    out, error = _command("slow", "--storage", str(two_runs), "--dry-run")
    assert error is None, error
    assert "Reads the records of slow, and writes slow.report/report.html" in out
    assert not (two_runs / "slow.report").exists()


def test_a_configuration_is_a_file(tmp_path: Path) -> None:
    records.write_pipeline(Folder(str(tmp_path)))
    (tmp_path / "report.yaml").write_text("name: mine\npipeline: smoke\n")
    config = str(tmp_path / "report.yaml")
    assert _command(config, f"storage={tmp_path}")[1] is None
    assert (tmp_path / "mine" / "report.html").exists()
    out, error = _command(config, "--name", "other")
    assert "with a CONFIG, give storage=" in out and error is None
    assert "no such file" in str(_command("absent.yaml")[1])


def test_a_report_that_stood_still_leaves_the_page_of_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage, config = Folder(str(tmp_path)), _config(tmp_path)
    records.write_pipeline(storage)
    run = storage / "smoke.report"

    def render_meanwhile(pipeline: object) -> str:
        (attempt_folder(run, 2)).write_json("begin.json", {"attempt": 2})
        run.write_text("report.html", "the next one's")
        return "the first one's"

    monkeypatch.setattr(job, "render", render_meanwhile)
    with pytest.raises(RunHeldError, match="attempt 2 has begun"):
        job.report(config, storage, RunOptions())
    assert run.read_text("report.html") == "the next one's"
