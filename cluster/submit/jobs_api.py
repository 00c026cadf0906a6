"""Ray's Jobs API over HTTP: what is asked of it here, with the cluster's token, and within a time.

Ray's own client (2.60) is not used: the environment overrides the address it is given, it waits for ever for a server
that is silent, its log has to be read from the beginning after each loss of the connection, and it imports all of Ray.
The requests are the same; packages are named by the same hash, so that what one has sent the other need not.
"""

import asyncio
import hashlib
import json
import socket
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import quote

import aiohttp
import requests

from cluster.endpoint import Endpoint
from llmcore.errors import ClusterAwayError, ConfigError, RunError

__all__ = ["Job", "JobsApi", "Status", "package_uri"]

Status = Literal["PENDING", "RUNNING", "STOPPED", "SUCCEEDED", "FAILED"]

_CONNECT_S, _ANSWER_S = 5.0, 60.0
_SILENT_S = 120.0
"""Seconds without a line after which the log is asked for anew: a connection may have died without a word."""
_KEEP_ALIVE = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3}
"""Ray's dashboard answers no pings of a WebSocket, so that a dead path is found by TCP itself, within 25 s."""


@dataclass(frozen=True)
class Job:
    """A submitted job as the cluster knows it; times are Unix seconds."""

    id: str
    status: Status
    entrypoint: str = ""
    message: str = ""
    error_type: str | None = None
    started: float | None = None
    ended: float | None = None
    exit_code: int | None = None
    """That of its driver, as Python has it: negative where a signal killed it; None where it did not end by itself."""
    node: str | None = None
    """Id of the node that its driver runs on, once it has one."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    runtime_env: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_over(self) -> bool:
        """Whether it has ended, however."""
        return self.status in ("STOPPED", "SUCCEEDED", "FAILED")

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> "Job":
        """From the Jobs API's JSON."""
        return cls(
            id=told["submission_id"],
            status=told["status"],
            entrypoint=told.get("entrypoint") or "",
            message=told.get("message") or "",
            error_type=told.get("error_type"),
            started=_seconds(told.get("start_time")),
            ended=_seconds(told.get("end_time")),
            exit_code=told.get("driver_exit_code"),
            node=told.get("driver_node_id"),
            metadata=told.get("metadata") or {},
            runtime_env=told.get("runtime_env") or {},
        )


def _seconds(milliseconds: float | None) -> float | None:
    return milliseconds / 1000 if milliseconds else None


def package_uri(data: bytes) -> str:
    """The name of a package in Ray's own store (`gcs://`), by its content."""
    return f"gcs://_ray_pkg_{hashlib.sha1(data, usedforsecurity=False).hexdigest()}.zip"


