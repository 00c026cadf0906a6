"""Process 1 of the sandbox: it starts programs, one after the other, and answers with what came of each."""

import gc
import importlib
import os
import resource
import signal
from dataclasses import asdict
from errno import EPERM

from llmcore.evaluation.sandbox.inside.frames import read_frame, write_frame
from llmcore.evaluation.sandbox.inside.watch import Watch
from llmcore.evaluation.sandbox.limits import Limits

__all__ = ["keep"]

# What generated code imports most: loaded once, so that each program finds it there.
_WARM = (
    "bisect cmath collections copy datetime decimal fractions functools heapq itertools math operator random re "
    "statistics string typing"
)
_MOST_DESCRIPTORS = 128


def keep(requests: int, answers: int, limits: Limits, seccomp_filter: bytes) -> None:
    """Answer each request until there are no more."""
    if os.getpid() != 1:
        raise OSError(EPERM, "unshare: still in the host's process ids")
    # From inside, process 1 gets only the signals that it handles: so none.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    # So few that a child has them closed at once.
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (_MOST_DESCRIPTORS, most))
    for name in _WARM.split():
        importlib.import_module(name)
    # Programs share these objects' memory with this process as long as no collection touches them.
    gc.freeze()
    write_frame(answers, {"ready": True})
    while (request := read_frame(requests)) is not None:
        write_frame(answers, asdict(Watch(limits, requests).over(request, seccomp_filter)))
