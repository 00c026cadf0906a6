"""The stages of a pipeline at work: each is its own command in a process of its own, on the pipeline's cluster.

A stage so starts, stops, fails and goes on as it would by itself, and two searches share no memory. The processes are
forked from one that has imported most already, so that a stage costs no second start.
"""

import importlib
import multiprocessing
import os
import signal
import sys
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from graphlib import TopologicalSorter
from multiprocessing import connection, forkserver
from threading import Lock, Thread
from types import FrameType
from typing import Any, Protocol

from cluster.warm import RAY_IMPORTS
from jobs.runtime import console
from jobs.runtime.endings import in_one_line, own_error
from jobs.runtime.interrupt import interrupt_on_sigterm
from jobs.runtime.options import RunOptions
from llmcore.config.common import JobSettings, WorkerSettings
from llmcore.errors import InterruptedRunError, RunError, UserError

__all__ = ["Graph", "Shown", "run_stages", "start_early"]

_IMPORTED = (
    *RAY_IMPORTS,
    *("optuna", "transformers.models.auto"),
    *("jobs.evaluate", "jobs.finetune", "jobs.prepare", "jobs.pretrain", "jobs.tune"),
)
"""What stages need and what takes seconds."""
_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_LEAVES_WITHIN_S = 10.0
_SERVER_HAS_GONE = 255
"""The exit code that multiprocessing then has for each process."""


class Shown(Protocol):
    """Who shows a person what the stages do."""

    def began(self, stage: str) -> None:
        """A stage is at work."""

    def said(self, stage: str, line: str) -> None:
        """A stage has something to say."""

    def reached(self, stage: str, line: str) -> None:
        """How far a stage is; an empty line: there is nothing to count."""

    def ended(self, stage: str, how: str, why: str = "") -> None:
        """A stage is `done`, has `failed`, and why, or was `stopped`."""


@dataclass(frozen=True)
class Graph:
    """Which stages there are, and what each waits for.

    Attributes:
        jobs: The configuration of each, by its name.
        modules: The name of the module whose `run(config, options)` it is.
        begins_after: Those that have ended when it begins.
        needs: Those without whose success it is for nothing; beside some of them it may run.
    """

    jobs: Mapping[str, JobSettings]
    modules: Mapping[str, str]
    begins_after: Mapping[str, set[str]]
    needs: Mapping[str, frozenset[str]]

    def lost_with(self, stage: str) -> set[str]:
        """All that is for nothing when a stage fails."""
        lost = {stage}
        while more := {one for one, needed in self.needs.items() if needed & lost} - lost:
            lost |= more
        return lost - {stage}


def start_early() -> None:
    """Begin to import what stages need, in the process that they are forked from; it inherits the environment now."""
    _context().set_forkserver_preload(["jobs.runtime.undisturbed", *_IMPORTED])
    forkserver.ensure_running()


def _context() -> Any:
    """The way in which processes of stages are started."""
    return multiprocessing.get_context("forkserver")


def run_stages(
    graph: Graph, done: Sequence[str], options: RunOptions, environment: Mapping[str, str], shown: Shown
) -> dict[str, float]:
    """Run what is not done, as much of it side by side as the graph allows.

    When a stage fails, it is told at once, and what needs it is not begun, or is stopped where it runs beside it; the
    others go on. SIGTERM and Ctrl-C are passed on to each stage at work, which does with them what its command does.

    Args:
        graph: The stages.
        done: Those that are finished.
        options: How the pipeline was started.
        environment: What the stages need in theirs, to find the cluster.
        shown: Told of what they do.

    Returns:
        The seconds that each took.

    Raises:
        LLMCoreError: That of the stage that failed first, when the others have ended.
        InterruptedRunError: A signal ended them.
    """
    return _Course(graph, options, environment, shown).run(done)


class _Course:
    """One way through a graph."""

    def __init__(self, graph: Graph, options: RunOptions, environment: Mapping[str, str], shown: Shown) -> None:
        self._graph, self._options, self._environment, self._shown = graph, options, environment, shown
        self._at_work: dict[str, _Process] = {}
        self._failed: list[BaseException] = []
        self._lost: set[str] = set()
        self._interrupted: list[int] = []
        self._took: dict[str, float] = {}

    def run(self, done: Sequence[str]) -> dict[str, float]:
        order = TopologicalSorter(self._graph.begins_after)
        order.prepare()
        with self._signals_passed_on():
            try:
                self._go(order, set(done))
            finally:
                for process in self._at_work.values():  # where this process itself has failed
                    process.end()
        if self._interrupted:
            by = signal.Signals(self._interrupted[0]).name
            raise InterruptedRunError(f"interrupted by {by}; the same command goes on where it stopped")
        if self._failed:
            raise self._failed[0]
        return self._took

    def _go(self, order: "TopologicalSorter[str]", done: set[str]) -> None:
        while True:
            while ready := order.get_ready():
                for stage in ready:
                    if stage in done:
                        order.done(stage)
                    elif stage not in self._lost and not self._interrupted:
                        self._begin(stage)
            if not self._at_work:
                return
            by_pipe = {process.pipe: stage for stage, process in self._at_work.items()}
            for pipe in connection.wait(list(by_pipe)):
                self._hear(by_pipe[pipe], order)  # type: ignore[index]  # the pipes that it was given

    def _begin(self, stage: str) -> None:
        self._shown.began(stage)
        self._at_work[stage] = _Process(self._graph, stage, self._options, self._environment)
        for signum in self._interrupted:  # which came while it was made
            self._at_work[stage].signal(signum)

    def _hear(self, stage: str, order: "TopologicalSorter[str]") -> None:
        """Pass on what a stage has to say."""
        process = self._at_work[stage]
        what, told = process.news()
        if what == "line":
            self._shown.said(stage, told)
        elif what == "progress":
            self._shown.reached(stage, told)
        else:
            del self._at_work[stage]
            self._took[stage] = round(time.monotonic() - process.began, 1)
            self._end(stage, told, order)

    def _end(self, stage: str, error: BaseException | None, order: "TopologicalSorter[str]") -> None:
        if error is None:
            self._shown.ended(stage, "done")
            order.done(stage)
        elif isinstance(error, InterruptedRunError) and (stage in self._lost or self._interrupted):
            self._shown.ended(stage, "stopped")
        else:
            self._shown.ended(stage, "failed", str(error))
            if stage not in self._lost:
                self._failed.append(error)
            self._lost |= self._graph.lost_with(stage)
            for lost in self._lost & set(self._at_work):
                self._at_work[lost].signal(signal.SIGTERM)

    @contextmanager
    def _signals_passed_on(self) -> Iterator[None]:
        def pass_on(signum: int, frame: FrameType | None) -> None:
            self._interrupted.append(signum)
            for process in list(self._at_work.values()):
                process.signal(signum)

        before = {signum: signal.signal(signum, pass_on) for signum in _SIGNALS}
        try:
            yield
        finally:
            for signum, handler in before.items():
                signal.signal(signum, handler)


