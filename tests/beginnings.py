"""What a worker of Ray has at its beginning; a module of its own, which imports little."""

import os
import sys
from typing import Any

import psutil

__all__ = ["began"]


def began(modules: list[str]) -> dict[str, Any]:
    """Which of these modules are there, and what else a worker was given."""
    there = [name for name in modules if name in sys.modules]
    parents = [" ".join(one.cmdline()) for one in psutil.Process().parents()[:1]]
    return {
        "modules": there,
        "parent": parents[0] if parents else "",
        "pid": os.getpid(),
        "job": os.environ["RAY_JOB_ID"],
        "niceness": os.getpriority(os.PRIO_PROCESS, 0),
        "given": os.environ.get("GIVEN"),
        "seed": os.urandom(8).hex(),
    }
