"""A small Hugging Face hub: what its library asks when a folder is uploaded, over HTTP, as git and LFS store it."""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

__all__ = ["TOKEN", "Hub", "hub_here"]

TOKEN = "hf_of_a_test"
_LARGE = (".safetensors",)


@dataclass
class Hub:
    """Who has the token may write; without a repository nothing is taken.

    Attributes:
        files: By repository and path.
        private: Of each repository, whether it is.
        uploaded: Paths whose bytes were sent, in order.
        url: Of the hub, while it serves.
        full: Whether commits are refused.
    """

    files: dict[str, dict[str, bytes]] = field(default_factory=dict)
    private: dict[str, bool] = field(default_factory=dict)
    uploaded: list[str] = field(default_factory=list)
    url: str = ""
    full: bool = False
    _objects: dict[str, bytes] = field(default_factory=dict)

    @contextmanager
    def serving(self) -> Iterator[dict[str, str]]:
        """The environment in which the library finds it."""
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                known = self.command == "PUT" or self.headers.get("Authorization") == f"Bearer {TOKEN}"
                status, said = hub.answer(self.command, self.path, body) if known else (401, {"error": "who are you?"})
                data = json.dumps(said).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = do_PUT = _answer  # noqa: N815  # the names that http.server looks for

            def log_message(self, *_: Any) -> None:
                """Says nothing."""

        with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            self.url = f"http://127.0.0.1:{server.server_address[1]}"
            threading.Thread(target=server.serve_forever, daemon=True).start()
            try:
                # Xet, the hub's newer store, is a protocol of its own, which the library can do without.
                yield {"HF_ENDPOINT": self.url, "HF_TOKEN": TOKEN, "HF_HUB_DISABLE_XET": "1", "HF_HUB_OFFLINE": "0"}
            finally:
                server.shutdown()

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, Any]:
        """Status and JSON."""
        status: int = 200
        said: Any = {}
        match method, path.partition("?")[0].strip("/").split("/"):
            case "GET", ["api", "whoami-v2"]:
                said = {"name": "owner"}
            case "POST", ["api", "validate-yaml"]:
                said = {"warnings": [], "errors": []}
            case "POST", ["api", "repos", "create"]:
                status, said = self._create(json.loads(body))
            case _, ["api", "models", owner, name, what, "main"]:
                status, said = self._of_repository(f"{owner}/{name}", what, body)
            case "POST", [_, repository, "info", "lfs", "objects", "batch"] if repository.endswith(".git"):
                said = {"transfer": "basic", "objects": [_upload(self.url, of) for of in json.loads(body)["objects"]]}
            case "PUT", ["objects", sha256]:
                assert hashlib.sha256(body).hexdigest() == sha256
                self._objects[sha256] = body
            case _:
                status, said = 404, {"error": f"{method} {path}"}
        return status, said

    def _create(self, asked: dict[str, Any]) -> tuple[int, Any]:
        repository = f"{asked['organization']}/{asked['name']}"
        said = {"url": f"{self.url}/{repository}"}
        if repository in self.files:
            return 409, said | {"error": "it is there"}
        self.files[repository], self.private[repository] = {}, asked.get("visibility") == "private"
        return 200, said

    def _of_repository(self, repository: str, what: str, body: bytes) -> tuple[int, Any]:
        files = self.files[repository]
        match what:
            case "revision":
                return 200, {"id": repository, "sha": "1"}
            case "tree":
                return 200, [{"type": "file", "path": path, "size": len(files[path]), "oid": ""} for path in files]
            case "preupload":
                return 200, {"files": [_mode(file["path"], files) for file in json.loads(body)["files"]]}
            case "commit" if not self.full:
                self._commit(files, body)
                return 200, {"commitUrl": f"{self.url}/{repository}/commit/1", "commitOid": "1"}
        return 403, {"error": "no room is left"}

    def _commit(self, files: dict[str, bytes], body: bytes) -> None:
        for line in body.splitlines():
            match json.loads(line):
                case {"key": "file", "value": {"path": path, "content": content}}:
                    files[path] = base64.b64decode(content)
                    self.uploaded.append(path)
                case {"key": "lfsFile", "value": {"path": path, "oid": sha256}}:
                    files[path] = self._objects[sha256]
                    self.uploaded.append(path)
                case {"key": "deletedFile", "value": {"path": path}}:
                    del files[path]


def _mode(path: str, files: dict[str, bytes]) -> dict[str, Any]:
    """How a file is to be sent, and what of that name is there."""
    large, data = path.endswith(_LARGE), files.get(path)
    told: dict[str, Any] = {"path": path, "uploadMode": "lfs" if large else "regular", "shouldIgnore": False}
    if data is not None:
        blob = hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False)
        told["oid"] = hashlib.sha256(data).hexdigest() if large else blob.hexdigest()
    return told


def _upload(url: str, asked: dict[str, Any]) -> dict[str, Any]:
    href = f"{url}/objects/{asked['oid']}"
    return {"oid": asked["oid"], "size": asked["size"], "actions": {"upload": {"href": href}}}


@contextmanager
def hub_here() -> Iterator[Hub]:
    """A hub that the library of this process talks to, which read its environment when it was imported."""
    hub, constants = Hub(), "huggingface_hub.constants"
    with hub.serving() as environment, pytest.MonkeyPatch.context() as patch:
        patch.setattr(f"{constants}.ENDPOINT", hub.url)
        patch.setattr(f"{constants}.HF_HUB_OFFLINE", False)
        patch.setattr(f"{constants}.HF_HUB_DISABLE_XET", True)
        patch.setattr(f"{constants}.HF_TOKEN_PATH", "/nowhere")
        patch.setenv("HF_TOKEN", environment["HF_TOKEN"])
        yield hub
