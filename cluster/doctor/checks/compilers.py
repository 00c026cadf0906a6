"""Whether what DeepSpeed and torch compile at its first use is there already, or can be compiled."""

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from cluster.doctor.check import Check
from cluster.doctor.finding import Finding
from cluster.doctor.node import Node
from cluster.doctor.patient import Patient

__all__ = ["CHECK", "Tools", "examine", "judge", "look"]

_NAME = "compilers"
_COMPILERS = ("c++", "g++", "clang++")
_PROGRAM = "#include <Python.h>\n#include <vector>\n#include <omp.h>\n"
_OPTIONS = ("-x", "c++", "-std=c++20", "-fopenmp", "-fsyntax-only")
"""What DeepSpeed's operations need together; `cluster/install.sh` asks for the same."""
_BUILT = "ops/comm/deepspeed_shm_comm_op*.so"
_COMPILE_WITHIN_S = 20
_FIXES = {
    "compiler": "apt-get install g++ python3-dev (dnf install gcc-c++ python3-devel), or set CXX",
    "ninja": "pip install ninja, and have its folder on the PATH of the node's Ray",
    "operation": "install DeepSpeed as cluster/install.sh does, with its operation built",
}


@dataclass(frozen=True)
class Tools:
    """What a node has to compile with.

    Attributes:
        compiler: The C++ compiler that would be taken; empty where there is none.
        complaint: What it says to a program with C++20, OpenMP and Python's headers; empty where it compiles.
        ninja: Whether the build tool is there.
        built: Whether DeepSpeed's shared-memory operation for CPUs was built when it was installed.
    """

    compiler: str
    complaint: str
    ninja: bool
    built: bool


def look() -> Tools:
    """The tools of this node."""
    beside = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    named = os.environ.get("CXX")
    compiler = next((found for name in ([named] if named else _COMPILERS) if (found := shutil.which(name))), "")
    spec = find_spec("deepspeed")
    places = (spec.submodule_search_locations or []) if spec is not None else []
    return Tools(
        compiler=compiler,
        complaint=_complaint(compiler) if compiler else "",
        ninja=shutil.which("ninja", path=beside) is not None,
        built=any(any(Path(place).glob(_BUILT)) for place in places),
    )


def _complaint(compiler: str) -> str:
    command = [compiler, *_OPTIONS, f"-I{sysconfig.get_paths()['include']}", "-"]
    try:
        done = subprocess.run(
            command, input=_PROGRAM, capture_output=True, text=True, check=False, timeout=_COMPILE_WITHIN_S
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
    return "" if done.returncode == 0 else said[0]


def examine(patient: Patient) -> list[Finding]:
    """See `judge`."""
    seen, findings = patient.look(_NAME, look, within_s=_COMPILE_WITHIN_S + 10)
    return findings + [finding for node, tools in seen.items() for finding in judge(node, tools)]


def judge(node: Node, tools: Tools) -> Iterable[Finding]:
    """Without a way to compile it is an error where the first run on CPUs would need one, else a warning."""
    lacking = []
    if not tools.compiler:
        lacking.append(("compiler", f"no C++ compiler is on the PATH ({', '.join(_COMPILERS)})"))
    elif tools.complaint:
        lacking.append(
            ("compiler", f"{tools.compiler} does not compile C++20 with OpenMP and Python.h: {tools.complaint}")
        )
    if not tools.ninja:
        lacking.append(("ninja", "ninja is not there"))
    built = "DeepSpeed's operation for CPUs is built"
    for tool, told in lacking:
        if tools.built:
            seen = f"{told}; {built}, but offload and torch.compile compile more"
            yield Finding(_NAME, "warning", node.name, seen, _FIXES[tool])
        else:
            seen = f"{told}, and DeepSpeed's operation for CPUs is to be compiled at its first use"
            yield Finding(_NAME, "error", node.name, seen, f"{_FIXES[tool]}; or {_FIXES['operation']}")
    if not lacking and not tools.built:
        seen = "DeepSpeed's operation for CPUs is not built: the first run compiles it, for 40 s or more"
        yield Finding(_NAME, "warning", node.name, seen, _FIXES["operation"])
    elif not lacking:
        yield Finding(_NAME, "ok", node.name, f"{built}; {tools.compiler} and ninja compile more")


CHECK = Check(
    _NAME,
    "A C++20 compiler with OpenMP and Python's headers, and ninja: missing is an error where DeepSpeed's operation for "
    "CPUs is not built, else a warning",
    examine,
)
