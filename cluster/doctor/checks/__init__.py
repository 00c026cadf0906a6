"""Everything the doctor looks at.

A check is a module here with three parts: what a node sees of itself (a function that runs there), what is made of
that (`judge`, a pure function from numbers to findings), and `examine`, which joins them.
"""

from cluster.doctor.checks import (
    authentication,
    clocks,
    compilers,
    dashboard,
    disk,
    gpus,
    groups,
    limits,
    ports,
    shared_memory,
    storage,
    versions,
    zero,
)

__all__ = ["CHECKS"]

CHECKS = (
    versions.CHECK,
    authentication.CHECK,
    dashboard.CHECK,
    ports.CHECK,
    clocks.CHECK,
    storage.CHECK,
    disk.CHECK,
    shared_memory.CHECK,
    limits.CHECK,
    compilers.CHECK,
    gpus.CHECK,
    groups.CHECK,
    zero.CHECK,
)
"""One place, in the order in which findings are told: a check that is not here is not run."""
