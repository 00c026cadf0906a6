"""Which calls of the kernel a program may make, as a filter that the kernel runs. Compiled by libseccomp."""

import ctypes
import ctypes.util
import os
import platform
from errno import ENOSYS, EPERM
from tempfile import TemporaryFile

from llmcore.errors import SandboxError

__all__ = ["compile_filter"]

# All that is not named is refused with EPERM: sockets, second processes, execve, kill, ptrace, mount, setns, bpf,
# keyctl, perf_event_open, io_uring, kexec, modules, memfd_create and System V objects (memory that no limit counts),
# and whatever kernels learn next.
_ALLOWED = {
    "memory": "brk mmap munmap mprotect mremap madvise membarrier",
    "descriptors": "read write readv writev pread64 pwrite64 preadv pwritev lseek close close_range dup dup2 dup3 "
    "fcntl pipe pipe2 poll ppoll select pselect6 epoll_create epoll_create1 epoll_ctl epoll_wait epoll_pwait eventfd2 "
    "sendfile copy_file_range",
    "files": "open openat stat fstat lstat newfstatat statx statfs fstatfs access faccessat faccessat2 readlink "
    "readlinkat getcwd chdir fchdir getdents64 mkdir mkdirat rmdir unlink unlinkat rename renameat renameat2 link "
    "linkat symlink symlinkat chmod fchmod fchmodat umask truncate ftruncate fallocate fsync fdatasync utime utimes "
    "utimensat flock fadvise64",
    "time": "clock_gettime clock_getres clock_nanosleep nanosleep gettimeofday time times getitimer setitimer alarm",
    "signals": "rt_sigaction rt_sigprocmask rt_sigpending rt_sigsuspend rt_sigtimedwait rt_sigreturn sigaltstack pause "
    "restart_syscall",
    "oneself": "getpid getppid gettid getuid geteuid getgid getegid getresuid getresgid getgroups getpgrp getpgid "
    "getsid getrlimit getrusage getpriority sysinfo uname getrandom getcpu sched_yield sched_getaffinity "
    "sched_getparam sched_getscheduler sched_get_priority_max sched_get_priority_min wait4 waitid exit exit_group",
    "threads": "futex set_robust_list get_robust_list rseq set_tid_address arch_prctl",
}
# glibc asks for these first and takes ENOSYS, not EPERM, as the word to use the older call.
_UNKNOWN = "clone3 openat2"

# include/seccomp.h of libseccomp, and of the kernel: sched.h, ioctls.h, prctl.h.
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_UNEQUAL, _EQUAL, _MASKED_EQUAL = 1, 4, 7
_CLONE_THREAD, _CLONE_NEW_ANYTHING = 0x00010000, 0x7E020080
_HARMLESS_IOCTLS = {"TCGETS": 0x5401, "TIOCGWINSZ": 0x5413, "FIONREAD": 0x541B, "FIONCLEX": 0x5450, "FIOCLEX": 0x5451}
_PR_SET_NAME, _PR_GET_NAME = 15, 16
_KEEPER = 1


class _Comparison(ctypes.Structure):
    _fields_ = [
        ("argument", ctypes.c_uint),
        ("operator", ctypes.c_int),
        ("value", ctypes.c_uint64),
        ("second", ctypes.c_uint64),
    ]


def compile_filter(machine: str | None = None) -> bytes:
    """The filter, in classic BPF, for programs of this machine's architecture, or that of `machine` ("aarch64", …).

    A call by another of the kernel's tables (32 bits, x32) ends the process. SandboxError where libseccomp is missing.
    """
    if platform.system() != "Linux":
        raise SandboxError(
            f"generated code is not run: it needs Linux, and this is {platform.system()}: use another machine"
        )
    library = _library()
    context = ctypes.c_void_p(library.seccomp_init(ctypes.c_uint32(_ERRNO | EPERM)))
    try:
        if machine is not None and machine != os.uname().machine:
            _check("arch_remove", library.seccomp_arch_remove(context, ctypes.c_uint32(0)))
            token = library.seccomp_arch_resolve_name(machine.encode())
            _check("arch_add", library.seccomp_arch_add(context, ctypes.c_uint32(token)))
        for name in " ".join(_ALLOWED.values()).split():
            _rule(library, context, _ALLOW, name)
        for name in _UNKNOWN.split():
            _rule(library, context, _ERRNO | ENOSYS, name)
        # A thread, not a process, and in no namespace of its own.
        _rule(
            library,
            context,
            _ALLOW,
            "clone",
            _Comparison(0, _MASKED_EQUAL, _CLONE_THREAD | _CLONE_NEW_ANYTHING, _CLONE_THREAD),
        )
        # abort() and raise() need it; kill() is not allowed, which nobody needs for oneself.
        _rule(library, context, _ALLOW, "tgkill", _Comparison(0, _UNEQUAL, _KEEPER, 0))
        # Its own limits, not those of the keeper, which may have the same user.
        _rule(library, context, _ALLOW, "prlimit64", _Comparison(0, _EQUAL, 0, 0))
        for number in _HARMLESS_IOCTLS.values():
            _rule(library, context, _ALLOW, "ioctl", _Comparison(1, _EQUAL, number, 0))
        for number in (_PR_SET_NAME, _PR_GET_NAME):
            _rule(library, context, _ALLOW, "prctl", _Comparison(0, _EQUAL, number, 0))
        with TemporaryFile() as file:
            _check("export_bpf", library.seccomp_export_bpf(context, file.fileno()))
            file.seek(0)
            return file.read()
    finally:
        library.seccomp_release(context)


def _library() -> ctypes.CDLL:
    # The name it has had since 2012 first: find_library runs other programs.
    for name in ("libseccomp.so.2", ctypes.util.find_library("seccomp")):
        try:
            library = ctypes.CDLL(name) if name else None
        except OSError:
            continue
        if library is not None:
            library.seccomp_init.restype = ctypes.c_void_p
            return library
    raise SandboxError(
        "generated code is not run: libseccomp, the library that compiles the filter of system calls, is missing. "
        "Install it (Debian, Ubuntu: `apt-get install libseccomp2`; Fedora: `dnf install libseccomp`)"
    )


def _rule(library: ctypes.CDLL, context: ctypes.c_void_p, action: int, name: str, *conditions: _Comparison) -> None:
    """Add a rule. One for a call that an architecture lacks (`open` on aarch64) does nothing, as libseccomp has it."""
    number = library.seccomp_syscall_resolve_name(name.encode())
    if number == -1:
        raise SandboxError(
            f"generated code is not run: libseccomp does not know the call {name!r}: install 2.5 or newer"
        )
    array = (_Comparison * len(conditions))(*conditions)
    code = library.seccomp_rule_add_array(context, ctypes.c_uint32(action), number, len(conditions), array)
    _check(f"rule_add {name}", code)


def _check(step: str, code: int) -> None:
    if code != 0:
        raise SandboxError(f"generated code is not run: libseccomp: {step}: {os.strerror(-code)}")
