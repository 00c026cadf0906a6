"""What travels to a cluster: all that the code needs, nothing else, and always the same bytes."""

import io
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

from cluster.submit.package import LIMIT_BYTES, build_package, code_root
from llmcore.errors import ConfigError

ROOT = Path(__file__).parents[2]
SMOKE = ROOT / "configs/pipeline/smoke.yaml"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A clone in small, with junk of every kind in it."""
    root = tmp_path / "clone"
    for name in ("llmcore/one.py", "jobs/two.py", "cluster/three.sh", "configs/four.yaml", "pyproject.toml"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    (root / "constraints.txt").write_text("ray==2.60.0\n")
    for junk in (
        ".venv/lib/python.py",
        "runs/tiny/run.json",
        "data/corpus.jsonl",
        "llmcore/__pycache__/one.cpython-311.pyc",
        "llmcore/.secret/token",
        "configs/.env",
    ):
        (root / junk).parent.mkdir(parents=True, exist_ok=True)
        (root / junk).write_text("junk")
    return root


def _as_repository(root: Path) -> None:
    (root / ".gitignore").write_text("/.venv/\n/runs/\n__pycache__/\n*.log\n")
    for command in (["init", "-q"], ["add", "llmcore/one.py", "jobs", "pyproject.toml", "constraints.txt"]):
        subprocess.run(["git", "-C", str(root), *command], check=True)


WITHOUT_JUNK = [
    "cluster/three.sh",
    "configs/four.yaml",
    "constraints.txt",
    "jobs/two.py",
    "llmcore/one.py",
    "pyproject.toml",
]


@pytest.mark.parametrize("repository", [False, True])
def test_the_code_travels_and_junk_does_not(tree: Path, repository: bool) -> None:
    if repository:
        _as_repository(tree)
    package, name = build_package(tree, tree / "configs/four.yaml")
    assert name == "configs/four.yaml"
    assert list(package.files) == WITHOUT_JUNK
    with zipfile.ZipFile(io.BytesIO(package.data)) as archive:
        assert archive.namelist() == WITHOUT_JUNK
        assert {each: archive.read(each).decode() for each in ("llmcore/one.py", "jobs/two.py")} == {
            "llmcore/one.py": "llmcore/one.py",
            "jobs/two.py": "jobs/two.py",
        }


def test_what_git_ignores_stays_and_what_is_new_travels(tree: Path) -> None:
    _as_repository(tree)
    (tree / "jobs/new.py").write_text("not added yet")
    (tree / "jobs/old.log").write_text("ignored")
    (tree / "jobs/two.py").unlink()
    package, _ = build_package(tree, tree / "configs/four.yaml")
    assert "jobs/new.py" in package.files
    assert not {"jobs/old.log", "jobs/two.py"} & package.files.keys()


def test_the_same_tree_is_the_same_bytes(tree: Path, tmp_path: Path) -> None:
    first, _ = build_package(tree, tree / "configs/four.yaml")
    copy = tmp_path / "elsewhere"
    shutil.copytree(tree, copy)
    for file in copy.rglob("*"):
        file.touch()
    (copy / "llmcore/one.py").chmod(0o600)
    second, _ = build_package(copy, copy / "configs/four.yaml")
    assert first.data == second.data and first.uri == second.uri
    (copy / "llmcore/one.py").write_text("other")
    third, _ = build_package(copy, copy / "configs/four.yaml")
    assert third.uri != first.uri


def test_the_hash_is_the_one_that_ray_gives(tree: Path, tmp_path: Path) -> None:
    from ray._private.runtime_env.packaging import get_uri_for_package

    package, _ = build_package(tree, tree / "configs/four.yaml")
    (tmp_path / "package.zip").write_bytes(package.data)
    assert package.uri == get_uri_for_package(tmp_path / "package.zip")


def test_a_configuration_from_elsewhere_travels_along(tree: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text("name: mine")
    package, name = build_package(tree, mine)
    assert name == "submitted/mine.yaml" and name in package.files
    (tmp_path / "link.yaml").symlink_to(mine)
    _, name = build_package(tree, tmp_path / "link.yaml")
    assert name == "submitted/link.yaml"


def test_what_is_included_keeps_its_path(tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = tmp_path / "here"
    (here / "tasks/__pycache__").mkdir(parents=True)
    for name in ("tasks/mine.py", "tasks/.hidden", "tasks/__pycache__/mine.pyc", "own.py"):
        (here / name).write_text(name)
    monkeypatch.chdir(here)
    package, _ = build_package(tree, tree / "configs/four.yaml", [Path("tasks"), Path("own.py")])
    assert sorted(package.files.keys() - set(WITHOUT_JUNK)) == ["own.py", "tasks/mine.py"]
    with pytest.raises(ConfigError, match="no such file"):
        build_package(tree, tree / "configs/four.yaml", [Path("absent")])
    with pytest.raises(ConfigError, match="below the working directory"):
        build_package(tree, tree / "configs/four.yaml", [tmp_path])
    (here / "jobs").mkdir()
    (here / "jobs/two.py").write_text("another")
    with pytest.raises(ConfigError, match=r"another jobs/two\.py"):
        build_package(tree, tree / "configs/four.yaml", [Path("jobs")])


def test_links_do_not_travel(tree: Path) -> None:
    (tree / "jobs/link.py").symlink_to("/etc/hostname")
    with pytest.raises(ConfigError, match=r"jobs/link\.py is a link"):
        build_package(tree, tree / "configs/four.yaml")


def test_too_much_is_refused_with_the_largest(tree: Path) -> None:
    (tree / "jobs/dump.bin").write_bytes(bytes(LIMIT_BYTES - 1000))
    (tree / "configs/corpus.jsonl").write_bytes(bytes(2_000_000))
    with pytest.raises(ConfigError, match=r"22\.0 MB, .* jobs/dump\.bin \(20\.0 MB\), configs/corpus\.jsonl \(2\.0 MB"):
        build_package(tree, tree / "configs/four.yaml")


def test_this_repository_is_under_two_megabytes_and_whole() -> None:
    package, name = build_package(code_root(), SMOKE)
    print(f"\n{package.told()}")
    assert name == "configs/pipeline/smoke.yaml"
    assert len(package.data) < 2_000_000
    assert {"llmcore/__init__.py", "jobs/__main__.py", "cluster/connect.py", "constraints.txt"} <= package.files.keys()
    assert any(each.endswith(".j2") for each in package.files), "what is no Python, too"
    assert not any(n.startswith((".", "tests", "docs", "runs")) for n in package.files)


def test_a_folder_without_pins_is_no_clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import llmcore

    (tmp_path / "llmcore").mkdir()
    monkeypatch.setattr(llmcore, "__file__", str(tmp_path / "llmcore/__init__.py"))
    with pytest.raises(ConfigError, match="submit from a clone"):
        code_root()
