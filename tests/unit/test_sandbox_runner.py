"""Many programs: their order, their forms, the solutions of MBPP, who may run them, and where they are refused."""

import ctypes
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import llmcore
from llmcore.errors import SandboxError, UserError
from llmcore.evaluation.sandbox import seccomp
from llmcore.evaluation.sandbox.check import check_sandbox
from llmcore.evaluation.sandbox.fixes import fix_for
from llmcore.evaluation.sandbox.lane import Lane
from llmcore.evaluation.sandbox.limits import Limits
from llmcore.evaluation.sandbox.program import Program
from llmcore.evaluation.sandbox.runner import run_programs
from tests.sandboxes import needs_namespaces

MBPP = Path(os.environ.get("LLMCORE_DATA", "")) / "mbpp"
ROOT = str(Path(llmcore.__file__).parents[1])


@needs_namespaces
@pytest.mark.skipif(not MBPP.is_dir(), reason="LLMCORE_DATA has no mbpp")
def test_every_reference_solution_of_mbpp_passes() -> None:
    rows = [json.loads(line) for path in sorted(MBPP.glob("*.jsonl")) for line in path.read_text().splitlines()]
    assert len(rows) == 474  # 10 of prompt, 90 of validation, 374 of train
    programs = [Program.of(row["text"], row["code"], row["test_list"], setup=row["test_setup_code"]) for row in rows]
    outcomes = run_programs(programs, num_parallel=2)
    assert {row["task_id"]: o for row, o in zip(rows, outcomes, strict=True) if not o.passed} == {}


@needs_namespaces
@given(st.lists(st.booleans(), max_size=12), st.integers(1, 4))
@settings(max_examples=10)
def test_outcomes_come_in_the_order_of_programs(right: list[bool], num_parallel: int) -> None:
    """Also where later ones end earlier."""
    programs = [
        Program(f"import time\ntime.sleep({0.02 * (i % 3 == 0)})\nprint({i})", [f"assert {each}, 'number {i}'"])
        for i, each in enumerate(right)
    ]
    outcomes = list(run_programs(programs, num_parallel=num_parallel))
    assert [outcome.passed for outcome in outcomes] == right
    assert all(o.passed or f"number {i}" in o.stderr for i, o in enumerate(outcomes))


@needs_namespaces
def test_programs_are_taken_as_needed_and_sandboxes_end_with_the_asking() -> None:
    taken = []

    def endless() -> Iterator[Program]:
        while True:
            taken.append(1)
            yield Program("", ["assert True"])

    before = len(psutil.Process().children(recursive=True))
    outcomes = run_programs(endless(), num_parallel=2)
    assert all(next(outcomes).passed for _ in range(20))
    outcomes.close()
    assert len(taken) < 40
    assert len(psutil.Process().children(recursive=True)) == before


@needs_namespaces
def test_who_has_had_enough_does_not_wait_for_what_runs() -> None:
    sleeper = Program("import time\ntime.sleep(600)", ["1"])
    outcomes = run_programs([Program("", ["1"]), *[sleeper] * 8], Limits(wall_s=500.0), num_parallel=2)
    assert next(outcomes).passed
    begun = time.monotonic()
    outcomes.close()
    assert time.monotonic() - begun < 30


@needs_namespaces
def test_a_prompt_of_words_and_a_prompt_that_begins_the_code() -> None:
    signature = 'def double(x: int) -> int:\n    """Twice x.\n    >>> double(2)\n    4\n    """\n'
    check = "def check(candidate):\n    assert candidate(2) == 4\n    assert candidate(-1) == -2\n"
    tests = [check, "check(double)"]
    programs = [
        Program.of("Write a function.", "def double(x):\n    return 2 * x", tests),
        Program.of(signature, "    return 2 * x\n", tests, prompt_is_code=True),
        Program.of(signature, "    return x * x\n", tests, prompt_is_code=True),
        Program.of("", "class Node:\n    pass", ["assert isinstance(root, Node)"], setup="root = Node()"),
        Program.of("", "def f():\n    return 1\nif __name__ == '__main__':\n    print(input())", ["assert f() == 1"]),
        Program.of("", "import math\n", ["assert math.pi > 3", "assert e"]),
    ]
    assert [outcome.passed for outcome in run_programs(programs)] == [True, True, False, True, True, False]


@needs_namespaces
def test_the_same_program_goes_the_same_way_each_time() -> None:
    """Sets of strings have one order in every sandbox."""
    program = Program("", ["raise ValueError(list({str(i) for i in range(50)}))"])
    assert len({outcome.stderr for outcome in run_programs([program] * 4, num_parallel=2)}) == 1


@needs_namespaces
def test_a_lost_sandbox_is_a_failure_of_its_program_alone() -> None:
    with closing(Lane(Limits(), seccomp.compile_filter())) as lane:
        [launcher] = [child for child in psutil.Process().children() if child.pid == lane._process.pid]
        beneath = launcher.children(recursive=True)
        launcher.kill()
        psutil.wait_procs(beneath, timeout=60)  # it dies with its launcher, but not before it
        outcome = lane.run(Program("", ["1"]))
        assert (outcome.status, outcome.signal, lane.alive) == ("ended_by_signal", 9, False)


