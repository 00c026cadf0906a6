"""Whether the cluster lets in who has no token, and whether the token is its owner's alone."""

import os
import stat
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from cluster.doctor.check import Check
from cluster.doctor.finding import Finding
from cluster.doctor.node import Node
from cluster.doctor.patient import Patient, not_seen

__all__ = ["CHECK", "TokenFile", "examine", "judge_door", "judge_file", "look_at_file", "try_door"]

_NAME = "authentication"
_WITHIN_S = 5.0
_REFUSED = {"401", "403", "UNAUTHENTICATED", "PERMISSION_DENIED"}
_LET_IN = {"200", "OK"}
_ALL_NODES = "/ray.rpc.NodeInfoGcsService/GetAllNodeInfo"
_FIX = (
    "whoever reaches it runs code here: set RAY_AUTH_MODE=token in the environment of every node and driver, make a "
    "token (`ray get-auth-token --generate`), give every node the same, and start the cluster anew"
)
_FOREIGN = "Bearer not-the-token-of-this-cluster"


@dataclass(frozen=True)
class TokenFile:
    """Where a process looks for its token, and the file's mode; None where there is none."""

    path: str
    mode: int | None


def try_door(dashboard: str, gcs_address: str) -> dict[str, str]:
    """What is answered to requests without a token and with a wrong one: a status or an error, by who was asked how."""
    doors = {}
    for told, token in (("without a token", None), ("with a wrong token", _FOREIGN)):
        if dashboard:
            doors[f"the Jobs API {told}"] = _ask_jobs_api(f"http://{dashboard}/api/jobs/", token)
        doors[f"the control service {told}"] = _ask_control_service(gcs_address, token)
    return doors


def _ask_jobs_api(url: str, token: str | None) -> str:
    request = urllib.request.Request(url, headers={"Authorization": token} if token else {})
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # a proxy's refusal is not the cluster's
    try:
        with direct.open(request, timeout=_WITHIN_S) as answer:
            return str(answer.status)
    except urllib.error.HTTPError as error:
        return str(error.code)
    except OSError as error:
        return str(error)


def _ask_control_service(address: str, token: str | None) -> str:
    """Ray's own client would bring the token along: this is a bare call with an empty message."""
    import grpc

    with grpc.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)]) as channel:
        call = channel.unary_unary(_ALL_NODES)  # bytes in, bytes out
        try:
            call(b"", timeout=_WITHIN_S, metadata=[("authorization", token)] if token else [])
        except grpc.RpcError as error:
            return str(error.code().name)
    return "OK"


def look_at_file() -> TokenFile:
    """The token's file as Ray looks for it in this process."""
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
    if os.environ.get("RAY_AUTH_TOKEN"):
        return TokenFile("RAY_AUTH_TOKEN", None)  # it goes before the file
    try:
        return TokenFile(str(path), stat.S_IMODE(path.stat().st_mode))
    except OSError:
        return TokenFile(str(path), None)


def examine(patient: Patient) -> list[Finding]:
    """Tries the doors from the node of the head, to which all are open; see `judge_door` and `judge_file`."""
    findings: list[Finding] = []
    asked = patient.head or next(iter(patient.nodes), None)
    if asked is not None:
        call = (try_door, patient.dashboard, patient.gcs_address)
        (answer,) = patient.hands.ask({asked: call}, within_s=5 * _WITHIN_S).values()
        findings += [not_seen(_NAME, asked, answer)] if answer.trouble else judge_door(asked.name, answer.value)
    seen, troubled = patient.look(_NAME, look_at_file)
    return findings + troubled + list(judge_file(look_at_file(), seen))


def judge_door(where: str, doors: Mapping[str, str]) -> Iterable[Finding]:
    """An error for each that lets in who has no token or a wrong one."""
    for door, answer in doors.items():
        if answer in _LET_IN:
            yield Finding(_NAME, "error", where, f"a request to {door} is answered ({answer})", _FIX)
        elif answer not in _REFUSED:
            seen = f"a request to {door} is neither answered nor refused ({answer})"
            yield Finding(_NAME, "unknown", where, seen, "ask for it by hand: it must be refused (401, 403)")
    refused = [f"{door} ({answer})" for door, answer in doors.items() if answer in _REFUSED]
    if len(refused) == len(doors):
        yield Finding(_NAME, "ok", where, f"refused: {', '.join(refused)}")


def judge_file(driver: TokenFile, seen: Mapping[Node, TokenFile]) -> Iterable[Finding]:
    """An error for each token file that others may read or write."""
    for where, file in [("driver", driver), *((node.name, file) for node, file in seen.items())]:
        if file.mode is not None and file.mode & 0o077:
            told = f"the token's file {file.path} has mode {file.mode:04o}: others than its owner read it"
            yield Finding(
                _NAME, "error", where, told, f"chmod 600 {file.path}, and make a new token if others were here"
            )


CHECK = Check(
    _NAME,
    "The Jobs API and the control service refuse a request without a token and with a wrong one (error), and a token's "
    "file is its owner's alone (error)",
    examine,
)
