"""Whether every node can use the storage, and whether it is one storage for all of them."""

from collections.abc import Iterable, Mapping, Sequence
from uuid import uuid4

from cluster.doctor.check import Check
from cluster.doctor.finding import EVERYWHERE, Finding
from cluster.doctor.node import Node
from cluster.doctor.patient import Patient
from llmcore.errors import StorageError
from llmcore.storage import Folder
from llmcore.storage.tried import Tried, try_out

__all__ = ["CHECK", "clear", "examine", "judge", "judge_marks", "marks", "try_storage"]

_NAME = "storage"
_WITHIN_S = 40.0
_FIXES = {
    "write": "mount it writable there, or let the node's role write (s3:PutObject); the credentials are those that the "
    "node has, not the driver's",
    "read": "let the node's role read (s3:GetObject)",
    "list": "let the node's role list (s3:ListBucket)",
    "delete": "let the node's role delete (s3:DeleteObject), and take off object locks",
}
_CREATE_FIX = (
    "two starts of a run are then told apart by their heartbeats alone: start a run from one place, or use a storage "
    "that enforces conditional writes (Amazon S3, Ceph 19 and later, a shared disk)"
)
_SHARED_FIX = "name a storage that all nodes share: an object store's URL, or a folder on a network file system"


def try_storage(url: str, name: str, node_id: str) -> list[Tried]:
    """Try out a folder of the storage, and leave this node's mark there where it can be written."""
    folder = Folder(url) / name
    tried = try_out(folder)
    if not any(one.trouble for one in tried if one.operation == "write"):
        folder.write_bytes(node_id, b"")
    return tried


def marks(url: str, name: str) -> list[str]:
    """The nodes whose marks are seen from here."""
    return (Folder(url) / name).names()


def clear(url: str, name: str) -> None:
    """Delete the folder with the marks, as far as this node may."""
    try:
        (Folder(url) / name).delete()
    except StorageError:
        return  # it may not: that has been told


def examine(patient: Patient) -> list[Finding]:
    """Has each node use the storage, then look for the marks of all others, then tidy up; see the judges."""
    url = patient.asked.storage
    if url is None:
        told = "no storage was named"
        return [Finding(_NAME, "unknown", EVERYWHERE, told, "name the one your jobs use: --storage s3://bucket/runs")]
    name = f".doctor-{uuid4().hex}"
    calls = {node: (try_storage, url, name, node.id) for node in patient.nodes}
    answers = patient.hands.ask(calls, within_s=_WITHIN_S)
    found = [
        Finding(_NAME, "error", node.name, f"{url} cannot be tried: {answer.trouble}", _FIXES["write"])
        for node, answer in answers.items()
        if answer.trouble
    ]
    tried = {node: answer.value for node, answer in answers.items() if not answer.trouble}
    wrote = [node for node, operations in tried.items() if not _trouble(operations, "write")]
    seen = patient.hands.ask(dict.fromkeys(wrote, (marks, url, name)), within_s=_WITHIN_S / 2)
    # Each may have a folder of its own under this path.
    patient.hands.ask(dict.fromkeys(wrote, (clear, url, name)), within_s=_WITHIN_S / 2)
    found += [finding for node, operations in tried.items() for finding in judge(node, url, operations)]
    return found + list(judge_marks(url, wrote, {node: answer.value or [] for node, answer in seen.items()}))


def _trouble(operations: Sequence[Tried], operation: str) -> str:
    return next(one.trouble for one in operations if one.operation == operation)


def judge(node: Node, url: str, operations: Sequence[Tried]) -> Iterable[Finding]:
    """What the storage did for one node. Where nothing can be written, that is all that is told."""
    if trouble := _trouble(operations, "write"):
        yield Finding(_NAME, "error", node.name, f"write: {trouble}", _FIXES["write"])
        return
    for one in operations:
        if one.trouble and one.operation == "create":
            yield Finding(_NAME, "warning", node.name, f"conditional write: {one.trouble}", _CREATE_FIX)
        elif one.trouble:
            yield Finding(_NAME, "error", node.name, f"{one.operation}: {one.trouble}", _FIXES[one.operation])
    if not any(one.trouble for one in operations):
        slowest = max(operations, key=lambda one: one.seconds)
        did = ", ".join(one.operation for one in operations)
        yield Finding(_NAME, "ok", node.name, f"{did}; the slowest, {slowest.operation}, took {slowest.seconds:.2f} s")


def judge_marks(url: str, wrote: Sequence[Node], seen: Mapping[Node, Sequence[str]]) -> Iterable[Finding]:
    """An error where a node does not see what another has written."""
    for node, found in seen.items():
        missing = [other.name for other in wrote if other.id not in found]
        if missing:
            told = f"{url} is not the others': what {', '.join(missing[:5])} wrote there is not seen"
            yield Finding(_NAME, "error", node.name, told, _SHARED_FIX)


CHECK = Check(
    _NAME,
    "Every node writes, reads, lists and deletes, and sees what the others have written (error); a second exclusive "
    "creation is refused (warning)",
    examine,
)