def _as_nobody(interpreter: str, script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [interpreter, "-B", "-c", script],
        user=65534,
        group=65534,
        extra_groups=[],
        env={"PYTHONPATH": ROOT},
        cwd="/",
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@needs_namespaces
@pytest.mark.skipif(os.geteuid() != 0, reason="all other tests ran as an ordinary user")
def test_an_ordinary_user_needs_no_privilege() -> None:
    candidates = [sys.executable, f"/usr/bin/python3.{sys.version_info.minor}"]
    usable = []
    for path in candidates:
        try:
            usable += [path] if _as_nobody(path, "import llmcore.errors").returncode == 0 else []
        except OSError:
            continue
    if not usable:
        pytest.skip("no interpreter and package that another user can read")
    script = "from llmcore.evaluation.sandbox.check import check_sandbox\ncheck_sandbox()\nprint('in force')"
    told = _as_nobody(usable[0], script)
    assert told.stdout == "in force\n", told.stderr


@needs_namespaces
def test_where_namespaces_are_forbidden_nothing_runs_and_the_fix_is_named() -> None:
    """A kernel that really refuses: below a user namespace whose own limit of namespaces is zero."""
    script = (
        "from llmcore.evaluation.sandbox.runner import run_programs\n"
        "from llmcore.evaluation.sandbox.program import Program\n"
        "try: print(next(run_programs([Program('print(1)', ['1'])])))\n"
        "except Exception as e: print(type(e).__name__, e)"
    )
    inner = 'echo 0 > /proc/sys/user/max_user_namespaces && exec "$0" -c "$1"'
    command = ["unshare", "--user", "--map-root-user", "sh", "-c", inner, sys.executable, script]
    told = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False).stdout
    assert told.startswith("SandboxError generated code is not run: unshare: No space left on device."), told
    assert "The fix: run `sysctl -w user.max_user_namespaces=10000` as root." in told


@pytest.mark.parametrize(
    ("name", "content", "fix"),
    [
        ("sys/kernel/unprivileged_userns_clone", "0\n", "sysctl -w kernel.unprivileged_userns_clone=1"),
        ("sys/kernel/apparmor_restrict_unprivileged_userns", "1\n", "kernel.apparmor_restrict_unprivileged_userns=0"),
        ("self/status", "Name:\tx\nSeccomp:\t2\n", "--security-opt seccomp=unconfined"),
        ("self/status", "Name:\tx\nSeccomp:\t0\n", "AppArmor or SELinux"),
    ],
)
def test_the_fix_is_what_this_machine_needs(tmp_path: Path, name: str, content: str, fix: str) -> None:
    (tmp_path / name).parent.mkdir(parents=True)
    (tmp_path / name).write_text(content)
    assert fix in fix_for("unshare: Operation not permitted", tmp_path)


def test_an_old_kernel_and_a_missing_user_have_fixes_of_their_own(tmp_path: Path) -> None:
    assert "Linux 5.12" in fix_for("mount_setattr: Function not implemented", tmp_path)
    assert "/etc/subuid" in fix_for("uid_map: Operation not permitted", tmp_path)


def test_without_libseccomp_nothing_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise OSError(name)

    monkeypatch.setattr(ctypes, "CDLL", missing)
    with pytest.raises(SandboxError, match="apt-get install libseccomp2"):
        next(run_programs([Program("", ["1"])]))


def test_elsewhere_than_on_linux_nothing_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    with pytest.raises(SandboxError, match="needs Linux, and this is Darwin"):
        check_sandbox()


@needs_namespaces
def test_a_program_that_cannot_be_confined_is_not_run() -> None:
    """It is no failure of the program's: a filter that the kernel does not take."""
    with (
        closing(Lane(Limits(), b"not a filter....")) as lane,
        pytest.raises(SandboxError, match="not run: prctl: Invalid argument"),
    ):
        lane.run(Program("", ["1"]))


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_filters_are_made_for_both_architectures(machine: str) -> None:
    """Instructions of 8 bytes; the first ones compare the architecture's number (linux/audit.h)."""
    program = seccomp.compile_filter(machine)
    number = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}[machine]
    assert len(program) % 8 == 0
    assert len(program) // 8 < 4096  # BPF_MAXINSNS
    assert number.to_bytes(4, sys.byteorder) in program[:32]


def test_a_program_needs_tests_and_limits_are_above_zero() -> None:
    with pytest.raises(UserError, match="without tests"):
        Program("x = 1", ["", "  "])
    with pytest.raises(ValueError, match="wall_s=0: it must be above zero"):
        Limits(wall_s=0)
    with pytest.raises(ValueError, match="num_open_files=3: it must be 8 or more"):
        Limits(num_open_files=3)