class _Process:
    """The process of a stage, as the pipeline sees it."""

    def __init__(self, graph: Graph, stage: str, options: RunOptions, environment: Mapping[str, str]) -> None:
        self.pipe, theirs = multiprocessing.Pipe(duplex=False)
        self._stage = stage
        self._grace_s = _grace_s(graph.jobs[stage])
        arguments = (theirs, graph.modules[stage], graph.jobs[stage], options, dict(environment))
        self._process = _context().Process(target=_work, args=arguments, name=stage)
        self._process.start()
        self.began = time.monotonic()
        theirs.close()  # so that its end is seen here when the process goes, however it goes

    def news(self) -> tuple[str, Any]:
        """`line` or `progress`, and the words; or `end`, and the error if there is one. Waits for the next."""
        try:
            what, told = self.pipe.recv()
        except (EOFError, OSError):  # it has gone, and in the middle of a word at that
            return "end", self._lost()
        except Exception as error:
            what, told = "end", RunError(f"what stage {self._stage} has to say cannot be read: {in_one_line(error)}")
        if what == "end":
            self._process.join(_LEAVES_WITHIN_S)
            self.signal(signal.SIGKILL)
        return what, told

    def end(self) -> None:
        """Have it save and leave; at once where it does not."""
        self.signal(signal.SIGTERM)
        self._process.join(self._grace_s + _LEAVES_WITHIN_S)
        self.signal(signal.SIGKILL)

    def _lost(self) -> RunError:
        self._process.join(_LEAVES_WITHIN_S)
        code = self._process.exitcode
        by = "" if code is None else f" by {signal.Signals(-code).name}" if code < 0 else f" with code {code}"
        return RunError(f"the process of stage {self._stage} was ended{by}: the same command goes on")

    def signal(self, signum: int) -> None:
        """Pass a signal on.

        By its number, since what multiprocessing knows of it comes from a server that may have gone.
        """
        if self._process.exitcode is None or self._process.exitcode == _SERVER_HAS_GONE:
            with suppress(ProcessLookupError):
                os.kill(self._process.pid, signum)


def _grace_s(config: JobSettings) -> float:
    """How long a stage's workers may take to save and leave."""
    settings = getattr(config, "finetune", config)
    workers = getattr(settings, "workers", None)
    return workers.grace_s if isinstance(workers, WorkerSettings) else 0.0


def _work(
    pipe: connection.Connection, module: str, config: JobSettings, options: RunOptions, environment: Mapping[str, str]
) -> None:
    """A stage: in its process, from beginning to end."""
    os.setpgid(0, 0)  # a terminal's Ctrl-C is for the pipeline, which passes it on once
    Thread(target=_go_with_the_pipeline, daemon=True, name="pipeline").start()
    os.environ |= environment  # before Ray is imported
    signal.signal(signal.SIGINT, signal.default_int_handler)  # multiprocessing's server ignores it
    received, lock = interrupt_on_sigterm(), Lock()

    def tell(what: str, told: Any) -> None:
        with lock:
            pipe.send((what, told))

    console.listen(lambda line, progress: tell("progress" if progress else "line", line))
    console.quiet(options.verbose)
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)  # the server, of which this is a fork, hears of none
        importlib.import_module(module).run(config, options)
    except KeyboardInterrupt:
        tell("end", InterruptedRunError(f"interrupted by {received[0] if received else 'SIGINT'}"))
    except BaseException as error:
        own = own_error(error)
        if options.verbose and not isinstance(own, UserError):
            traceback.print_exception(error)
        tell("end", own or RunError(in_one_line(error)))
    else:
        tell("end", None)
    sys.stdout.flush()


def _go_with_the_pipeline() -> None:
    """A pipeline that is killed takes its stages with it: what it does not see, nobody would stop."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os.kill(os.getpid(), signal.SIGKILL)
