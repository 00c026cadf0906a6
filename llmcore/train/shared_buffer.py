"""Shared memory that DeepSpeed's ranks on a CPU node exchange through: it goes when they do."""

import os
from pathlib import Path

from torch import distributed

__all__ = ["unlink_shared_buffer"]

_SHARED_MEMORY = Path("/dev/shm")


def unlink_shared_buffer() -> None:
    """Takes away the name of this rank's buffer, once all ranks have opened it. A collective.

    DeepSpeed 0.19.8 never does (`csrc/cpu/comm/shm.cpp`), so that each rank of each run would leave 66 MB of the node's
    memory behind. Without a name it lasts as long as a process holds it, however that ends.
    """
    distributed.barrier()
    place = [os.environ.get(name, "") for name in ("MASTER_ADDR", "MASTER_PORT")]
    name = "_".join(["deepspeed_allreduce_buffer", str(os.getuid()), *place, str(distributed.get_rank())])
    (_SHARED_MEMORY / name).unlink(missing_ok=True)
