"""Programs that want out, or to pass without passing: each is contained, scored as a failure, and harms nobody."""

import os
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from llmcore.evaluation.sandbox.limits import Limits
from llmcore.evaluation.sandbox.program import Outcome, Program
from llmcore.evaluation.sandbox.runner import run_programs
from tests.sandboxes import needs_namespaces

pytestmark = needs_namespaces

LIMITS = Limits(cpu_s=1, wall_s=8.0, memory_bytes=256 * 2**20, scratch_bytes=4 * 2**20, num_files=64)
GOOD = Program("def add(a, b):\n    return a + b", ["assert add(1, 2) == 3"])
STUBBORN = "\nwhile True:\n    try:\n        attack()\n    except Exception:\n        pass\n"

# Each is followed by a test that any program passes: what the kernel refused has to have raised, or ended it.
CONTAINED: dict[str, tuple[str, str]] = {
    "forks": ("import os\nwhile True:\n    os.fork()", "failed"),
    "forks, whatever it is told": ("import os\nattack = os.fork" + STUBBORN, "timed_out"),
    "vforks": ("import subprocess\nsubprocess.run(['/bin/true'])", "failed"),
    "leaves a daemon": ("import os\nif os.fork() == 0:\n    os.setsid()\n    while True: pass", "failed"),
    "starts processes": ("import multiprocessing\nmultiprocessing.Process(target=print).start()", "failed"),
    "starts threads": (
        "import threading, time\nwhile True:\n    threading.Thread(target=time.sleep, args=(9,), daemon=True).start()",
        "failed",
    ),
    "becomes another program": ("import os\nos.execv('/usr/bin/true', ['true'])", "failed"),
    "fills memory at once": ("x = bytearray(2**40)", "out_of_memory"),
    "fills memory bit by bit": ("x = []\nwhile True:\n    x.append(bytearray(2**20))", "out_of_memory"),
    "fills shared memory": ("import mmap\nx = [mmap.mmap(-1, 2**26) for _ in range(99)]", "failed"),
    "fills memory behind a descriptor": ("import os\nos.memfd_create('x')", "failed"),
    "raises its own limits": ("import resource\nresource.setrlimit(resource.RLIMIT_AS, (-1, -1))", "failed"),
    "lowers the keeper's limits": ("import resource\nresource.prlimit(1, resource.RLIMIT_CPU, (1, 1))", "failed"),
    "fills the disk with one file": ("f = open('x', 'wb', 0)\nwhile True:\n    f.write(bytes(2**20))", "failed"),
    "fills the disk with files": (
        "for i in range(9):\n    open(str(i), 'wb').write(bytes(2**20))\nassert False, 'not full'",
        "failed",
    ),
    "makes files without end": (
        "import itertools\nfor i in itertools.count():\n    open(str(i), 'w').close()",
        "failed",
    ),
    "opens files without end": ("import os\nwhile True:\n    os.dup(0)", "failed"),
    "writes to the library": ("import os\nopen(os.__file__ + 'x', 'w')", "failed"),
    "writes to the root": ("open('/x', 'w')", "failed"),
    "changes the library": ("import os\nos.remove(os.__file__)", "failed"),
    "writes to a host's folder": ("open({outside!r} + '/x', 'w')", "failed"),
    "writes through a link": ("import os\nos.symlink({outside!r}, 'link')\nopen('link/x', 'w')", "failed"),
    "reads a host's file": ("assert 'secret' in open({outside!r} + '/secret').read()", "failed"),
    "reads through a link": ("import os\nos.symlink({outside!r} + '/secret', 'link')\nopen('link')", "failed"),
    "climbs out": ("import os\nos.chdir('/' + '../' * 40 + {outside!r})", "failed"),
    "reads passwords": ("open('/etc/shadow')", "failed"),
    "reads a home": ("import os\nassert os.listdir({home!r} + '/.ssh')", "failed"),
    "reads other processes": ("open('/proc/1/environ')", "failed"),
    "looks for descriptors of others": ("import os\nos.read(5, 1)", "failed"),
    "reads the environment": ("import os\nassert os.environ", "failed"),
    "reads standard input": ("input()", "failed"),
    "connects to the host": ("import socket\nsocket.create_connection(('127.0.0.1', {port}))", "failed"),
    "connects by a file": ("import socket\nsocket.socket(socket.AF_UNIX)", "failed"),
    "makes a pair of sockets": ("import socket\nsocket.socketpair()", "failed"),
    "speaks to the kernel": ("import socket\nsocket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)", "failed"),
    "opens a server": ("import socketserver\nsocketserver.TCPServer(('127.0.0.1', 0), None)", "failed"),
    "asks the network": ("import urllib.request\nurllib.request.urlopen('http://127.0.0.1:{port}/')", "failed"),
    "loops": ("while True:\n    pass", "timed_out"),
    "loops, deaf to signals": (
        "import signal\nfor s in set(signal.valid_signals()) - {{9, 19}}:\n    signal.signal(s, signal.SIG_IGN)\n"
        "while True:\n    pass",
        "timed_out",
    ),
    "loops in the end of a failure": (
        "class E(Exception):\n    def __str__(self):\n        while True: pass\nraise E",
        "timed_out",
    ),
    "prints without end": ("while True:\n    print('x' * 1000)", "too_much_output"),
    "complains without end": ("import os\nwhile True:\n    os.write(2, b'x' * 1000)", "too_much_output"),
    "kills its parent": ("import os\nos.kill(os.getppid(), 9)", "failed"),
    "kills everybody": ("import os\nos.kill(-1, 9)", "failed"),
    "kills its group": ("import os\nos.killpg(0, 9)", "failed"),
    "kills process 1": ("import os\nos.kill(1, 9)", "failed"),
    "kills process 1 by the thread": ("{kernel}\nkernel('tgkill', 1, 1, 9)", "failed"),
    "kills process 1, whatever it is told": (
        "import os\ndef attack():\n    os.kill(1, 9)" + STUBBORN,
        "timed_out",
    ),
    "traces its parent": ("{kernel}\nkernel('ptrace', 16, 1, 0, 0)", "failed"),
    "mounts": ("{kernel}\nkernel('mount', b'x', b'/sandbox', b'tmpfs', 0, None)", "failed"),
    "makes namespaces": ("{kernel}\nkernel('unshare', 0x10000000)", "failed"),
    "makes a name for the host": ("import socket\nsocket.sethostname('x')", "failed"),
    "changes its root": ("import os\nos.chroot('.')", "failed"),
    "becomes root": ("import os\nos.setuid(0)", "failed"),
    "crashes": ("import ctypes\nctypes.string_at(0)", "ended_by_signal"),
    "aborts": ("import os\nos.abort()", "ended_by_signal"),
    "recurses": ("def f():\n    f()\nf()", "failed"),
    "is too deep to compile": ("x = " + "(" * 9000 + ")" * 9000, "failed"),
    "is no Python": ("def f(:", "failed"),
    "is no text": ("x = '\ud800'\nassert False", "failed"),
    "has a null": ("x = 1\0", "failed"),
}

