"""A warm start of a local Ray's workers: they are forked from a process that has imported what workers import.

A cold worker of a training imports for ten CPU-seconds, and each trial of a search has several. Ray starts its workers
by a command, and lets a job say which Python runs it (`py_executable` of a runtime environment); that is this file:

    python -I -S warm.py default_worker.py --node-id=… --session-name=… …

It has the server fork a process that becomes the worker, waits for its end, and ends like it. Where there is no server
to be had, the worker starts as Ray would have started it. Imports nothing but the standard library, since it is started
for each worker.
"""

import gc
import importlib
import json
import os
import secrets
import select
import signal
import socket
import struct
import subprocess
import sys
from contextlib import suppress
from types import FrameType
from typing import Any

__all__ = ["COLD_START", "RAY_IMPORTS", "WarmStart", "runtime_env"]

RAY_IMPORTS = (
    *("aiohttp", "click", "filelock", "google.protobuf.descriptor_pb2", "grpc", "jsonschema", "msgpack", "pandas"),
    *("pyarrow.parquet", "pydantic", "requests", "rich.progress"),
)
"""What takes most of the time of an import of Ray.

Ray itself is not imported before a fork: then it reads which job the process belongs to, and seeds what makes its
ids, so that two processes would name their calls alike.
"""
_IMPORTED = (
    *RAY_IMPORTS,
    "deepspeed.runtime.zero.muon.muon_optimizer",  # DeepSpeed imports it, and torch's compiler with it, for any engine
    "transformers.modeling_layers",
    "transformers.modeling_utils",
    "transformers.models.auto",
    "llmcore.train.fit",
    "llmcore.train.finetuning",
    "llmcore.train.pretraining",
    "llmcore.evaluation.score",
)
"""What takes seconds, and starts no thread, touches no device, and reads nothing that differs between workers."""
_PACKAGES = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100,PTH120  # no pathlib: see above
_NAME = "LLMCORE_WARM_START"
"""In the environment of the workers: the name of the server's socket. It needs no folder, and no cleaning up."""
_SERVE = "--serve"
_LOOK_EVERY_S = 0.5
_ASKED_WITHIN_S = 5.0
_DONE = b"+"
_PR_SET_PDEATHSIG = 1
_SIZE = struct.Struct("!I")
_CREDENTIALS = struct.Struct("3i")


class WarmStart:
    """The driver's side: to be made before `ray.init`, so that the server imports meanwhile; to be ended after Ray."""

    def __init__(self) -> None:
        self.environment = {_NAME: f"llmcore-{secrets.token_hex(16)}"}
        # -P: no module beside this file may be taken for another's.
        self._server = subprocess.Popen(
            [sys.executable, "-P", __file__, _SERVE, self.environment[_NAME], str(os.getpid())],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # what is sent to the driver's group is not for the server
        )

    def end(self) -> None:
        """End the servers, with whatever workers are left."""
        self._server.terminate()
        self._server.wait()


COLD_START = {_NAME: ""}
"""The environment of a worker that is to read its environment at its imports."""


def runtime_env() -> dict[str, str]:
    """Of jobs on a local Ray whose workers have a warm start; else nothing."""
    return {"py_executable": f"{sys.executable} -I -S {__file__}"} if _NAME in os.environ else {}


# --- The command, which is started for each worker.


def _ask(arguments: list[str]) -> int | None:
    """Have a worker forked, and wait for it; its exit code, or None where there was none to be had."""
    server = _connect(os.environ[_NAME])
    asked = {
        "arguments": arguments,
        "environment": dict(os.environ),
        "folder": os.getcwd(),  # noqa: PTH109
        "niceness": os.getpriority(os.PRIO_PROCESS, 0),
    }
    if server is None or not _send(server, asked):
        return None
    code = server.recv(_SIZE.size, socket.MSG_WAITALL)
    return int(_SIZE.unpack(code)[0]) if len(code) == _SIZE.size else 1


def _connect(name: str) -> socket.socket | None:
    """A connection to the server, if it is this user's; None where there is none."""
    if not name:
        return None
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with suppress(OSError):
        server.connect(f"\0{name}")
        if _peer(server) == os.getuid():  # another's is not to see our environment
            return server
    server.close()
    return None


def _send(server: socket.socket, asked: dict[str, Any]) -> bool:
    """Whether the server has forked what it was asked for."""
    content = json.dumps(asked).encode()
    socket.send_fds(server, [_SIZE.pack(len(content))], [0, 1, 2])
    server.sendall(content)
    return server.recv(1) == _DONE


def _peer(connection: socket.socket) -> int:
    """The user at the other end."""
    content = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return int(_CREDENTIALS.unpack(content)[1])


