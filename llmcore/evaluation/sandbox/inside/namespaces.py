"""Leaving the host's namespaces: users, mounts, processes, network, System V objects, names, control groups."""

import os
from errno import EPERM
from pathlib import Path
from typing import NoReturn

from llmcore.evaluation.sandbox.inside.libc import call

__all__ = ["CLONE_NEWNS", "INSIDE_ID", "leave_host"]

CLONE_NEWNS = 0x00020000
_NAMESPACES = {
    "user": 0x10000000,
    "mnt": CLONE_NEWNS,
    "pid": 0x20000000,
    "net": 0x40000000,
    "ipc": 0x08000000,
    "uts": 0x04000000,
    "cgroup": 0x02000000,
}
INSIDE_ID = 1000
"""User and group that a program has inside."""
NOBODY = 65534


def leave_host() -> None:
    """Move this process into new namespaces, with all privileges there and none outside; its next child is process 1.

    Started by root, the namespace has two users: root, who can read what root can (an interpreter below /root, say),
    and nobody, which programs become: limits on processes do not bind the kernel's user 0, whatever its name inside.
    """
    before = _identities()
    ready, told = os.pipe()
    host_pid = os.getpid()
    helper = os.fork()
    if helper == 0:
        _map_users_when_told(host_pid, ready, told)
    os.close(ready)
    call("unshare", sum(_NAMESPACES.values()))
    os.close(told)
    number = os.waitstatus_to_exitcode(os.waitpid(helper, 0)[1])
    if number:
        raise OSError(number, f"uid_map: {os.strerror(number)}")
    kept = [name for name, identity in _identities().items() if identity == before[name]]
    if kept:
        raise OSError(EPERM, f"unshare: still in the host's namespaces: {', '.join(kept)}")


def _identities() -> dict[str, int]:
    """Which namespaces this process is in. Its own pid never changes: that its child is process 1, the child sees."""
    return {name: Path(f"/proc/self/ns/{name}").stat().st_ino for name in _NAMESPACES if name != "pid"}


def _map_users_when_told(pid: int, ready: int, told: int) -> NoReturn:
    """In a child that stays on the host: one has to stand outside of a user namespace to give it more than oneself."""
    try:
        os.close(told)
        os.read(ready, 1)  # returns when the parent closes its end
        for kind, own in (("uid", os.geteuid()), ("gid", os.getegid())):
            if os.geteuid() == 0:
                content = f"0 {own} 1\n{INSIDE_ID} {NOBODY} 1\n"
            else:
                content = f"{INSIDE_ID} {own} 1\n"
                _write(f"/proc/{pid}/setgroups", "deny")
            _write(f"/proc/{pid}/{kind}_map", content)
    except OSError as error:
        os._exit(error.errno or EPERM)
    os._exit(0)


def _write(path: str, content: str) -> None:
    """In one write(2), which is what the kernel asks for."""
    descriptor = os.open(path, os.O_WRONLY)
    try:
        os.write(descriptor, content.encode())
    finally:
        os.close(descriptor)
