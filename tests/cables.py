"""A way between a client and a server that can be cut, and mended."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

__all__ = ["Cable", "cable"]


class Cable:
    """Passes bytes on as long as it is whole; `address` is where clients connect."""

    def __init__(self, server: tuple[str, int], listener: socket.socket) -> None:
        """Made by `cable` alone."""
        self.address: tuple[str, int] = listener.getsockname()
        self.num_cut = 0
        self._server = server
        self._whole = threading.Event()
        self._whole.set()
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()

    def cut(self) -> None:
        """Reset every connection, and refuse those that come."""
        with self._lock:
            self._whole.clear()
            for one in self._open:
                with suppress(OSError):
                    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
                    one.shutdown(socket.SHUT_RDWR)
                self.num_cut += 1

    def mend(self) -> None:
        """Pass on what comes from now on."""
        self._whole.set()

    def serve(self, client: socket.socket) -> None:
        with client, suppress(OSError):
            if not self._whole.is_set():
                return
            with socket.create_connection(self._server, timeout=5) as upstream:
                upstream.settimeout(None)
                with self._lock:
                    self._open |= {client, upstream}
                back = threading.Thread(target=_pass, args=(upstream, client), daemon=True)
                back.start()
                _pass(client, upstream)
                back.join()
                with self._lock:
                    self._open -= {client, upstream}


def _pass(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(1 << 16):
            target.sendall(data)
    for one in (source, target):
        with suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)


@contextmanager
def cable(server: tuple[str, int]) -> Iterator[Cable]:
    """A cable to a server, on a port of its own."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        made = Cable(server, listener)

        def accept() -> None:
            with suppress(OSError):
                while True:
                    client, _ = listener.accept()
                    threading.Thread(target=made.serve, args=(client,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield made
        made.cut()
        listener.shutdown(socket.SHUT_RDWR)