class JobsApi:
    """One cluster's Jobs API.

    Every method raises ClusterAwayError where nobody answers or the server fails, ConfigError where the token is
    missing or wrong, and RunError for what the server refuses.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        """Nothing is asked yet."""
        self.endpoint = endpoint
        self._headers = {} if endpoint.token is None else {"Authorization": f"Bearer {endpoint.token}"}

    def ray_version(self) -> str:
        """The version of Ray that the cluster runs."""
        return str(self._ask("GET", "/api/version").json()["ray_version"])

    def jobs(self) -> list[Job]:
        """All that were submitted, in the order in which they were."""
        found = [Job.of(one) for one in self._ask("GET", "/api/jobs/").json() if one.get("submission_id")]
        return sorted(found, key=lambda job: job.started or 0.0)

    def job(self, job_id: str) -> Job | None:
        """A job by its submission id; None where the cluster knows of none."""
        answer = self._ask("GET", f"/api/jobs/{quote(job_id)}", absent=True)
        return None if answer is None else Job.of(answer.json())

    def log(self, job_id: str) -> str:
        """What the job's driver has printed so far."""
        return str(self._ask("GET", f"/api/jobs/{quote(job_id)}/logs").json()["logs"])

    def stop(self, job_id: str) -> bool:
        """Ask a job to stop; whether it was running. Returns at once: the job takes its time."""
        return bool(self._ask("POST", f"/api/jobs/{quote(job_id)}/stop").json()["stopped"])

    def submit(self, request: Mapping[str, Any]) -> bool:
        """Send a job; False where there is one of its `submission_id` already, which then stands."""
        answer = self._ask("POST", "/api/jobs/", json_data=request, refused=True)
        if answer.ok:
            return True
        if "already exists" in answer.text:
            return False
        if "ValueError" in answer.text:
            raise ConfigError(f"the cluster refused the job: {_last_line(answer.text)}")
        raise RunError(f"the cluster did not take the job: {_last_line(answer.text)}")

    def has_package(self, uri: str) -> bool:
        """Whether the cluster has a package; if so it keeps it for the next ten minutes, so that a job may use it."""
        return self._ask("GET", _package_path(uri), absent=True) is not None

    def send_package(self, uri: str, data: bytes) -> None:
        """Put a package into the cluster's store."""
        self._ask("PUT", _package_path(uri), data=data)

    def tail(self, job_id: str) -> Iterator[str]:
        """The job's log from its beginning, in pieces as they come; ends with the job, or with the connection.

        An end says nothing of the job: ask for it. While the job waits for its start there is nothing to come.
        """
        with asyncio.Runner() as runner:
            session = runner.run(self._session())
            try:
                socket_ = runner.run(self._open(session, job_id))
                while (text := runner.run(_next_text(socket_))) is not None:
                    yield text
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                raise self._away(error) from error
            finally:
                with suppress(Exception):
                    runner.run(session.close())

    async def _session(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(headers=self._headers, timeout=aiohttp.ClientTimeout(sock_connect=_CONNECT_S))

    async def _open(self, session: aiohttp.ClientSession, job_id: str) -> aiohttp.ClientWebSocketResponse:
        url = f"{self.endpoint.jobs_url}/api/jobs/{quote(job_id)}/logs/tail"
        opened = await session.ws_connect(url, max_msg_size=0)
        connection = opened.get_extra_info("socket")
        if connection is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for name, value in _KEEP_ALIVE.items():
                if hasattr(socket, name):  # Linux's names; elsewhere the system's own times hold
                    connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        return opened

    def _ask(
        self,
        method: str,
        path: str,
        *,
        json_data: Mapping[str, Any] | None = None,
        data: bytes | None = None,
        absent: bool = False,
        refused: bool = False,
    ) -> Any:
        """A request's answer; with `absent` None stands for a 404, with `refused` an error is the caller's."""
        try:
            answer = requests.request(
                method,
                f"{self.endpoint.jobs_url}{path}",
                json=json_data,
                data=data,
                headers=self._headers,
                timeout=(_CONNECT_S, _ANSWER_S),
                allow_redirects=False,  # the token is for this server alone
            )
        except requests.exceptions.RequestException as error:
            raise self._away(error) from error
        if answer.status_code in (401, 403):
            raise ConfigError(self._why_refused(answer.status_code))
        if answer.status_code >= 500 and not refused:  # also of a dashboard whose head node is just coming back
            raise self._away(f"HTTP {answer.status_code}, {_last_line(answer.text)}")
        if answer.status_code == 404 and absent:
            return None
        if not answer.ok and not refused:
            raise RunError(
                f"{method} {path} at {self.endpoint.name}: HTTP {answer.status_code}, {_last_line(answer.text)}"
            )
        return answer

    def _why_refused(self, status: int) -> str:
        if status == 401 and self.endpoint.token is None:
            given = "asks for its token, and there is none here"
        else:
            given = "refuses the token that it is given"
        return (
            f"cluster {self.endpoint.name}: {self.endpoint.jobs_url} {given}; put the cluster's own into a file of "
            "mode 0600 and name it by RAY_AUTH_TOKEN_PATH"
        )

    def _away(self, reason: object) -> ClusterAwayError:
        return ClusterAwayError(
            f"cluster {self.endpoint.name}: no good answer from {self.endpoint.jobs_url} ({_told(reason)}); is it up, "
            "and is this the address of its dashboard?"
        )


async def _next_text(connection: aiohttp.ClientWebSocketResponse) -> str | None:
    """The next piece of a log; None where the server has said all it will, or too long nothing."""
    try:
        message = await asyncio.wait_for(connection.receive(), _SILENT_S)
    except TimeoutError:
        return None
    if message.type is aiohttp.WSMsgType.TEXT:
        return str(message.data)
    if message.type is aiohttp.WSMsgType.ERROR:
        raise OSError(str(connection.exception()))
    return None


def _package_path(uri: str) -> str:
    protocol, _, name = uri.partition("://")
    return f"/api/packages/{protocol}/{name}"


def _last_line(text: str) -> str:
    """Of a traceback that the server sends, what was raised."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    with suppress(ValueError, KeyError, TypeError):  # some answers are JSON, with the traceback in `msg`
        lines = [line.strip() for line in json.loads(text)["msg"].splitlines() if line.strip()]
    return lines[-1] if lines else "no reason given"


def _told(reason: object) -> str:
    """The innermost reason of a failed request: what requests wraps around it says less."""
    cause = reason
    while isinstance(cause, BaseException):
        inner = cause.__cause__ or cause.__context__
        if inner is None:
            break
        cause = inner
    return " ".join(str(cause).split()) or type(cause).__name__
