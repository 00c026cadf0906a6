"""Whether generated code can be run on this machine: found out by trying what must not work."""

from llmcore.errors import SandboxError
from llmcore.evaluation.sandbox.fixes import fix_for
from llmcore.evaluation.sandbox.limits import Limits
from llmcore.evaluation.sandbox.program import Program, Status
from llmcore.evaluation.sandbox.runner import run_programs

__all__ = ["check_sandbox"]

_MEANS = """
import ctypes, os, resource, socket, threading, time

def refused(attempt, *arguments):
    try:
        attempt(*arguments)
    except (OSError, RuntimeError):
        return True
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

def open_many():
    files = [os.dup(0) for _ in range(4096)]
"""

# What has to be in force, and a test that passes where it is.
_PASSES: dict[str, str] = {
    "a user without privileges": 'assert os.getuid() and refused(kernel, "mount", b"x", b"/sandbox", b"tmpfs", 0, None)',
    "a filter of system calls against new namespaces": 'assert refused(kernel, "unshare", 0x10000000)',
    "a filter of system calls against new processes": "assert refused(os.fork)",
    "a filter of system calls against new programs": 'assert refused(os.execv, "/lib/x", ["x"])',
    "a filter of system calls against looking into processes": 'assert refused(kernel, "ptrace", 0, 0, 0, 0)',
    "no network": "assert refused(socket.socket) and refused(socket.socket, socket.AF_UNIX) and refused(socket.socketpair)",
    "processes of its own": "assert os.getppid() == 1 and os.getpid() < 100 and not os.path.exists('/proc/1')",
    "files of its own": "assert set(os.listdir('/')).isdisjoint(['etc', 'proc', 'run', 'sys', 'tmp', 'var'])",
    "files of others read-only": "assert refused(fill, '/', 1) and refused(fill, '/dev', 1) and refused(fill, '/lib', 1)",
    "a bound on what it writes": "assert refused(fill, '/sandbox', 2**20)",
    "a bound on the number of threads": "assert refused(start_threads)",
    "a bound on the number of open files": "assert refused(open_many)",
    "no core files": "assert resource.getrlimit(resource.RLIMIT_CORE) == (0, 0)",
    "an empty environment": "assert not os.environ and not os.read(0, 1)",
}
# What has to be ended from outside, and how that is told.
_ENDED: dict[str, tuple[str, Status]] = {
    "a bound on processor time": ("while True: pass", "timed_out"),
    "a bound on time by the clock": ("import time; time.sleep(600)", "timed_out"),
    "a bound on memory": ("bytearray(2**31)", "out_of_memory"),
    "a bound on output": ("while True: print('x' * 2**16)", "too_much_output"),
}
_SMALL = Limits(cpu_s=1, wall_s=5.0, memory_bytes=512 * 2**20, scratch_bytes=8 * 2**20)


def check_sandbox() -> None:
    """SandboxError, with the fix, unless all that confines a program is in force here. Takes some seconds; do it first.

    Each sandbox looks again at its namespaces when it starts, and a program at whose confinement any step fails is not
    run. This says so before a model is loaded, and finds what a kernel grants and does not do.
    """
    passes = [Program(_MEANS, [test]) for test in _PASSES.values()]
    ended = [Program(code, ["assert True"]) for code, _ in _ENDED.values()]
    wanted: list[Status] = ["passed" for _ in passes] + [status for _, status in _ENDED.values()]
    missing = [
        f"{name} ({outcome.stderr.strip().splitlines()[-1] if outcome.stderr.strip() else outcome.status})"
        for name, status, outcome in zip(
            [*_PASSES, *_ENDED], wanted, run_programs([*passes, *ended], _SMALL, num_parallel=2), strict=True
        )
        if outcome.status != status
    ]
    if missing:
        raise SandboxError(f"generated code is not run: not in force here: {'; '.join(missing)}. {fix_for('')}")
