"""Installed versions held against those that the code was tried with."""

import importlib.metadata
from pathlib import Path

import pytest

from cluster.pinned import check_pinned, to_install
from jobs import __main__ as command_line
from llmcore.errors import ConfigError

PROJECT = """\
[project]
name = "it"
dependencies = ["ray[data]==2.60.0", "torch==2.13.0", "PyYAML>=6", "unpinned"]
[project.optional-dependencies]
s3 = ["s3fs>=1"]
big = ["vllm"]
dev = ["pytest"]
"""
INSTALLED = {"ray": "2.60.0", "torch": "2.13.0+cpu", "pyyaml": "6.0.4", "pytest": "1.0"}


def _check(folder: Path, pins: str, monkeypatch: pytest.MonkeyPatch, **installed: str | None) -> None:
    def version(name: str) -> str:
        found = (INSTALLED | installed).get(name)
        if found is None:
            raise importlib.metadata.PackageNotFoundError(name)
        return found

    monkeypatch.setattr(importlib.metadata, "version", version)
    (folder / "pyproject.toml").write_text(PROJECT)
    (folder / "constraints.txt").write_text(pins)
    check_pinned(folder)


PINS = "# why\nray==2.60.0\ntorch==2.13.0\nPyYAML==6.0.4\ns3fs==2.0\nvllm==3.0\npytest==9.0\nother==1\n"


def test_another_build_of_the_same_version_is_good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _check(tmp_path, PINS, monkeypatch)
    assert to_install(tmp_path) == ["pyyaml==6.0.4", "ray==2.60.0", "torch==2.13.0"]


def test_all_that_differs_is_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError) as raised:
        _check(tmp_path, PINS, monkeypatch, ray="2.59.0", torch=None, s3fs="1.9")
    assert ": ray 2.59.0 (2.60.0), s3fs 1.9 (2.0), torch is missing (2.13.0). Submit with --install" in str(
        raised.value
    )


def test_no_pins_no_check(tmp_path: Path) -> None:
    check_pinned(tmp_path)


def test_a_job_on_a_cluster_is_checked_before_its_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "pyproject.toml").write_text(PROJECT)
    (tmp_path / "constraints.txt").write_text("ray==0.1\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    assert command_line.main(["runs", str(tmp_path)]) == 2
    assert "ray 2.60.0 (0.1)" in capsys.readouterr().err
    monkeypatch.delenv("RAY_JOB_CONFIG_JSON_ENV_VAR")
    assert command_line.main(["runs", str(tmp_path)]) == 0, "who runs it here knows what is installed"


def test_this_environment_is_the_pinned_one() -> None:
    check_pinned(Path(__file__).parents[2])
