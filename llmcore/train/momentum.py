"""Where DeepSpeed keeps Muon's momentum.

At ZeRO-3 it lies beside the flat master, as Adam's moments do. At ZeRO 1 and 2 a rank has the momentum of each matrix
that it owns any part of, whole: to make an update orthogonal takes the whole matrix.
"""

from typing import Any

import torch
from torch import Tensor

from llmcore.train.engine import Engine

__all__ = ["MOMENTUM", "is_muons", "own_momentum", "whole_momentum"]

MOMENTUM = "momentum_buffer"


def is_muons(engine: Engine, parameter: Any) -> bool:
    """Whether Muon updates it, and not the AdamW beside it."""
    return engine.settings.optimizer.kind == "muon" and bool(parameter.use_muon)


def own_momentum(engine: Engine, parameter: Any, master: Tensor, start: int, size: int) -> Tensor:
    """The momentum of elements `start` … `start + size` of a parameter, which this rank owns: a flat view."""
    if engine.settings.zero_stage == 3:
        optimizer = engine.zero_optimizer
        _, offset, _ = optimizer.grad_position[optimizer.get_param_id(parameter)]
        return _buffer(engine, master, master.numel(), optimizer.communication_data_type).narrow(0, offset, size)
    return whole_momentum(engine, parameter, master).narrow(0, start, size)


def whole_momentum(engine: Engine, parameter: Any, master: Tensor) -> Tensor:
    """At ZeRO 1 and 2 the momentum of a parameter of which this rank owns a part: a flat view."""
    group = parameter._hp_mapping.param_group_index
    offset = num_elements = 0
    for other in engine.zero_optimizer.params_in_partition[group]:
        if other is parameter:
            offset = num_elements
        num_elements += other.numel()
    # DeepSpeed converts it to the gradients' number format when it first uses it.
    return _buffer(engine, master, num_elements, torch.float32).narrow(0, offset, parameter.numel())


def _buffer(engine: Engine, master: Tensor, num_elements: int, dtype: torch.dtype) -> Tensor:
    """The momentum of a group, made where no step has been taken yet."""
    state: dict[str, Tensor] = engine.zero_optimizer.optimizer.state[master]
    if MOMENTUM not in state:
        state[MOMENTUM] = torch.zeros(num_elements, dtype=dtype, device=master.device)
    return state[MOMENTUM]
