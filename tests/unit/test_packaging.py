"""What is installed is pinned and complete; what a machine lacks is named; `make` repeats nothing that has passed."""

import os
import re
import shutil
import subprocess
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest

import llmcore

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
POSIX = ("dirname", "mktemp", "rm", "cat", "cksum", "sh", "uname", "grep", "date", "ls", "mkdir", "tail", "touch")
OWN_PYTHON = """#!/bin/sh
echo "$*" >>"$(dirname "$0")/../log"
[ ! -e fail ] || case "$*" in *pytest*) echo "1 failed in 0.01s"; exit 1;; esac
"""


def _name(requirement: str) -> str:
    return re.split(r"[\[<>=~!; ]", requirement)[0].lower().replace("_", "-")


def test_everything_that_the_project_asks_for_is_pinned() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = {_name(line) for line in lines if re.fullmatch(r"[\w.-]+==[\w.!]+", line)}
    assert len(pinned) == sum(not line.startswith("#") for line in lines), (
        "a line is not NAME==VERSION, or stands twice"
    )
    # The audit brings many packages, trackers hold others back, matrices of 4 bits are for GPUs, vLLM brings a torch of
    # its own, and the harness 14,000 files of tasks: resolved apart.
    apart = ("audit", "lm-eval", "mlflow", "qlora", "vllm", "wandb")
    extras = [extra for name, extra in PROJECT["optional-dependencies"].items() if name not in apart]
    asked = {_name(one) for one in [*PROJECT["dependencies"], *(one for extra in extras for one in extra)]}
    assert (asked | {"setuptools", "wheel"}) - {PROJECT["name"]} <= pinned, "an extra may name another one"


def test_pins_that_stand_twice_agree() -> None:
    constraints = (ROOT / "constraints.txt").read_text().splitlines()
    exact = [one for one in PROJECT["dependencies"] if "==" in one]
    assert [one for one in exact if re.sub(r"\[.*\]", "", one) not in constraints] == []


@pytest.mark.parametrize("target", ["cpu", "gpu"])
def test_images_install_the_same_versions_each_file_by_its_hash(target: str) -> None:
    text = (ROOT / f"cluster/docker/requirements-{target}.lock").read_text()
    entries = re.split(r"\n(?=\S)", text.replace("\\\n", " ").strip())
    locked = {}
    for entry in entries:
        if entry.startswith("#"):
            continue
        found = re.fullmatch(r"([\w.-]+)==([\w.+]+)(?:\s+--hash=sha256:[0-9a-f]{64})+", entry.strip())
        assert found, f"no NAME==VERSION with hashes: {entry[:100]}"
        locked[_name(found[1])] = found[2]
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = {_name(line): line.partition("==")[2] for line in lines if not line.startswith("#")}
    for_cuda = {name for name in locked if name.startswith(("cuda-", "nvidia-")) or name == "triton"} - {"nvidia-ml-py"}
    assert bool(for_cuda) == (target == "gpu")
    assert {name: version.removesuffix("+cpu") for name, version in locked.items() if name not in for_cuda} == {
        name: pinned.get(name) for name in locked if name not in for_cuda
    }
    assert locked["torch"].endswith("+cpu") == (target == "cpu")
    assert {_name(one) for one in PROJECT["dependencies"]} | {"s3fs", "setuptools", "wheel"} <= locked.keys()


def test_the_version_is_one() -> None:
    assert llmcore.__version__ == PROJECT["version"]
    assert f"## {PROJECT['version']}" in (ROOT / "CHANGELOG.md").read_text()


def test_every_file_that_is_no_python_is_packaged() -> None:
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    files = [
        path.relative_to(ROOT)
        for room in ("llmcore", "jobs")
        for path in (ROOT / room).rglob("*")
        if path.is_file() and path.suffix not in {".py", ".pyc"}
    ]
    packaged = [
        path
        for path in files
        if any(fnmatch(path.name, pattern) for pattern in patterns.get(".".join(path.parts[:-1]), ()))
    ]
    assert packaged == files != []


