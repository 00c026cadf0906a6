"""What failures are known by: names and words of errors, and what is to be done about them. Needs no library's classes.

An error that comes from a worker, or is read from a record, is a name and a message; what made it is gone.
"""

from typing import NamedTuple

__all__ = ["CUT_OFF", "CUT_OFF_WORDS", "HUNG", "LOST", "MEMORY_WORDS", "follows_from_another", "what_to_do"]

LOST = ("ActorDiedError", "ActorUnavailableError", "NodeDiedError", "WorkerCrashedError", "RayActorError")
"""A process is gone."""
HUNG = ("WorkerHealthCheckTimeoutError", "HungRankError")
CUT_OFF = ("DistBackendError", "DistNetworkError", "DistStoreError")
CUT_OFF_WORDS = ("gloo", "connection reset by peer", "connection closed by peer", "nccl")
"""What a rank says in a collective whose other side is gone."""
MEMORY_WORDS = ("out of memory", "can't allocate memory", "cannot allocate memory", "not enough memory")

_OTHERS_FAULT = ("another rank is gone", "broken pipe", *CUT_OFF_WORDS, *map(str.lower, CUT_OFF))


class _Sign(NamedTuple):
    """What some failures are known by, in small letters, and what to do about them."""

    words: tuple[str, ...]
    advice: str


_GOES_ON = "the same command goes on from the newest checkpoint"
_SIGNS = (
    _Sign(
        ("cuda out of memory", "outofmemoryerror: cuda", "hip out of memory"),
        "the GPU's memory is full: lower train.micro_batch_size, raise train.zero_stage, or turn on "
        "train.activation_checkpointing; `python -m jobs plan CONFIG --device …` says what fits",
    ),
    _Sign(
        ("outofmemoryerror", "memoryerror", "oom killer", "low on memory", *MEMORY_WORDS),
        "the node's memory is full: give each worker a larger node or fewer neighbours (workers.cpus_per_worker), or "
        f"lower train.micro_batch_size; {_GOES_ON}",
    ),
    _Sign(
        ("no space left", "disk quota exceeded", "enospc"),
        f"make room on the disk that is named, or give another `storage`; {_GOES_ON}",
    ),
    _Sign(
        ("nonfiniteerror", "divergederror", "is not finite", "loss scale"),
        "lower train.optimizer.learning_rate or lengthen its warm-up, or have train.spikes roll back; with fp16, use "
        "bf16",
    ),
    _Sign(
        ("hungrankerror", "no step has ended", "does not answer"),
        "the stack shows where it stands; where that is slow but right, raise workers.hang_s; where it is a "
        f"collective, look at the network between the nodes (`python -m cluster doctor`); {_GOES_ON}",
    ),
    _Sign(
        ("authenticationerror", "asks for its token", "unauthenticated", "unauthorized"),
        "the cluster's token was not given, or is another's: `python -m cluster doctor` says which",
    ),
    _Sign(
        ("accessdenied", "access denied", "forbidden", "permission denied", "nocredentialserror"),
        "the nodes' own credentials (instance role, workload identity, Kubernetes secret) must read, write and list "
        "the storage: `python -m cluster doctor` tries it from each node",
    ),
    _Sign(
        ("modulenotfounderror", "importerror"),
        "the nodes' packages are not the driver's: build the image from the same constraints.txt, or have `submit` "
        "pin the environment",
    ),
    _Sign(
        ("budgetspenterror",),
        "raise the budget, and the same command goes on",
    ),
    _Sign(
        ("nodediederror", "node was terminated", "preempt"),
        f"the node was lost, or taken away: {_GOES_ON}; on spot nodes, an elastic group "
        "(workers.elastic: [min, max]) goes on with those that are left",
    ),
    _Sign(
        (*map(str.lower, LOST), "actor died", "worker crashed", "sigkill", "was ended by"),
        "the process was killed from outside, most often for its memory (look at the node's `dmesg` and at Ray's own "
        f"logs), or its node was lost; {_GOES_ON}",
    ),
    _Sign(
        ("storageerror", "cannot be read:", "cannot be written:", "slowdown", "service unavailable"),
        f"look whether the storage answers (`python -m cluster doctor`); {_GOES_ON}",
    ),
    _Sign(
        ("timed out", *_OTHERS_FAULT),
        f"a connection between workers was cut, and no rank says why: look at the network and at the nodes; {_GOES_ON}",
    ),
)


def follows_from_another(told: str) -> bool:
    """Whether an error (`Name: message`) says no more than that another rank was gone."""
    small = told.lower()
    return any(words in small for words in _OTHERS_FAULT)


def what_to_do(told: str) -> str | None:
    """What to do about an error (`Name: message`, or more of it); None where nothing is known of it."""
    small = told.lower()
    return next((sign.advice for sign in _SIGNS if any(words in small for words in sign.words)), None)
