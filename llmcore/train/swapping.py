"""What offload to NVMe needs of a node: a folder for each worker, and DeepSpeed's operation that reads and writes it.

Imports DeepSpeed for that operation.
"""

import ctypes
import fcntl
import os
import resource
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import mkdtemp

import torch

from llmcore.config.train import TrainSettings
from llmcore.errors import ConfigError

__all__ = ["check_lockable", "load_async_io", "own_swap_folder"]

_PREFIX = "llmcore-swap-"


@contextmanager
def own_swap_folder(settings: TrainSettings) -> Iterator[TrainSettings]:
    """The settings with a folder of this process's own as their `offload.folder`; the same where nothing is on NVMe.

    It is deleted in the end. What killed processes left on the node is deleted in the beginning: a process that lives
    holds a lock on its folder, and the kernel lets go of it whatever way the process ends. Raises ConfigError for a
    folder that cannot be used.
    """
    offload = settings.offload
    if offload.folder is None:
        yield settings
        return
    try:
        folder, lock = _make_own(Path(offload.folder))
    except OSError as error:
        raise ConfigError(
            f"offload.folder={offload.folder} cannot be used on this node: {error.strerror} ({error.filename}). Name a "
            "folder that workers may write, on a local disk whose file system reads and writes directly (O_DIRECT)"
        ) from error
    try:
        yield settings.model_copy(update={"offload": offload.model_copy(update={"folder": str(folder)})})
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _make_own(parent: Path) -> tuple[Path, int]:
    """A new folder, and the descriptor that holds its lock."""
    parent.mkdir(parents=True, exist_ok=True)
    gate = os.open(parent, os.O_RDONLY)
    try:
        fcntl.flock(gate, fcntl.LOCK_EX)  # else a folder would be taken for a dead one's before it is locked
        for left in parent.glob(f"{_PREFIX}*"):
            _delete_abandoned(left)
        folder = Path(mkdtemp(prefix=_PREFIX, dir=parent))
        lock = os.open(folder, os.O_RDONLY)
        fcntl.flock(lock, fcntl.LOCK_EX)
    finally:
        os.close(gate)
    try:
        os.close(os.open(folder / "direct", os.O_CREAT | os.O_WRONLY | os.O_DIRECT))
    except OSError:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)
        raise
    return folder, lock


def _delete_abandoned(folder: Path) -> None:
    with suppress(OSError):  # one that lives is just deleting its own, or it is another user's
        lock = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder)
        finally:
            os.close(lock)


def check_lockable(num_bytes: int) -> None:
    """Raises ConfigError where this process may not lock so much memory: there DeepSpeed would end it at once."""
    memory = torch.empty(num_bytes, dtype=torch.uint8)
    place, size = ctypes.c_void_p(memory.data_ptr()), ctypes.c_size_t(num_bytes)
    library = ctypes.CDLL(None, use_errno=True)
    if library.mlock(place, size) != 0:
        limit = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
        raise ConfigError(
            f"offload to nvme locks {num_bytes} bytes of each worker's memory, and here a process may lock {limit} "
            f"({os.strerror(ctypes.get_errno())}): raise it on every node (ulimit -l unlimited, docker run --ulimit "
            "memlock=-1), or offload to cpu"
        )
    library.munlock(place, size)


def load_async_io() -> None:
    """Loads DeepSpeed's operation, which is compiled at its first use on a node: for some minutes.

    Raises ConfigError where that cannot be done.
    """
    from deepspeed.git_version_info import installed_ops
    from deepspeed.ops.op_builder import AsyncIOBuilder

    # The ninja beside this Python compiles it: another version of the system's would compile it anew each time.
    first, path = str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)
    os.environ["PATH"] = path if path.startswith(first) else f"{first}{os.pathsep}{path}"
    builder = AsyncIOBuilder()
    try:
        # Asked beforehand, since it would first compile another operation for a minute.
        if not installed_ops.get(builder.name) and not builder.is_compatible():
            raise RuntimeError("a program that calls libaio does not compile and link")
        builder.load(verbose=False)
    except Exception as error:  # of many kinds: no library, no ninja, a compiler's failure
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise ConfigError(
            f"offload to nvme needs DeepSpeed's operation async_io, which this node cannot load ({reason}). Install "
            "the headers of libaio on every node (apt-get install libaio-dev, dnf install libaio-devel), beside a C++ "
            "compiler; or offload to cpu"
        ) from error
