"""What a rank owns of its parameters, in memory: all of it at any time, or from NVMe one sub-group after the other.

A sub-group is what DeepSpeed's ZeRO-3 optimizer updates, and swaps, at once. How is private to 0.19.8, as the rest is.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from torch import Tensor

from llmcore.train.engine import Engine

__all__ = ["Fragment", "resident", "swapped_in"]


@dataclass(frozen=True)
class Fragment:
    """A range of one parameter, flattened.

    Attributes:
        name: The parameter's.
        shape: That of all of it.
        start: The first element.
        size: Elements in the range.
        keys: What there is of each: its master (`WEIGHT`), and what its optimizer keeps of it.
        state: Live, flat views of that, by key; to be asked for where the fragment is `resident`.
        sub_group: Of the optimizer: what it updates, and swaps, at once.
    """

    name: str
    shape: tuple[int, ...]
    start: int
    size: int
    keys: tuple[str, ...]
    state: Callable[[], dict[str, Tensor]]
    sub_group: int = 0

    @classmethod
    def whole(cls, name: str, shape: tuple[int, ...], state: dict[str, Tensor]) -> "Fragment":
        """All of a parameter, in flat tensors that belong to no optimizer."""
        return cls(name, shape, 0, math.prod(shape), tuple(state), lambda: state)


def resident(engine: Engine, fragments: Iterable[Fragment], *, changed: bool) -> Iterator[list[Fragment]]:
    """Fragments in lots; the state of a lot is in memory until the next one is asked for.

    All are one lot, but for what is on NVMe. What is done to the state is kept if it is told beforehand that it will
    be `changed`.
    """
    in_memory: list[Fragment] = []
    swapped: dict[int, list[Fragment]] = {}
    for fragment in fragments:
        lot = swapped.setdefault(fragment.sub_group, []) if _is_swapped(engine, fragment.sub_group) else in_memory
        lot.append(fragment)
    if in_memory:
        yield in_memory
    for sub_group, lot in swapped.items():
        with swapped_in(engine, sub_group, changed=changed):
            yield lot


@contextmanager
def swapped_in(engine: Engine, sub_group: int, *, changed: bool) -> Iterator[None]:
    """A sub-group's master and moments in memory, where they are not anyway; afterwards written, where `changed`."""
    if not _is_swapped(engine, sub_group):
        yield
        return
    optimizer = engine.zero_optimizer
    is_new = not optimizer.optimizer.state[optimizer.fp32_partitioned_groups_flat[sub_group]]
    optimizer._optimizer_states_and_gradient_swap_in(sub_group)
    try:
        yield
    finally:
        if changed or is_new:  # moments that are made only now are in no file yet
            optimizer._optimizer_states_and_gradient_swap_out(sub_group)
        else:
            optimizer._release_swap_buffers(sub_group)


def _is_swapped(engine: Engine, sub_group: int) -> bool:
    """Whether it is on NVMe; DeepSpeed leaves those of less than a megabyte in memory."""
    swaps = engine.settings.offload.optimizer == "nvme"
    return swaps and bool(engine.zero_optimizer._swappable_optimizer_subgroup(sub_group))
