"""A real S3 server on a folder, rclone's: for benchmarks, and for the tests."""

import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["free_port", "rclone", "s3_environment", "s3_server"]

_KEYS = ("someone", "secret")


def rclone() -> str | None:
    """The program, beside Python or on the path; None where it is not installed."""
    beside = Path(sys.executable).parent / "rclone"
    return str(beside) if beside.exists() else shutil.which("rclone")


@contextmanager
def s3_server(
    program: str, root: Path, address: tuple[str, int] | None = None, keys: tuple[str, str] = _KEYS
) -> Iterator[tuple[str, int]]:
    """Host and port of an S3 server whose buckets are the folders in `root`: as given, or a free port on loopback.

    It asks for these keys.
    """
    host, port = address or ("127.0.0.1", free_port())
    options = ["--auth-key", ",".join(keys), "--vfs-cache-mode", "off", "--config", "/dev/null"]
    command = [program, "serve", "s3", "--addr", f"{host}:{port}", *options, str(root)]
    server = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 20
        while socket.socket().connect_ex((host, port)):
            assert server.poll() is None and time.monotonic() < deadline, "rclone does not serve"
        yield host, port
    finally:
        server.terminate()
        server.wait()


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as free:
        free.bind(("", 0))
        return int(free.getsockname()[1])


def s3_environment(address: tuple[str, int], keys: tuple[str, str] = _KEYS) -> dict[str, str]:
    """What leads `s3://` to a server."""
    return {
        "AWS_ENDPOINT_URL": f"http://{address[0]}:{address[1]}",
        "AWS_ACCESS_KEY_ID": keys[0],
        "AWS_SECRET_ACCESS_KEY": keys[1],
        "AWS_DEFAULT_REGION": "us-east-1",
    }