# Whether their memory, their stack or their time ends first is the machine's choice.
ENDED: dict[str, str] = {
    "fills memory with small things": "x = []\nwhile True:\n    x.append([])",
    "recurses beyond all limits": "import sys\nsys.setrecursionlimit(10**9)\ndef f():\n    f()\nf()",
    "recurses beyond the stack": (
        "import sys\nsys.setrecursionlimit(10**9)\nx = []\nfor _ in range(10**6):\n    x = [x]\nrepr(x)"
    ),
}

_RIGHT = "\ndef answer():\n    return 2"
_KERNEL = """import ctypes, os
def kernel(name, *arguments):
    if getattr(ctypes.CDLL(None, use_errno=True), name)(*arguments) < 0:
        raise OSError(ctypes.get_errno(), name)"""

# Each is followed by the test `assert answer() == 3`, which the answer does not pass, where it is reached at all.
PRETENDED: dict[str, str] = {
    "ends with 0": "import os\nos._exit(0)",
    "ends with 0 in a thread": "import os, threading\nthreading.Thread(target=os._exit, args=(0,)).start()",
    "exits with 0": "import sys\nsys.exit(0)",
    "exits with 0 in the test": "import sys\ndef answer():\n    sys.exit(0)",
    "ends with 0 in the test": "import os\ndef answer():\n    os._exit(0)",
    "ends with 0 at exit": "import atexit, os\natexit.register(os._exit, 0)",
    "says that it passed": "print('passed')\nprint('{\"status\": \"passed\"}')",
    "says so everywhere": (
        "import os\nfor d in range(64):\n    try: os.write(d, b'passed')\n    except OSError: pass\nos._exit(0)"
    ),
    "copies all it can read to all it can write": (
        "import os\nfor i in range(64):\n    try: data = os.read(i, 99)\n    except OSError: continue\n"
        "    for o in range(64):\n        try: os.write(o, data)\n        except OSError: pass\nos._exit(0)"
    ),
    "closes all": "import os\nos.closerange(0, 64)",
    "another AssertionError": "import builtins\nbuiltins.AssertionError = type('E', (), {})",
    "a mute AssertionError": "AssertionError.__init__ = lambda *a: None",
    "another exec": "import builtins\nbuiltins.exec = builtins.compile = lambda *a, **k: None",
    "another compile in the test": "import builtins\ndef answer():\n    builtins.exec = print\n    return 2",
    "another end": "import os\nos.write = os.read = lambda *a: b''\nend = os._exit\nos._exit = lambda code: end(0)",
    "another traceback": "import os, traceback\ntraceback.print_exception = lambda *a, **k: os._exit(0)",
    "another hook": "import os, sys\nsys.excepthook = lambda *a: os._exit(0)",
    "no modules": "import sys\nsys.modules.clear()",
    "another module": "import sys\nsys.modules['program'] = sys.modules['__main__'] = None",
    "an alarm": (
        "import signal, os\nsignal.signal(14, lambda *a: os._exit(0))\nsignal.alarm(1)\n"
        "def answer():\n    while True: pass"
    ),
}


