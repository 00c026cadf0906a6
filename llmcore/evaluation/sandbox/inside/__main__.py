"""The launcher (`python -m llmcore.evaluation.sandbox.inside`): leaves the host, and starts the keeper there."""

import base64
import os
import signal
import sys
from pathlib import Path

from llmcore.evaluation.sandbox.inside.frames import read_frame, write_frame
from llmcore.evaluation.sandbox.inside.keeper import keep
from llmcore.evaluation.sandbox.inside.libc import die_with_parent, undumpable
from llmcore.evaluation.sandbox.inside.namespaces import leave_host
from llmcore.evaluation.sandbox.inside.view import change_view
from llmcore.evaluation.sandbox.limits import Limits


def main() -> int:
    """Read the settings, leave the host, start the keeper as process 1, and end with it."""
    # Away from the numbers that a program's descriptors get.
    requests, answers = os.dup(0), os.dup(1)
    settings = read_frame(requests)
    _forget_package()
    try:
        # Where the machine runs out of memory, a sandbox ends before anything else does.
        Path("/proc/self/oom_score_adj").write_text("1000")
        leave_host()
        keeper = os.fork()
        if keeper:
            return os.waitstatus_to_exitcode(os.waitpid(keeper, 0)[1])
        die_with_parent(signal.SIGKILL)
        change_view()
        undumpable()
        keep(requests, answers, Limits(**settings["limits"]), base64.b64decode(settings["filter"]))
    except OSError as error:
        write_frame(answers, {"refused": error.strerror or str(error), "errno": error.errno})
        return 1
    return 0


def _forget_package() -> None:
    """All that a program inherits of the interpreter is the standard library."""
    sys.path.remove(os.environ["PYTHONPATH"])
    sys.argv = [""]
    os.environ.clear()
    for name in [name for name in sys.modules if name.partition(".")[0] == "llmcore"]:
        del sys.modules[name]


sys.exit(main())
