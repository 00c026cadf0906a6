import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from click.testing import CliRunner

from jobs import __main__ as command_line
from jobs.cli import JOBS, commands
from jobs.runtime.options import RunOptions
from llmcore.errors import CorpusError, InterruptedRunError, TrialError

ROOT = Path(__file__).parents[2]
PREPARE = "name: tiny\nsources: [{name: stdlib, builtin: python_stdlib}]\n"
PIPELINE = """\
name: tiny
stages:
  prepare:
    job: prepare
    sources: [{name: stdlib, builtin: python_stdlib}]
    labelled_sets: [{name: areas, label: area}]
  pretrain: {job: pretrain, tokens: "${prepare}", train: {num_steps: 3}}
  tune:
    job: tune
    base: ${pretrain}
    data: ${prepare}/areas
    finetune: {train: {num_steps: 3}}
    space: {train.seed: {choice: [0, 1]}}
"""
NOT_YET_IMPORTED = ("torch", "ray", "pyarrow", "transformers", "deepspeed", "datasets", "sklearn", "scipy", "pandas")

Main = Callable[..., tuple[int, str, str]]


@pytest.fixture
def job(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A stand-in for jobs/prepare.py that notes what it is given."""
    module = ModuleType("jobs.prepare")
    module.calls = []  # type: ignore[attr-defined]
    module.run = lambda config, options: module.calls.append((config, options))  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "jobs.prepare", module)
    return module


@pytest.fixture
def main(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], job: ModuleType) -> Main:
    """`python -m jobs` in an empty folder with a prepare.yaml: exit code, standard output, standard error."""
    (tmp_path / "prepare.yaml").write_text(PREPARE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("jobs.cli.quiet", lambda verbose: None)
    before = signal.getsignal(signal.SIGTERM)

    def run(*arguments: str) -> tuple[int, str, str]:
        code = command_line.main(arguments)
        signal.signal(signal.SIGTERM, before)
        return code, *capsys.readouterr()

    return run


def test_a_job_gets_its_configuration_and_options(main: Main, job: ModuleType) -> None:
    assert main("prepare", "prepare.yaml", "seed=7", "--allow-changes", "cluster.num_cpus=2") == (0, "", "")
    ((config, options),) = job.calls
    assert (config.name, config.seed, config.cluster.num_cpus) == ("tiny", 7, 2)
    assert options == RunOptions(allow_changes=True, verbose=False, inside_ray_job=False)


def test_what_the_user_gave_wrong_is_one_message_and_2(main: Main, job: ModuleType) -> None:
    code, out, err = main("prepare", "prepare.yaml", "sede=7")
    assert (code, out, job.calls) == (2, "", [])
    assert err.startswith("error: command line: sede=7: got an unknown key;")
    assert err.endswith("did you mean seed?\n")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ["prepair", "x.yaml"],
            "expected one of prepare, pretrain, finetune, tune, evaluate, transfer, pipeline, report, runs, ",
        ),
        (["prepair", "x.yaml"], "did you mean prepare?"),
        (["prepare"], "CONFIG"),
        (["prepare", "prepare.yaml", "--dry"], "--dry-run"),
        (["prepare", "absent.yaml"], "absent.yaml: no such file"),
        (["runs"], "STORAGE"),
    ],
)
def test_a_wrong_command_line_is_one_message_and_2(main: Main, arguments: list[str], words: str) -> None:
    code, out, err = main(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert words in err


def wrapped(cause: Exception) -> Exception:
    """As Ray brings it from a worker: of the cause's class too, with a traceback as its message."""

    class RayTaskError(type(cause)):  # type: ignore[misc]
        def __init__(self) -> None:
            self.cause = cause

        def __str__(self) -> str:
            return "ray::f()\n  Traceback …"

    return RayTaskError()


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (CorpusError("corpus 'x' is empty; give one"), 2, "error: corpus 'x' is empty; give one\n"),
        (TrialError("trial 3 failed"), 1, "error: trial 3 failed\n"),
        (InterruptedRunError("stopped"), 130, "error: stopped\n"),
        (KeyboardInterrupt(), 130, "\nerror: interrupted; the same command goes on where it stopped\n"),
        (ValueError("a\nb"), 1, "error: ValueError: a b; --verbose shows where it happened\n"),
        (wrapped(CorpusError("corpus 'x' is empty; give one")), 2, "error: corpus 'x' is empty; give one\n"),
    ],
)
def test_how_a_job_ends_is_the_exit_code(
    main: Main, job: ModuleType, error: BaseException, code: int, message: str
) -> None:
    def run(config: Any, options: RunOptions) -> None:
        raise error

    job.run = run  # type: ignore[attr-defined]
    assert main("prepare", "prepare.yaml") == (code, "", message)
    shown = main("prepare", "prepare.yaml", "--verbose")[2]
    assert ("Traceback (most recent call last)" in shown) == (code != 2)