@dataclass(frozen=True)
class Battle:
    """What came of all attacks, and the host before and after."""

    outcomes: dict[str, Outcome]
    good: list[Outcome]
    before: tuple[object, ...]
    after: tuple[object, ...]
    num_connections: int


def _host(outside: Path) -> tuple[object, ...]:
    files = sorted((path.name, path.read_bytes()) for path in outside.iterdir())
    children = [child.pid for child in psutil.Process().children(recursive=True)]
    mounts = Path("/proc/self/mounts").read_text()
    return files, children, mounts, os.uname().nodename, threading.active_count()


@pytest.fixture(scope="module")
def battle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Battle]:
    """Each attack, and after it, in the same sandbox, a good program."""
    outside = tmp_path_factory.mktemp("host")
    (outside / "secret").write_text("secret")
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0)
        known = {"outside": str(outside), "home": str(Path.home()), "port": server.getsockname()[1], "kernel": _KERNEL}
        names, programs = [], []
        for name, (code, _) in CONTAINED.items():
            names.append(name)
            programs.append(Program(code.format(**known) if "{" in code else code, ["assert True"]))
        for name, code in PRETENDED.items():
            names.append(name)
            own = "def answer" in code
            programs.append(Program(code if own else code + _RIGHT, ["assert answer() == 3"]))
        for name, code in ENDED.items():
            names.append(name)
            programs.append(Program(code, ["assert True"]))
        names.append("sleeps")
        programs.append(Program("import time\ntime.sleep(600)", ["assert True"]))
        before = _host(outside)
        mixed = [each for program in programs for each in (program, GOOD)]
        outcomes = list(run_programs(mixed, LIMITS, num_parallel=2))
        after = _host(outside)
        num_connections = 0
        try:
            server.accept()[0].close()
            num_connections = 1
        except BlockingIOError:
            pass
    yield Battle(dict(zip(names, outcomes[::2], strict=True)), outcomes[1::2], before, after, num_connections)


@pytest.mark.parametrize("name", CONTAINED)
def test_an_attack_is_contained_and_fails(battle: Battle, name: str) -> None:
    assert battle.outcomes[name].status == CONTAINED[name][1], battle.outcomes[name]


@pytest.mark.parametrize("name", [*PRETENDED, *ENDED])
def test_no_program_passes_without_passing(battle: Battle, name: str) -> None:
    assert not battle.outcomes[name].passed


def test_a_program_that_sleeps_is_ended_by_the_clock(battle: Battle) -> None:
    slept = battle.outcomes["sleeps"]
    assert slept.status == "timed_out"
    assert LIMITS.wall_s <= slept.seconds < LIMITS.wall_s + 5


def test_what_comes_after_an_attack_is_judged_as_ever(battle: Battle) -> None:
    assert all(outcome.passed for outcome in battle.good), [o for o in battle.good if not o.passed]


def test_the_host_is_as_before(battle: Battle) -> None:
    assert battle.after == battle.before
    assert battle.num_connections == 0


def test_the_end_of_stderr_says_what_raised(battle: Battle) -> None:
    told = battle.outcomes["kills its parent"].stderr
    assert "PermissionError: [Errno 1] Operation not permitted" in told
    assert "os.kill(os.getppid(), 9)" in told
    assert "judge.py" not in told
    assert len(battle.outcomes["complains without end"].stderr) == LIMITS.stderr_bytes


def test_a_signal_is_named(battle: Battle) -> None:
    assert battle.outcomes["aborts"].signal == 6
    assert battle.outcomes["crashes"].signal == 11
