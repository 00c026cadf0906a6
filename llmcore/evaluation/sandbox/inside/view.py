"""The files that a program sees: Python's library and the system's, read-only, and nothing else of the host."""

import os
import sys

from llmcore.evaluation.sandbox.inside.libc import (
    MS_BIND,
    MS_NODEV,
    MS_NOSUID,
    MS_PRIVATE,
    MS_REC,
    mount,
    pivot_root,
    read_only,
    unmount,
)

__all__ = ["SCRATCH", "change_view"]

SCRATCH = "/sandbox"
_HOST = "/.host"
_SHARED_LIBRARIES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/share/zoneinfo")


def change_view() -> None:
    """Make a new root of this mount namespace. There is no /proc in it, so no process of the host has a name there."""
    # Where a library lies behind links, it is shown at the path by which the interpreter knows it.
    shown = {path: os.path.realpath(path) for path in _shown()}
    mount("none", "/", None, MS_REC | MS_PRIVATE)
    # Any folder that is surely there; the mount is moved away from it, to the root.
    base = "/proc"
    mount("view", base, "tmpfs", MS_NOSUID | MS_NODEV, "size=1m,nr_inodes=256,mode=755")
    os.mkdir(base + _HOST)
    pivot_root(base, base + _HOST)
    os.chdir("/")
    for path, real in shown.items():
        os.makedirs(path, exist_ok=True)
        mount(_HOST + real, path, None, MS_BIND | MS_REC)
    os.mkdir("/dev")
    os.close(os.open("/dev/null", os.O_CREAT | os.O_WRONLY, 0o666))
    mount(_HOST + "/dev/null", "/dev/null", None, MS_BIND)
    os.mkdir(SCRATCH)
    unmount(_HOST)
    os.rmdir(_HOST)
    read_only("/")


def _shown() -> list[str]:
    """Folders to show, none of them below another."""
    own = [os.path.join(sys.base_prefix, name) for name in ("lib", "lib64")]
    found = sorted({os.path.abspath(path) for path in (*own, *_SHARED_LIBRARIES, *sys.path) if os.path.isdir(path)})
    return [path for path in found if not any(path.startswith(above + "/") for above in found)]