def _tools(folder: Path, **scripts: str) -> Path:
    """A folder for PATH with what POSIX has, and these scripts."""
    folder.mkdir()
    for name in POSIX:
        (folder / name).symlink_to(shutil.which(name) or name)
    for name, script in scripts.items():
        (folder / name).write_text(script)
        (folder / name).chmod(0o755)
    return folder


def _check_machine(path: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [str(path / "sh"), str(ROOT / "cluster" / "install.sh"), "--check"],
        env={"PATH": str(path), **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_what_is_missing_is_named_all_at_once_each_with_its_fix(tmp_path: Path) -> None:
    old = "#!/bin/sh\necho is Python 3.9, has no headers\n"
    done = _check_machine(_tools(tmp_path / "bin", python3=old))
    assert (done.returncode, done.stdout) == (2, "")
    for missing in ("Python 3.11 with venv and headers", "a C++ compiler", "\n  make\n", "\n  git\n"):
        assert missing in done.stderr
    assert "python3.11: not found" in done.stderr
    assert f"{tmp_path}/bin/python3: is Python 3.9, has no headers" in done.stderr
    assert done.stderr.count("fix: ") == 4


def test_a_compiler_that_cannot_do_the_work_is_named(tmp_path: Path) -> None:
    python = "#!/bin/sh\nexit 0\n"
    path = _tools(tmp_path / "bin", python3=python, **{"c++": "#!/bin/sh\nexit 1\n"}, make="", git="")
    done = _check_machine(path)
    assert done.returncode == 2
    assert "c++ cannot compile <Python.h>" in done.stderr
    assert done.stderr.count("fix: ") == 1


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A checkout with the project's Makefile, where the tools of `.venv` only note that they were called."""
    bin_folder = tmp_path / ".venv" / "bin"
    bin_folder.mkdir(parents=True)
    for name in ("python", "lint-imports"):
        (bin_folder / name).write_text(OWN_PYTHON)
        (bin_folder / name).chmod(0o755)
    for name in ("Makefile", ".ci/run", "pyproject.toml", "constraints.txt", "cluster/install.sh", ".gitignore"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / ".venv" / ".installed").touch()
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    return tmp_path


def _run(tree: Path, *command: str) -> tuple["subprocess.CompletedProcess[str]", list[str]]:
    log = tree / ".venv" / "log"
    log.unlink(missing_ok=True)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    done = subprocess.run(command, cwd=tree, capture_output=True, text=True, timeout=60, env=environment, check=False)
    return done, log.read_text().splitlines() if log.exists() else []


def test_tests_do_not_repeat_a_check_that_passed_for_the_same_files(tree: Path) -> None:
    done, calls = _run(tree, "make", "check")
    assert done.returncode == 0, done.stderr
    assert [call.split(" ")[1] for call in calls if call] == ["ruff", "ruff", "mypy", "bandit", "pytest"]
    assert _run(tree, "make", "test")[1] == ["-m pytest tests/integration tests/e2e"]
    (tree / "new.py").touch()
    unit, others = _run(tree, "make", "test")[1]
    assert unit.startswith("-m pytest tests/unit ") and others == "-m pytest tests/integration tests/e2e"


def test_a_check_that_failed_has_not_passed(tree: Path) -> None:
    (tree / ".gitignore").write_text(".venv\nfail\n")
    (tree / "fail").touch()
    assert _run(tree, "make", "check")[0].returncode != 0
    assert _run(tree, "make", "test")[1][0].startswith("-m pytest tests/unit ")


def test_continuous_integration_keeps_the_exit_code_and_shows_the_last_lines(tree: Path) -> None:
    assert _run(tree, "bash", ".ci/run")[0].returncode == 0
    (tree / "fail").touch()
    done, _ = _run(tree, "bash", ".ci/run")
    assert done.returncode != 0
    assert done.stdout.splitlines()[-1] == "1 failed in 0.01s"
