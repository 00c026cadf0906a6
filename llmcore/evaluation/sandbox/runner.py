"""Many programs, many sandboxes."""

import queue
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from itertools import islice

from llmcore.evaluation.sandbox.lane import Lane
from llmcore.evaluation.sandbox.limits import Limits
from llmcore.evaluation.sandbox.program import Outcome, Program
from llmcore.evaluation.sandbox.seccomp import compile_filter

__all__ = ["run_programs"]


def run_programs(
    programs: Iterable[Program], limits: Limits | None = None, *, num_parallel: int = 1
) -> Iterator[Outcome]:
    """The outcome of each program, in their order; `num_parallel` run at once, each alone in its sandbox.

    Programs are taken as they are needed. SandboxError, and nothing runs, where the machine does not let a sandbox be made
    with all that confines a program in force.
    """
    limits = limits or Limits()
    seccomp_filter = compile_filter()
    lanes: queue.SimpleQueue[Lane] = queue.SimpleQueue()

    def judge(program: Program) -> Outcome:
        lane = lanes.get()
        try:
            if not lane.alive:
                lane = Lane(limits, seccomp_filter)
            return lane.run(program)
        finally:
            lanes.put(lane)

    with ExitStack() as ends, ThreadPoolExecutor(num_parallel) as pool:
        for _ in range(num_parallel):
            lanes.put(Lane(limits, seccomp_filter))
            ends.callback(lambda: lanes.get().close())
        left = iter(programs)
        # Some ahead, so that no lane waits for the slowest program.
        running = deque[Future[Outcome]](pool.submit(judge, program) for program in islice(left, 4 * num_parallel))
        try:
            while running:
                yield running.popleft().result()
                running.extend(pool.submit(judge, program) for program in islice(left, 1))
        finally:
            for future in running:
                future.cancel()
