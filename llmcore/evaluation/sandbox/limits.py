"""How much a program may take."""

from dataclasses import dataclass

__all__ = ["Limits"]

MIB = 2**20
# With less the interpreter itself does not get along, and every program would be blamed.
_LEAST = {"memory_bytes": 64 * MIB, "num_open_files": 8}


@dataclass(frozen=True)
class Limits:
    """What one program may use, each of it enforced by the kernel or by the keeper, none of it by trust.

    A program is one process (a second one is refused whatever the limits), so that `memory_bytes` is all of it.

    Attributes:
        cpu_s: Processor seconds (RLIMIT_CPU). They judge a busy loop alike on an idle and on a busy machine.
        wall_s: Seconds by the clock, for what sleeps or waits.
        memory_bytes: Address space (RLIMIT_AS), the interpreter's own 30 MB included.
        scratch_bytes: Size of the folder it may write in; a single file may be as large (RLIMIT_FSIZE).
        num_files: Files and folders in it.
        num_open_files: Open at once (RLIMIT_NOFILE).
        num_threads: Threads at once (RLIMIT_NPROC).
        output_bytes: Standard output and error together; at the first byte more it is ended.
        stderr_bytes: How much of the end of standard error is kept.
    """

    cpu_s: int = 5
    wall_s: float = 20.0
    memory_bytes: int = 1024 * MIB
    scratch_bytes: int = 16 * MIB
    num_files: int = 256
    num_open_files: int = 64
    num_threads: int = 16
    output_bytes: int = MIB
    stderr_bytes: int = 2048

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value <= 0 or value < _LEAST.get(name, 0):
                least = f"{_LEAST[name]} or more" if name in _LEAST else "above zero"
                raise ValueError(f"sandbox limit {name}={value}: it must be {least}")
