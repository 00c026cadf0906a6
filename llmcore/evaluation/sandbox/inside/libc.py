"""The calls of the kernel that Python 3.11 does not have, and those of them that need care."""

import ctypes
import os
from collections.abc import Callable
from typing import Any

__all__ = [
    "MS_BIND",
    "MS_NODEV",
    "MS_NOEXEC",
    "MS_NOSUID",
    "MS_PRIVATE",
    "MS_REC",
    "call",
    "die_with_parent",
    "drop_capabilities",
    "load_filter",
    "mount",
    "pivot_root",
    "read_only",
    "undumpable",
    "unmount",
]

# include/uapi/linux: mount.h, prctl.h, seccomp.h, capability.h. The numbers are the same on every architecture.
MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_BIND, MS_REC, MS_PRIVATE = 2, 4, 8, 4096, 16384, 1 << 18
MNT_DETACH = 2
AT_FDCWD, AT_RECURSIVE = -100, 0x8000
MOUNT_ATTR_RDONLY, MOUNT_ATTR_NOSUID = 1, 2
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS = 1, 4, 22, 38
SECCOMP_MODE_FILTER = 2
CAPABILITY_VERSION_3 = 0x20080522
# glibc before 2.36 does not wrap it. It came when numbers had been made the same everywhere.
SYS_MOUNT_SETATTR = 442

_libc = ctypes.CDLL(None, use_errno=True)


def call(name: str, *arguments: Any, function: Callable[..., int] | None = None) -> None:
    """Call `name` of libc; what fails raises OSError with the name of the call, for whoever reads of it.

    Numbers go as longs: the kernel looks at all 64 bits of what prctl and syscall pass on.
    """
    wide = [ctypes.c_long(argument) if isinstance(argument, int) else argument for argument in arguments]
    if (function or getattr(_libc, name))(*wide) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def mount(source: str, target: str, kind: str | None, flags: int, options: str | None = None) -> None:
    """mount(2)."""
    encoded = [None if text is None else text.encode() for text in (source, target, kind, options)]
    call("mount", *encoded[:3], flags, encoded[3])


def unmount(target: str) -> None:
    """Take away `target` and all below it, in this mount namespace."""
    call("umount2", target.encode(), MNT_DETACH)


def read_only(target: str) -> None:
    """Make `target` and all that is mounted below it read-only. A remount, for kernels before 5.12, takes one mount."""

    class Attributes(ctypes.Structure):
        _fields_ = [(name, ctypes.c_uint64) for name in ("set", "clear", "propagation", "userns")]

    wanted = Attributes(set=MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID)
    arguments = (AT_FDCWD, target.encode(), AT_RECURSIVE, ctypes.byref(wanted), ctypes.sizeof(wanted))
    call("mount_setattr", SYS_MOUNT_SETATTR, *arguments, function=_libc.syscall)


def pivot_root(new: str, old: str) -> None:
    """Make `new` the root of this mount namespace, and hang the former one at `old` below it."""
    call("pivot_root", new.encode(), old.encode())


def die_with_parent(signal: int) -> None:
    """Let the kernel send `signal` to this process when its parent ends."""
    call("prctl", PR_SET_PDEATHSIG, signal, 0, 0, 0)


def undumpable() -> None:
    """Keep others of the same user from looking into this process."""
    call("prctl", PR_SET_DUMPABLE, 0, 0, 0, 0)


def drop_capabilities() -> None:
    """Give up every privilege that the user namespace gave."""

    class Header(ctypes.Structure):
        _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]

    nothing = (ctypes.c_uint32 * 6)()
    call("capset", ctypes.byref(Header(CAPABILITY_VERSION_3, 0)), ctypes.byref(nothing))


def load_filter(program: bytes) -> None:
    """Give up the ways to new privileges, then every call of the kernel that `program` (classic BPF) does not allow."""

    class Filter(ctypes.Structure):
        _fields_ = [("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p)]

    call("prctl", PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    call("prctl", PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(Filter(len(program) // 8, program)), 0, 0)
