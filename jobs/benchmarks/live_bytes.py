"""Bytes of the tensors that live in a process: what ZeRO shares out. The process's own size does not show it."""

import gc
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

__all__ = ["PeakOfLiveBytes", "live_bytes"]


def live_bytes() -> int:
    """Bytes of the unique storages of all tensors that are alive now, gradients included."""
    gc.collect()
    found: dict[int, int] = {}
    for item in gc.get_objects():
        if issubclass(type(item), Tensor):
            for tensor in (item, item.grad if item.is_leaf else None):
                if tensor is not None and tensor.device.type != "meta":
                    storage = tensor.untyped_storage()
                    found[storage.data_ptr()] = storage.nbytes()
    return sum(found.values())


class PeakOfLiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """While it is entered, follows each storage from the first operation that gives or takes it to its end.

    Buffers that an operation has within itself are not seen.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._alive: dict[int, int] = {}
        self.now = 0
        self.peak = 0

    def of(self, tensors: Iterable[Tensor]) -> int:
        """Follows these, too; returns what is alive."""
        for tensor in tensors:
            self._see(tensor.untyped_storage())
        return self.now

    @contextmanager
    def during(self, moments: dict[str, int], name: str) -> Iterator[None]:
        """Notes the peak of a block under a name, what was alive before included."""
        self.peak = self.now
        yield
        moments[name] = max(self.peak, moments.get(name, 0))

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves((args, kwargs, result)):
            if isinstance(leaf, Tensor) and leaf.device.type != "meta":
                self._see(leaf.untyped_storage())
        return result

    def _see(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key not in self._alive:
            self._alive[key] = storage.nbytes()
            self.now += storage.nbytes()
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._forget, key)

    def _forget(self, key: int) -> None:
        self.now -= self._alive.pop(key)
