"""What the filter of system calls refuses, the namespaces and limits contain without it."""

import os
import socket
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from llmcore.errors import SandboxError
from llmcore.evaluation.sandbox import check
from llmcore.evaluation.sandbox.lane import Lane
from llmcore.evaluation.sandbox.limits import Limits
from llmcore.evaluation.sandbox.program import Program
from llmcore.evaluation.sandbox.seccomp import compile_filter
from tests.sandboxes import needs_namespaces

pytestmark = needs_namespaces

LIMITS = Limits(cpu_s=2, wall_s=3.0, memory_bytes=256 * 2**20, num_threads=8)
ALLOW_ALL = struct.pack("HBBI", 6, 0, 0, 0x7FFF0000)
GOOD = Program("", ["assert True"])


@pytest.fixture(scope="module")
def unfiltered() -> Iterator[Lane]:
    """A sandbox that lacks its filter of system calls."""
    with closing(Lane(LIMITS, ALLOW_ALL)) as lane:
        yield lane


def descendants() -> list[psutil.Process]:
    return psutil.Process().children(recursive=True)


def test_a_server_of_the_host_cannot_be_reached(unfiltered: Lane) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        outcome = unfiltered.run(Program(f"import socket\nsocket.create_connection(('127.0.0.1', {port}))", ["1"]))
    assert outcome.status == "failed"
    assert "Network is unreachable" in outcome.stderr


def test_forks_come_to_an_end_and_leave_nothing(unfiltered: Lane) -> None:
    before = len(descendants())
    bomb = "import os, time\nfor _ in range(10**4):\n    if os.fork() == 0:\n        time.sleep(600)"
    outcome = unfiltered.run(Program(bomb, ["1"]))
    assert outcome.status == "failed"
    assert "BlockingIOError: [Errno 11] Resource temporarily unavailable" in outcome.stderr
    assert len(descendants()) == before
    assert unfiltered.run(GOOD).passed


def test_a_bomb_of_forks_is_ended_whole(unfiltered: Lane) -> None:
    before = len(descendants())
    bomb = "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass"
    assert unfiltered.run(Program(bomb, ["1"])).status == "timed_out"
    assert len(descendants()) == before
    assert unfiltered.run(GOOD).passed


def test_a_daemon_ends_with_its_program(unfiltered: Lane) -> None:
    before = len(descendants())
    daemon = (
        "import os, time\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n        time.sleep(600)\n"
        "    os._exit(0)"
    )
    assert unfiltered.run(Program(daemon, ["assert True"])).passed
    assert len(descendants()) == before


@pytest.mark.parametrize("attack", ["os.kill(1, 9)", "os.kill(os.getppid(), 19)", "os.kill(1, 2)", "os.kill(-1, 9)"])
def test_the_keeper_outlives_signals(unfiltered: Lane, attack: str) -> None:
    unfiltered.run(Program(f"import os\n{attack}", ["1"]))
    assert unfiltered.alive
    assert unfiltered.run(GOOD).passed


def test_the_host_has_no_process_inside(unfiltered: Lane) -> None:
    attack = f"import os\nassert os.getppid() == 1\nos.kill({os.getpid()}, 0)"
    assert "ProcessLookupError" in unfiltered.run(Program(attack, ["1"])).stderr


def test_namespaces_of_its_own_lead_nowhere(unfiltered: Lane) -> None:
    """Root of a user namespace below may mount, in a copy of the view, and finds nothing of the host there."""
    attack = (
        "import ctypes, os\nlibc = ctypes.CDLL(None, use_errno=True)\nassert libc.unshare(0x10020000) == 0\n"
        "assert libc.mount(None, b'/', None, 4096 | 32, None) == 0, os.strerror(ctypes.get_errno())\nopen('/x', 'w')"
    )
    outcome = unfiltered.run(Program(attack, ["1"]))
    assert outcome.status == "failed"
    assert "AssertionError: Operation not permitted" in outcome.stderr