def test_sigterm_is_an_interruption(main: Main, job: ModuleType) -> None:
    def run(config: Any, options: RunOptions) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    job.run = run  # type: ignore[attr-defined]
    code, _, err = main("prepare", "prepare.yaml")
    assert (code, err) == (130, "error: interrupted by SIGTERM; the same command goes on where it stopped\n")


def test_a_dry_run_prints_the_configuration_and_the_plan_and_runs_nothing(
    main: Main, job: ModuleType, tmp_path: Path
) -> None:
    job.plan = lambda config: [f"would read {len(config.sources)} source"]  # type: ignore[attr-defined]
    code, out, err = main("prepare", "prepare.yaml", "packing.window=9", "--dry-run")
    assert (code, err, job.calls) == (0, "", [])
    assert "  window: 9\n" in out
    assert f"The run is kept at {tmp_path}/runs/tiny\n" in out
    assert "would read 1 source\n" in out
    assert os.listdir(tmp_path) == ["prepare.yaml"]  # noqa: PTH208


def test_a_dry_run_misses_a_corpus_that_is_not_there(main: Main, tmp_path: Path) -> None:
    for url in ("corpus/*.parquet", f"file://{tmp_path}/corpus/"):
        code, _, err = main("prepare", "prepare.yaml", f"sources=[{{name: web, url: '{url}'}}]", "--dry-run")
        assert code == 2
        assert "source web: url=" in err
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "a.parquet").touch()
    for url in ("corpus/*.parquet", "corpus", "s3://bucket/corpus"):
        assert main("prepare", "prepare.yaml", f"sources=[{{name: web, url: '{url}'}}]", "--dry-run")[0] == 0


def test_a_relative_storage_is_refused_inside_a_ray_job(main: Main, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    code, _, err = main("prepare", "prepare.yaml", "--dry-run")
    assert code == 2
    assert "storage='runs' is relative" in err


def test_a_reader_that_has_gone_is_no_error() -> None:
    shown = subprocess.Popen(
        [sys.executable, "-m", "jobs", "prepare", "--help"], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert shown.stdout is not None
    shown.stdout.close()
    assert shown.communicate()[1] == b""
    assert shown.returncode == 1


def test_every_job_has_its_command_and_help() -> None:
    shown = CliRunner().invoke(commands, ["--help"])
    assert shown.exit_code == 0
    for name in [*JOBS, "runs", "checkpoints", "export", "benchmark"]:
        assert f"\n  {name} " in shown.output


def test_nothing_heavy_is_imported_before_the_configuration_has_passed(tmp_path: Path) -> None:
    (tmp_path / "pipeline.yaml").write_text(PIPELINE)
    script = (
        "import json, sys, time\n"
        "from jobs.__main__ import main\n"
        f"code = main(['pipeline', {str(tmp_path / 'pipeline.yaml')!r}, 'storage={tmp_path}', '--dry-run'])\n"
        "print(json.dumps([code, time.process_time(), sorted({name.partition('.')[0] for name in sys.modules})]))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.stderr == ""
    code, cpu_s, modules = json.loads(done.stdout.splitlines()[-1])
    assert code == 0
    assert not set(NOT_YET_IMPORTED) & set(modules)
    assert cpu_s < 2