# --- The server.


class _Server:
    """Forks workers, and tells who asked for each how it has ended; lives as long as the driver."""

    def __init__(self, listener: socket.socket, driver: int) -> None:
        self._listener, self._driver = listener, driver
        self._asking: dict[int, socket.socket] = {}
        """Who waits for which process."""

    def run(self) -> None:
        """Does not return, but for raising `_Forked` in the processes that it makes."""
        signal.signal(signal.SIGTERM, self._end)
        while os.getppid() == self._driver:
            waiting = {connection.fileno(): pid for pid, connection in self._asking.items()}
            ready, _, _ = select.select([self._listener.fileno(), *waiting], [], [], _LOOK_EVERY_S)
            for file in ready:
                if file in waiting:
                    self._left(waiting[file])
                else:
                    self._accept()
            self._reap()
        self._end()

    def _accept(self) -> None:
        connection, _ = self._listener.accept()
        files: list[int] = []  # for the new process
        try:
            connection.settimeout(_ASKED_WITHIN_S)  # one that asks and stops is not to keep all others waiting
            if _peer(connection) != os.getuid():
                connection.close()
                return
            asked = _receive(connection, files)
            pid = os.fork()
            if pid == 0:
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
                for other in (self._listener, connection, *self._asking.values()):
                    other.close()
                raise _Forked(asked, files)
            self._asking[pid] = connection
            connection.sendall(_DONE)
        except (OSError, ValueError):  # it has gone
            if connection not in self._asking.values():
                connection.close()
        for file in files:
            os.close(file)

    def _left(self, pid: int) -> None:
        """Who asked for it has gone: nobody wants it any more."""
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        self._asking.pop(pid).close()

    def _reap(self) -> None:
        with suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                connection = self._asking.pop(ended[0], None)
                if connection is not None:
                    with suppress(OSError):
                        connection.sendall(_SIZE.pack(os.waitstatus_to_exitcode(ended[1]) % 256))
                    connection.close()

    def _end(self, signum: int = 0, frame: FrameType | None = None) -> None:
        """Nobody is left who needs what was forked."""
        for pid in self._asking:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        os._exit(0)


class _Forked(BaseException):
    """Leaves the server's frames behind, in the process that it has made."""

    def __init__(self, asked: dict[str, Any], files: list[int]) -> None:
        super().__init__()
        self.asked, self.files = asked, files


def _receive(connection: socket.socket, files: list[int]) -> dict[str, Any]:
    """What is asked for; the files that come with it are appended. Raises OSError, ValueError where it breaks off."""
    header, given, _, _ = socket.recv_fds(connection, _SIZE.size, 3)
    files.extend(given)
    content = b""
    if len(header) == _SIZE.size:
        (size,) = _SIZE.unpack(header)
        while len(content) < size and (part := connection.recv(size - len(content))):
            content += part
    return dict(json.loads(content))


def _serve(name: str, driver: int) -> None:
    """The driver's server, and its workers."""
    import ctypes

    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)  # while it imports, too
    if os.getppid() != driver:  # it has gone before that
        return
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(f"\0{name}")
    listener.listen(128)
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # as Ray has it in workers; it is read once, at an import
    sys.path.insert(0, _PACKAGES)
    for module in _IMPORTED:
        with suppress(ImportError):  # of an extra that is not installed
            importlib.import_module(module)
    sys.path.remove(_PACKAGES)
    gc.collect()
    gc.freeze()  # what is there stays shared
    try:
        _Server(listener, driver).run()
    except _Forked as forked:
        asked, files = forked.asked, forked.files
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    _become(asked)


def _become(asked: dict[str, Any]) -> None:
    """Be the worker, as its own Python would have made it."""
    import runpy

    import numpy as np

    np.random.seed()  # forks would draw alike; Python itself sees to its own generator
    os.setsid()
    with suppress(PermissionError):  # it cannot be less nice than its parent
        os.setpriority(os.PRIO_PROCESS, 0, asked["niceness"])
    os.chdir(asked["folder"])
    os.environ.clear()
    os.environ.update(asked["environment"])
    sys.argv = asked["arguments"]
    sys.path.insert(0, os.path.dirname(sys.argv[0]))  # noqa: PTH120
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    if sys.argv[1:2] == [_SERVE]:
        _serve(sys.argv[2], int(sys.argv[3]))
    else:
        ended = None
        with suppress(Exception):
            ended = _ask(sys.argv[1:])
        if ended is None:
            os.execv(sys.executable, [sys.executable, *sys.argv[1:]])  # nosec B606
        sys.exit(ended)
