"""A cluster that KubeRay runs, through the user's own `kubectl`: a forwarded port, and the token from its secret.

Nothing of the cluster has to be reachable from outside, and no token has to be copied: whoever may read the secret may
use the cluster, and Kubernetes decides who that is.
"""

import base64
import binascii
import json
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import IO, Any

from cluster.endpoint import Endpoint
from llmcore.errors import ConfigError

__all__ = ["forwarded"]

_DASHBOARD_PORT = 8265
_HEADS = "ray.io/node-type=head"
_CLUSTER_LABEL = "ray.io/cluster"
_TOKEN_KEY = "auth_token"
_FORWARDED_WITHIN_S = 30.0
_ANSWER_WITHIN_S = 30.0
_AGAIN_AFTER_S = 1.0


@dataclass(frozen=True)
class _Kubectl:
    program: str
    context: str
    namespace: str | None

    def command(self, *arguments: str) -> list[str]:
        namespace = ["--namespace", self.namespace] if self.namespace else []
        return [self.program, "--context", self.context, *namespace, *arguments]

    def get(self, *arguments: str) -> dict[str, Any]:
        """An object as JSON. Raises ConfigError with what kubectl said."""
        command = self.command("get", *arguments, "--output", "json")
        try:
            done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=_ANSWER_WITHIN_S)
        except subprocess.TimeoutExpired:
            raise ConfigError(
                f"context {self.context}: no answer within {_ANSWER_WITHIN_S:.0f} s; try `kubectl --context "
                f"{self.context} get nodes`"
            ) from None
        if done.returncode:
            raise ConfigError(f"context {self.context}: {_last(done.stderr)}")
        return dict(json.loads(done.stdout))


@contextmanager
def forwarded(context: str, *, namespace: str | None = None, service: str | None = None) -> Iterator[Endpoint]:
    """The way to a KubeRay cluster's dashboard, for the time of a `with` block; a connection that breaks is made anew.

    Without a service, it is the head's where there is one. Raises ConfigError where kubectl is missing, refuses, or
    there is none or more than one.
    """
    program = shutil.which("kubectl")
    if program is None:
        raise ConfigError("--context needs kubectl on the PATH: install it, or forward the port and give --cluster")
    kubectl = _Kubectl(program, context, namespace)
    head = _head_service(kubectl, service)
    token = _token(kubectl, head)
    with _port_forward(kubectl, head["metadata"]["name"]) as port:
        name = f"{context}/{head['metadata']['name']}"
        yield Endpoint(name, f"http://127.0.0.1:{port}", None, token)


def _head_service(kubectl: _Kubectl, service: str | None) -> dict[str, Any]:
    if service is not None:
        return kubectl.get("service", service)
    heads = kubectl.get("service", "--selector", _HEADS)["items"]
    if len(heads) != 1:
        found = ", ".join(str(head["metadata"]["name"]) for head in heads) or "none"
        raise ConfigError(
            f"context {kubectl.context}, namespace {kubectl.namespace or 'as it is by default'}: expected one Ray "
            f"head, found {found}; give --namespace, or --service"
        )
    return dict(heads[0])


def _token(kubectl: _Kubectl, head: dict[str, Any]) -> str | None:
    """That of the cluster's secret; None where the cluster asks for none. It is named like the cluster, or by it."""
    cluster = head["metadata"].get("labels", {}).get(_CLUSTER_LABEL)
    if cluster is None:
        return None
    options = kubectl.get("raycluster", cluster)["spec"].get("authOptions") or {}
    if options.get("mode", "disabled") != "token":
        return None
    secret = options.get("secretName") or cluster
    try:
        return base64.b64decode(kubectl.get("secret", secret)["data"][_TOKEN_KEY], validate=True).decode().strip()
    except (KeyError, binascii.Error, UnicodeDecodeError):
        raise ConfigError(f"secret {secret} has no {_TOKEN_KEY}: it is not the one of a Ray cluster") from None


@contextmanager
def _port_forward(kubectl: _Kubectl, service: str) -> Iterator[int]:
    """A port of this machine that leads to the service, kept open by a thread: kubectl leaves with its connection."""
    port = _free_port()
    command = kubectl.command(
        "port-forward", "--address", "127.0.0.1", f"service/{service}", f"{port}:{_DASHBOARD_PORT}"
    )
    closed = threading.Event()
    with tempfile.TemporaryFile("w+") as said:
        child = _forward(command, said)

        def keep() -> None:
            nonlocal child
            while not closed.wait(_AGAIN_AFTER_S):
                if child.poll() is not None:
                    child = _forward(command, said)

        keeper = threading.Thread(target=keep, daemon=True, name="port-forward")
        try:
            _await_port(port, child, kubectl, said)
            keeper.start()
            yield port
        finally:
            closed.set()
            if keeper.is_alive():
                keeper.join()
            child.terminate()
            child.wait()


def _forward(command: Sequence[str], said: IO[str]) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=said,
        start_new_session=True,  # a Ctrl-C in the terminal is for the command, which ends this itself
    )


def _await_port(port: int, child: "subprocess.Popen[bytes]", kubectl: _Kubectl, said: IO[str]) -> None:
    deadline = time.monotonic() + _FORWARDED_WITHIN_S
    while time.monotonic() < deadline:
        if child.poll() is not None:
            said.seek(0)
            raise ConfigError(f"context {kubectl.context}: the port cannot be forwarded: {_last(said.read())}")
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1.0):
            return
        time.sleep(0.1)
    raise ConfigError(f"context {kubectl.context}: no forwarded port within {_FORWARDED_WITHIN_S:.0f} s")


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _last(said: str) -> str:
    lines = said.strip().splitlines()
    return lines[-1] if lines else "kubectl gave no reason"
