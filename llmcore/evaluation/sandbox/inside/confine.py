"""What a process gives up before it runs a program. Each step raises where the kernel refuses it."""

import os
import resource

from llmcore.evaluation.sandbox.inside.libc import (
    MS_NODEV,
    MS_NOEXEC,
    MS_NOSUID,
    call,
    drop_capabilities,
    load_filter,
    mount,
)
from llmcore.evaluation.sandbox.inside.namespaces import CLONE_NEWNS, INSIDE_ID
from llmcore.evaluation.sandbox.inside.view import SCRATCH
from llmcore.evaluation.sandbox.limits import Limits

__all__ = ["confine"]

# With the same user inside and out, the launcher and the keeper count among its processes.
_OWN_PROCESSES = 2


def confine(limits: Limits, seccomp_filter: bytes) -> None:
    """Keep a scratch folder of its own and no privilege, make only calls that the filter allows, and take `limits`."""
    os.setsid()
    call("unshare", CLONE_NEWNS)
    size = f"size={limits.scratch_bytes},nr_inodes={limits.num_files + 1},mode=700,uid={INSIDE_ID},gid={INSIDE_ID}"
    mount("scratch", SCRATCH, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, size)
    os.chdir(SCRATCH)
    if os.getuid() == 0:
        os.setgroups([])
        os.setresgid(INSIDE_ID, INSIDE_ID, INSIDE_ID)
        os.setresuid(INSIDE_ID, INSIDE_ID, INSIDE_ID)
    drop_capabilities()
    _limit(limits)
    load_filter(seccomp_filter)


def _limit(limits: Limits) -> None:
    wanted = {
        resource.RLIMIT_AS: limits.memory_bytes,
        resource.RLIMIT_NPROC: limits.num_threads + _OWN_PROCESSES,
        resource.RLIMIT_NOFILE: limits.num_open_files,
        resource.RLIMIT_FSIZE: limits.scratch_bytes,
        resource.RLIMIT_STACK: 8 * 2**20,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_MEMLOCK: 0,
        resource.RLIMIT_MSGQUEUE: 0,
    }
    for kind, value in wanted.items():
        _set(kind, value, value)
    # At the first a signal, which a program may ignore; at the second its end.
    _set(resource.RLIMIT_CPU, limits.cpu_s, limits.cpu_s + 1)


def _set(kind: int, soft: int, hard: int) -> None:
    """No more than the machine allows already."""
    allowed = resource.getrlimit(kind)[1]
    if allowed != resource.RLIM_INFINITY:
        soft, hard = min(soft, allowed), min(hard, allowed)
    resource.setrlimit(kind, (soft, hard))
