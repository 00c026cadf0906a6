"""Whether generated code can be run on this machine: found out by trying what must not work."""

import struct
from collections.abc import Iterator
from contextlib import closing

from llmcore.errors import SandboxError
from llmcore.evaluation.sandbox.fixes import fix_for
from llmcore.evaluation.sandbox.lane import Lane
from llmcore.evaluation.sandbox.limits import Limits
from llmcore.evaluation.sandbox.program import Program, Status
from llmcore.evaluation.sandbox.seccomp import compile_filter

__all__ = ["check_sandbox"]

_MEANS = """
import ctypes, os, resource, socket, threading, time

def refused(attempt, *arguments):
    try:
        attempt(*arguments)
    except (OSError, RuntimeError):
        return True
    return False

def filtered(attempt, *arguments):
    try:
        attempt(*arguments)
    except OSError as error:
        return error.errno == 1
    return False

def kernel(name, *arguments):
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*arguments) < 0:
        raise OSError(ctypes.get_errno(), name)

def fill(folder, size):
    for number in range(64):
        with open(f"{folder}/{number}", "wb") as file:
            file.write(bytes(size))

def start_threads():
    for _ in range(4096):
        threading.Thread(target=time.sleep, args=(5,), daemon=True).start()

def fork_many():
    for _ in range(4096):
        if os.fork() == 0:
            time.sleep(5)

def connect():
    socket.create_connection(("127.0.0.1", 9))

def open_many():
    files = [os.dup(0) for _ in range(4096)]
"""

# What the filter has to refuse, and a test that passes where it does.
_BY_FILTER: dict[str, str] = {
    "a filter of system calls against new processes": "assert filtered(os.fork)",
    "a filter of system calls against new programs": "assert filtered(os.execv, '/lib/x', ['x'])",
    "a filter of system calls against signals": "assert filtered(os.kill, os.getpid(), 0)",
    "a filter of system calls against looking into processes": "assert filtered(kernel, 'ptrace', 0, 0, 0, 0)",
    "a filter of system calls against new namespaces": "assert filtered(kernel, 'unshare', 0x10000000)",
    "a filter of system calls against sockets": "assert filtered(socket.socket) and filtered(socket.socketpair)",
}
# What has to hold without the filter. Only these programs ever run without it.
_BY_KERNEL: dict[str, str] = {
    "a user without privileges": "assert os.getuid() and refused(kernel, 'mount', b'x', b'/sandbox', b'tmpfs', 0, 0)",
    "no network": "assert [name for _, name in socket.if_nameindex()] == ['lo'] and refused(connect)",
    "processes of its own": "assert os.getppid() == 1 and os.getpid() < 100 and not os.path.exists('/proc/1')",
    "files of its own": "assert set(os.listdir('/')).isdisjoint(['etc', 'proc', 'run', 'sys', 'tmp', 'var'])",
    "files of others read-only": "assert all(refused(fill, folder, 1) for folder in ('/', '/dev', '/lib'))",
    "a bound on what it writes": "assert refused(fill, '/sandbox', 2**20)",
    "a bound on the number of processes": "assert refused(fork_many)",
    "a bound on the number of threads": "assert refused(start_threads)",
    "a bound on the number of open files": "assert refused(open_many)",
    "no core files": "assert resource.getrlimit(resource.RLIMIT_CORE) == (0, 0)",
    "an empty environment": "assert not os.environ and not os.read(0, 1)",
}
# What has to be ended from outside, and how that is told.
_ENDED: dict[str, tuple[str, Status]] = {
    "a bound on processor time": ("while True: pass", "timed_out"),
    "a bound on time by the clock": ("time.sleep(600)", "timed_out"),
    "a bound on memory": ("bytearray(2**31)", "out_of_memory"),
    "a bound on output": ("while True: print('x' * 2**16)", "too_much_output"),
}
_LIMITS = Limits(cpu_s=1, wall_s=4.0, memory_bytes=512 * 2**20, scratch_bytes=8 * 2**20)
# Classic BPF of one instruction: return SECCOMP_RET_ALLOW.
_ALLOW_ALL = struct.pack("HBBI", 6, 0, 0, 0x7FFF0000)


def check_sandbox() -> None:
    """SandboxError, with the fix, unless all that confines a program is in force here. Takes some seconds; do it first.

    Each sandbox looks again at its namespaces when it starts, and a program at whose confinement any step fails is not
    run. This says so before a model is loaded, and finds what a kernel grants and does not do.
    """
    missing = [
        *_missing(compile_filter(), {name: (test, "passed") for name, test in _BY_FILTER.items()}),
        *_missing(_ALLOW_ALL, {name: (test, "passed") for name, test in _BY_KERNEL.items()} | _ENDED),
    ]
    if missing:
        raise SandboxError(f"generated code is not run: not in force here: {'; '.join(missing)}. {fix_for('')}")


def _missing(seccomp_filter: bytes, wanted: dict[str, tuple[str, Status]]) -> Iterator[str]:
    """Of the names of what is wanted, those whose test does not end as it has to, with why."""
    with closing(Lane(_LIMITS, seccomp_filter)) as lane:
        for name, (test, status) in wanted.items():
            outcome = lane.run(Program(_MEANS, [test]))
            if outcome.status != status:
                yield f"{name} ({outcome.status}: {outcome.stderr.strip().rpartition(chr(10))[-1]})"
