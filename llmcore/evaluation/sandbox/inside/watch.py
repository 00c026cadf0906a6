"""One program seen from outside: its start, its time, its output, its end."""

import os
import select
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NoReturn

from llmcore.evaluation.sandbox.inside.confine import confine
from llmcore.evaluation.sandbox.inside.judge import OUT_OF_MEMORY, judge
from llmcore.evaluation.sandbox.limits import Limits

__all__ = ["Seen", "Watch"]

_CONFINED = b"confined\n"
_PROOF_BYTES = 32
# More than that no honest report has.
_REPORT_BYTES = 4096
_CHUNK = 1 << 16


@dataclass(frozen=True)
class Seen:
    """What came of a program; `refused` says why it was not run at all."""

    status: str
    seconds: float
    stderr: str = ""
    signal: int | None = None
    refused: str | None = None


class Watch:
    """Runs one program under `limits`; gives up where the other end of `requests` is gone."""

    def __init__(self, limits: Limits, requests: int) -> None:
        self._limits = limits
        self._requests = requests
        self._num_output_bytes = 0
        self._stderr = b""
        self._report = b""
        self._readers: dict[int, str] = {}

    def over(self, request: Any, seccomp_filter: bytes) -> Seen:
        """Run the program that `request` tells."""
        begun = time.monotonic()
        ends = {name: os.pipe() for name in ("stdout", "stderr", "report")}
        proof_reader, proof_writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            writers = [ends[name][1] for name in ("stdout", "stderr", "report")]
            _be_program(request, self._limits, seccomp_filter, [*writers, proof_reader])
        # Made after the fork, so that it never was in the program's memory.
        proof = os.urandom(_PROOF_BYTES)
        os.write(proof_writer, proof)
        for descriptor in (proof_reader, proof_writer, *(writer for _, writer in ends.values())):
            os.close(descriptor)
        self._readers = {reader: name for name, (reader, _) in ends.items()}
        try:
            stopped = self._wait(pid, begun + self._limits.wall_s)
            code, cpu_s = _end_all(pid)
            # What it had written and nobody read yet. All writers are dead, so there is an end.
            while self._readers and not self._too_much():
                self._read(list(self._readers))
        finally:
            for reader in self._readers:
                os.close(reader)
        stderr = self._stderr[-self._limits.stderr_bytes :].decode(errors="replace")
        if not self._report.startswith(_CONFINED):
            refused = self._report.decode(errors="replace") or f"exit code {code} before it was confined"
            return Seen("failed", time.monotonic() - begun, refused=refused)
        status = self._status(stopped, code, cpu_s, self._report.removeprefix(_CONFINED) == proof[::-1])
        died = -code if status == "ended_by_signal" else None
        return Seen(status, time.monotonic() - begun, stderr, died)

    def _status(self, stopped: str | None, code: int, cpu_s: float, proven: bool) -> str:
        if self._too_much():
            return "too_much_output"
        if stopped:
            return stopped
        # SIGKILL comes one second later, to a program that ignores SIGXCPU.
        if code == -signal.SIGXCPU or (code == -signal.SIGKILL and cpu_s >= self._limits.cpu_s):
            return "timed_out"
        if self._report.removeprefix(_CONFINED) == OUT_OF_MEMORY:
            return "out_of_memory"
        if code < 0:
            return "ended_by_signal"
        return "passed" if code == 0 and proven else "failed"

    def _wait(self, pid: int, deadline: float) -> str | None:
        """Read until the program ends; why it has to be stopped where it does not."""
        ended = os.pidfd_open(pid)
        poll = select.poll()
        try:
            for descriptor in (*self._readers, ended):
                poll.register(descriptor, select.POLLIN)
            poll.register(self._requests, 0)  # told is a hang-up alone
            while not self._too_much():
                left = deadline - time.monotonic()
                ready = [descriptor for descriptor, _ in poll.poll(left * 1000)] if left > 0 else []
                if not ready:
                    return "timed_out"
                if self._requests in ready:
                    os._exit(0)  # and all that is in the namespace ends with process 1
                for closed in self._read([descriptor for descriptor in ready if descriptor in self._readers]):
                    poll.unregister(closed)
                if ended in ready:
                    return None
            return "too_much_output"
        finally:
            os.close(ended)

    def _read(self, ready: list[int]) -> list[int]:
        """One chunk of each; which of them are at their end, and closed."""
        closed = []
        for reader in ready:
            chunk = os.read(reader, _CHUNK)
            if not chunk:
                os.close(reader)
                del self._readers[reader]
                closed.append(reader)
            elif self._readers[reader] == "report":
                self._report = (self._report + chunk)[:_REPORT_BYTES]
            else:
                self._num_output_bytes += len(chunk)
                if self._readers[reader] == "stderr":
                    self._stderr = (self._stderr + chunk)[-self._limits.stderr_bytes :]
        return closed

    def _too_much(self) -> bool:
        return self._num_output_bytes > self._limits.output_bytes


def _end_all(pid: int) -> tuple[int, float]:
    """End all processes of the namespace but this; exit code of `pid` (below zero: a signal), its processor seconds."""
    code, cpu_s = 0, 0.0
    while True:
        with suppress(ProcessLookupError):
            os.kill(-1, signal.SIGKILL)
        try:
            ended, status, used = os.wait4(-1, 0)
        except ChildProcessError:
            return code, cpu_s
        if ended == pid:
            code, cpu_s = os.waitstatus_to_exitcode(status), used.ru_utime + used.ru_stime


def _be_program(request: Any, limits: Limits, seccomp_filter: bytes, descriptors: list[int]) -> NoReturn:
    """In the child: take the descriptors as 1 to 4 with nothing at 0, confine this process, judge."""
    report = descriptors[2]
    try:
        for wanted, descriptor in enumerate([os.open("/dev/null", os.O_RDONLY), *descriptors]):
            # The pipes' own numbers lie above: they were opened after the three of requests and answers.
            os.dup2(descriptor, wanted)
        report = 3
        os.closerange(len(descriptors) + 1, os.sysconf("SC_OPEN_MAX"))
        confine(limits, seccomp_filter)
        os.write(report, _CONFINED)
    except BaseException as error:
        os.write(report, (getattr(error, "strerror", None) or repr(error)).encode())
        os._exit(1)
    judge(request["code"], request["setup"], request["tests"], report=3, proof=4)
