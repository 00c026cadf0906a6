"""Many programs, many sandboxes."""

import queue
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
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

    Programs are taken as they are needed. SandboxError, and nothing runs, where the machine does not let a sandbox be
    made with all that confines a program in force.
    """
    limits = limits or Limits()
    seccomp_filter = compile_filter()
    lanes: queue.SimpleQueue[Lane] = queue.SimpleQueue()
    made: list[Lane] = []

    def new_lane() -> Lane:
        made.append(Lane(limits, seccomp_filter))
        return made[-1]

    def judge(program: Program) -> Outcome:
        lane = lanes.get()
        try:
            if not lane.alive:
                lane = new_lane()
            return lane.run(program)
        finally:
            lanes.put(lane)

    running: deque[Future[Outcome]] = deque()
    try:
        with ThreadPoolExecutor(num_parallel) as pool:
            try:
                for _ in range(num_parallel):
                    lanes.put(new_lane())
                left = iter(programs)
                # Some ahead, so that no lane waits for the slowest program.
                running.extend(pool.submit(judge, program) for program in islice(left, 4 * num_parallel))
                while running:
                    yield running.popleft().result()
                    running.extend(pool.submit(judge, program) for program in islice(left, 1))
            finally:
                # Nobody waits for what still runs when the caller has had enough.
                for future in running:
                    future.cancel()
                for lane in made:
                    lane.kill()
    finally:
        for lane in made:
            lane.close()
