"""What a user calls a cluster, and where that leads."""

import base64
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import psutil
import pytest

from cluster.endpoint import Endpoint, resolve, token_of_environment
from cluster.submit.jobs_api import JobsApi
from cluster.submit.kubernetes import forwarded
from llmcore.errors import ClusterAwayError, ConfigError

VARIABLES = ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home without a token, and no cluster in the environment."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path


def test_a_url_is_taken_as_it_is_and_goes_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolve("https://head:8265/") == Endpoint("https://head:8265/", "https://head:8265", None, None)
    monkeypatch.setenv("RAY_ADDRESS", "http://other:1")
    assert resolve().jobs_url == "http://other:1"
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://third:1")
    assert resolve().jobs_url == "http://third:1"
    assert resolve("http://head:8265").jobs_url == "http://head:8265"


@pytest.mark.parametrize("wrong", ["ray://head:10001", "My Cluster", "s3://x"])
def test_what_is_no_cluster_is_refused(wrong: str) -> None:
    with pytest.raises(ConfigError, match="cluster"):
        resolve(wrong)


def test_a_name_is_that_of_a_local_cluster() -> None:
    with pytest.raises(ConfigError, match="no local cluster 'mine'"):
        resolve("mine")


def test_a_head_that_does_not_answer_is_told_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    began = time.monotonic()
    with pytest.raises(ConfigError, match="no Ray cluster can be reached"):
        resolve(f"127.0.0.1:{port}")
    assert time.monotonic() - began < 30
    assert "RAY_AUTH_MODE" not in os.environ


def test_the_token_is_found_where_ray_finds_it(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert token_of_environment() is None
    (home / ".ray").mkdir()
    (home / ".ray/auth_token").write_text("default\n")
    assert token_of_environment() == "default"
    (home / "own").write_text("named")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(home / "own"))
    assert token_of_environment() == "named"
    monkeypatch.setenv("RAY_AUTH_TOKEN", "given")
    assert token_of_environment() == "given"
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    assert token_of_environment() is None
    monkeypatch.undo()


def test_a_token_file_that_is_not_there_is_an_error(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(home / "absent"))
    with pytest.raises(ConfigError, match="the token cannot be read"):
        token_of_environment()


