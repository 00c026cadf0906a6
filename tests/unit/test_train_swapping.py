"""A worker's own folder on its node's disk: nobody else's, gone with it, whatever way it ends."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from llmcore.config.train import TrainSettings
from llmcore.errors import ConfigError
from llmcore.train.swapping import check_lockable, own_swap_folder

HOLD = """
import sys
from pathlib import Path
from llmcore.config.train import TrainSettings
from llmcore.train.swapping import own_swap_folder
offload = {"optimizer": "nvme", "folder": sys.argv[1]}
with own_swap_folder(TrainSettings(num_steps=1, zero_stage=3, offload=offload)) as settings:
    Path(settings.offload.folder, "state.swp").write_bytes(b"moments")
    print(settings.offload.folder, flush=True)
    sys.stdin.read()
"""


def _settings(parent: Path) -> TrainSettings:
    offload = {"optimizer": "nvme", "folder": str(parent)}
    return TrainSettings.model_validate({"num_steps": 1, "zero_stage": 3, "offload": offload})


@contextmanager
def _another(parent: Path) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """Another process that has a folder there."""
    command = [sys.executable, "-c", HOLD, str(parent)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process, Path(process.stdout.readline().strip())
        process.kill()


def test_each_has_its_own_and_deletes_it(tmp_path: Path) -> None:
    parent = tmp_path / "disk"
    with own_swap_folder(_settings(parent)) as one, own_swap_folder(_settings(parent)) as other:
        folders = {Path(settings.offload.folder or "") for settings in (one, other)}
        assert folders == set(parent.iterdir())
        assert len(folders) == 2
        assert one.model_copy(update={"offload": other.offload}) == other, "nothing else is changed"
    assert list(parent.iterdir()) == []


def test_it_is_deleted_where_the_run_fails(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="the run's own"), own_swap_folder(_settings(tmp_path)):
        raise RuntimeError("the run's own")
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_is_deleted_and_what_a_living_one_has_is_not(tmp_path: Path) -> None:
    with _another(tmp_path) as (_, living), _another(tmp_path) as (process, left):
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert (left / "state.swp").exists()
        (tmp_path / "of somebody else").mkdir()
        with own_swap_folder(_settings(tmp_path)) as settings:
            own = Path(settings.offload.folder or "")
            assert set(tmp_path.iterdir()) == {living, own, tmp_path / "of somebody else"}
            assert (living / "state.swp").read_bytes() == b"moments"


def test_where_nothing_is_on_nvme_nothing_is_made() -> None:
    settings = TrainSettings(num_steps=1)
    with own_swap_folder(settings) as same:
        assert same is settings


def test_a_folder_that_cannot_be_used_is_told_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(ConfigError, match=r"offload\.folder=.*file/disk cannot be used on this node: Not a directory"),
        own_swap_folder(_settings(tmp_path / "file/disk")),
    ):
        pass


def test_too_little_lockable_memory_is_told_before_deepspeed_is_ended_by_it() -> None:
    check_lockable(4096)
    locked = """
import os, resource
from llmcore.train.swapping import check_lockable
resource.setrlimit(resource.RLIMIT_MEMLOCK, (65536, 65536))
if os.getuid() == 0:
    os.setuid(65534)  # root may lock what it likes
check_lockable(1 << 20)
"""
    done = subprocess.run([sys.executable, "-c", locked], capture_output=True, text=True, check=False)
    told = done.stderr.splitlines()[-1]
    assert "locks 1048576 bytes of each worker's memory, and here a process may lock 65536" in told
    assert "ulimit -l unlimited" in told