def test_what_one_program_wrote_the_next_does_not_find(unfiltered: Lane) -> None:
    assert unfiltered.run(Program("open('x', 'w').write('x')", ["assert open('x').read() == 'x'"])).passed
    assert unfiltered.run(Program("import os", ["assert os.getcwd() == '/sandbox' and not os.listdir()"])).passed


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="other tables of calls than its own are x86-64's")
@pytest.mark.parametrize(
    "table",
    ["b'\\xb8\\x14\\x00\\x00\\x00\\xcd\\x80\\xc3'", "b'\\xb8\\x27\\x00\\x00\\x40\\x0f\\x05\\xc3'"],
    ids=["i386", "x32"],
)
def test_calls_by_another_table_end_the_program(table: str) -> None:
    """getpid by machine code: `mov eax, 20; int 0x80; ret`, and `mov eax, 0x40000027; syscall; ret`."""
    code = (
        "import ctypes, mmap\nmemory = mmap.mmap(-1, 4096, prot=7)\n"
        f"memory.write({table})\nctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(memory)))()"
    )
    with closing(Lane(LIMITS, compile_filter())) as lane:
        outcome = lane.run(Program(code, ["1"]))
    assert (outcome.status, outcome.signal) == ("ended_by_signal", 31)  # SIGSYS


def test_a_program_may_use_its_scratch_folder_and_threads() -> None:
    """What is allowed works, under the filter."""
    code = (
        "import os, shutil, tempfile, threading\nfrom concurrent.futures import ThreadPoolExecutor\n"
        "with tempfile.TemporaryDirectory() as folder:\n"
        "    open(os.path.join(folder, 'a'), 'w').write('x' * 10**5)\n"
        "    shutil.copy(os.path.join(folder, 'a'), os.path.join(folder, 'b'))\n"
        "    os.rename(os.path.join(folder, 'b'), os.path.join(folder, 'c'))\n"
        "    size = os.path.getsize(os.path.join(folder, 'c'))\n"
        "with ThreadPoolExecutor(4) as pool:\n    squares = list(pool.map(lambda x: x * x, range(9)))\n"
        "import asyncio, dataclasses, random, subprocess, time, zoneinfo\ntime.sleep(0.01)\n"
        "random.SystemRandom().random()"
    )
    with closing(Lane(LIMITS, compile_filter())) as lane:
        outcome = lane.run(Program(code, ["assert size == 10**5", "assert squares[-1] == 64"]))
    assert outcome.passed, outcome


def test_the_sandbox_ends_with_its_maker(tmp_path: Path) -> None:
    """By SIGKILL, with a program running: nobody is there to close anything."""
    script = (
        "import sys\nfrom llmcore.evaluation.sandbox.runner import run_programs\n"
        "from llmcore.evaluation.sandbox.program import Program\nprint('begun', flush=True)\n"
        "list(run_programs([Program('import time; time.sleep(600)', ['1'])] * 2, num_parallel=2))"
    )
    maker = psutil.Popen([os.sys.executable, "-c", script], stdout=subprocess.PIPE)
    maker.stdout.readline()
    deadline = time.monotonic() + 60
    while len(inside := maker.children(recursive=True)) < 6 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(inside) == 6, "two launchers, two keepers, two programs"
    maker.kill()
    maker.wait()
    assert not psutil.wait_procs(inside, timeout=30)[1]


def test_the_check_passes_here() -> None:
    check.check_sandbox()


def test_the_check_finds_a_filter_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "compile_filter", lambda: ALLOW_ALL)
    with pytest.raises(SandboxError, match="not in force here") as raised:
        check.check_sandbox()
    told = str(raised.value)
    assert all(name in told for name in check._BY_FILTER)
    assert not any(name in told for name in [*check._BY_KERNEL, *check._ENDED])


def test_the_check_finds_limits_that_are_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    wide = Limits(cpu_s=1, wall_s=4.0, memory_bytes=2**32, scratch_bytes=2**28, num_open_files=8192, num_threads=9000)
    monkeypatch.setattr(check, "_LIMITS", wide)
    names = {"a bound on what it writes", "a bound on the number of open files", "a bound on memory"}
    table = {name: (test, "passed") for name, test in check._BY_KERNEL.items()} | check._ENDED
    missing = check._missing(ALLOW_ALL, {name: wanted for name, wanted in table.items() if name in names})
    assert {told.partition(" (")[0] for told in missing} == names