def test_the_token_is_in_no_text(home: Path) -> None:
    endpoint = Endpoint("it", "http://head:1", "head:2", "planted")
    assert "planted" not in repr(endpoint)
    assert endpoint.environment() == {"RAY_ADDRESS": "head:2", "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "planted"}
    assert Endpoint("it", "http://head:1", None).environment() == {}


class _Handler(BaseHTTPRequestHandler):
    """A dashboard that asks for the token `right`."""

    def do_GET(self) -> None:
        given = self.headers.get("Authorization")
        status, body = (200, {"ray_version": "2.60.0"}) if given == "Bearer right" else (403 if given else 401, {})
        if self.path.startswith("/api/jobs/"):
            status = {"absent": 404, "broken": 500, "busy": 503, "moved": 302}[self.path.rpartition("/")[2]]
        self.send_response(status)
        self.send_header("Location", "http://elsewhere.invalid/")
        self.end_headers()
        self.wfile.write(json.dumps(body).encode() if status == 200 else b"Traceback:\nValueError: it broke\n")

    def log_message(self, format: str, *args: Any) -> None:
        return


@pytest.fixture
def dashboard() -> Iterator[int]:
    server = HTTPServer(("127.0.0.1", 0), _Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()


def _api(port: int, token: str | None) -> JobsApi:
    return JobsApi(Endpoint("it", f"http://127.0.0.1:{port}", None, token))


def test_answers_of_a_cluster_are_told_apart(dashboard: int) -> None:
    assert _api(dashboard, "right").ray_version() == "2.60.0"
    for token, reason in (("wrong-one", "refuses the token"), (None, "asks for its token, and there is none here")):
        with pytest.raises(ConfigError, match=reason) as refused:
            _api(dashboard, token).ray_version()
        assert "wrong-one" not in str(refused.value)
    api = _api(dashboard, "right")
    assert api.job("absent") is None
    with pytest.raises(ClusterAwayError, match="HTTP 500, ValueError: it broke"):
        api.job("broken")
    with pytest.raises(ClusterAwayError, match="HTTP 503"):
        api.job("busy")
    with pytest.raises(Exception, match=r".") as redirected:
        api.job("moved")
    assert "elsewhere" not in str(redirected.value), "the token goes nowhere else"


def test_a_cluster_that_is_away_says_why() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(ClusterAwayError, match=r"no good answer from .*Connection refused"):
        _api(port, None).ray_version()
    with pytest.raises(ClusterAwayError, match="no good answer"):
        next(_api(port, None).tail("it"))


KUBECTL = '''#!{python}
"""Stands for kubectl: answers from a file, and forwards a port for real."""
import json, os, socket, sys, threading
given = sys.argv[1:]
here = os.path.dirname(os.path.abspath(__file__))
open(here + "/asked", "a").write(" ".join(given) + "\\n")
answers = json.load(open(here + "/answers.json"))
if "port-forward" in given:
    if answers.get("refuse"):
        sys.exit("error: services is forbidden")
    port = int(given[-1].partition(":")[0])
    listener = socket.create_server(("127.0.0.1", port))
    def copy(a, b):
        while data := a.recv(65536):
            b.sendall(data)
        b.shutdown(socket.SHUT_WR)
    for _ in range(answers["connections"]):
        client, _ = listener.accept()
        upstream = socket.create_connection(("127.0.0.1", answers["port"]))
        threads = [threading.Thread(target=copy, args=pair) for pair in ((client, upstream), (upstream, client))]
        [t.start() for t in threads]; [t.join() for t in threads]
        client.close()
    sys.exit(1)
found = answers.get(" ".join(given[given.index("get") + 1 : given.index("--output")]))
if found is None:
    sys.exit("Error from server (NotFound): there is no such thing")
print(json.dumps(found))
'''
HEAD = {"metadata": {"name": "tiny-head-svc", "labels": {"ray.io/cluster": "tiny"}}}
SECRET = {"data": {"auth_token": base64.b64encode(b"right\n").decode()}}


@pytest.fixture
def kubectl(home: Path, dashboard: int, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What kubectl answers; a forwarded port serves three connections, and breaks."""
    folder = home / "bin"
    folder.mkdir()
    program = folder / "kubectl"
    program.write_text(KUBECTL.replace("{python}", sys.executable))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return {
        "service --selector ray.io/node-type=head": {"items": [HEAD]},
        "service tiny-head-svc": HEAD,
        "raycluster tiny": {"spec": {"authOptions": {"mode": "token"}}},
        "secret tiny": SECRET,
        "port": dashboard,
        "connections": 3,
    }


def _answer(home: Path, answers: dict[str, Any]) -> None:
    (home / "bin/answers.json").write_text(json.dumps(answers))


def test_a_kubernetes_context_is_forwarded_and_a_broken_port_mended(home: Path, kubectl: dict[str, Any]) -> None:
    _answer(home, kubectl)
    with forwarded("ctx", namespace="ml") as endpoint:
        assert endpoint.token == "right" and endpoint.name == "ctx/tiny-head-svc"
        api = JobsApi(endpoint)
        answered = 0
        deadline = time.monotonic() + 60
        while answered < 7 and time.monotonic() < deadline:
            with suppress(ClusterAwayError):
                assert api.ray_version() == "2.60.0"
                answered += 1
            time.sleep(0.05)
        assert answered == 7
        children = psutil.Process().children()
        assert any("port-forward" in child.cmdline() for child in children)
    assert not [child for child in psutil.Process().children() if "port-forward" in child.cmdline()]
    asked = (home / "bin/asked").read_text().splitlines()
    assert all(line.startswith("--context ctx --namespace ml ") for line in asked)
    assert sum("port-forward" in line for line in asked) >= 3
    assert not any("right" in line for line in asked)


def test_the_secret_may_have_another_name_and_the_cluster_no_token(home: Path, kubectl: dict[str, Any]) -> None:
    named = {"spec": {"authOptions": {"mode": "token", "secretName": "own"}}}
    _answer(home, kubectl | {"raycluster tiny": named, "secret own": SECRET})
    with forwarded("ctx", service="tiny-head-svc") as endpoint:
        assert endpoint.token == "right"
    _answer(home, kubectl | {"raycluster tiny": {"spec": {}}})
    with forwarded("ctx") as endpoint:
        assert endpoint.token is None


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"service --selector ray.io/node-type=head": {"items": []}}, "expected one Ray head, found none"),
        ({"service --selector ray.io/node-type=head": {"items": [HEAD, HEAD]}}, "found tiny-head-svc, tiny-head-svc"),
        ({"raycluster tiny": None}, "NotFound"),
        ({"secret tiny": {"data": {}}}, "has no auth_token"),
        ({"refuse": True}, "cannot be forwarded: error: services is forbidden"),
    ],
)
def test_what_kubernetes_refuses_is_told(
    home: Path, kubectl: dict[str, Any], changed: dict[str, Any], reason: str
) -> None:
    _answer(home, kubectl | changed)
    with pytest.raises(ConfigError, match=reason), forwarded("ctx"):
        pass


def test_without_kubectl_there_is_another_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ConfigError, match="needs kubectl on the PATH"), forwarded("ctx"):
        pass
