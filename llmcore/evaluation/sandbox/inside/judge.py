"""Running a program and its tests, in the process that has given up everything."""

import linecache
import os
import sys
import traceback
from types import CodeType, ModuleType
from typing import NoReturn

__all__ = ["OUT_OF_MEMORY", "judge"]

OUT_OF_MEMORY = b"out of memory"
_MODULE = "program"


def judge(code: str, setup: str, tests: list[str], report: int, proof: int) -> NoReturn:
    """Run code, setup and tests, then report the proof, read backwards; never returns.

    That nothing raised is not told by an exit code, which `os._exit(0)` has as well, but by what stands in the pipe
    `proof`, which is read after the last test (and turned round, so that a program that copies whatever it can read to
    wherever it can write has not passed). Whatever the program has bound to builtins or modules meanwhile: what is used
    here was bound before, and all source is compiled before any of it runs. `assert` looks no name up.
    """
    run, read, write, end, out_of_memory = exec, os.read, os.write, os._exit, OUT_OF_MEMORY
    try:
        sources = [("code", code), ("setup", setup), *((f"test {i}", test) for i, test in enumerate(tests, 1))]
        compiled = tuple(_compile(name, source) for name, source in sources)
        # Not "__main__": what stands under `if __name__ == "__main__"` reads input or starts servers.
        module = ModuleType(_MODULE)
        sys.modules[_MODULE] = sys.modules["__main__"] = module
        for part in compiled:
            run(part, module.__dict__)
        write(report, read(proof, 64)[::-1])
        end(0)
    except MemoryError:
        write(report, out_of_memory)
    except BaseException as error:
        # Without this function's own line.
        traceback.print_exception(error.with_traceback(error.__traceback__ and error.__traceback__.tb_next))
        sys.stderr.flush()
    finally:
        end(1)


def _compile(name: str, source: str) -> CodeType:
    """With its lines known to tracebacks."""
    linecache.cache[f"<{name}>"] = (len(source), None, source.splitlines(keepends=True), f"<{name}>")
    return compile(source, f"<{name}>", "exec", dont_inherit=True)
