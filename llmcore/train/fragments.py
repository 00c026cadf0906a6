"""Where DeepSpeed keeps the fp32 master and Adam's moments that this rank owns, parameter by parameter.

DeepSpeed's own checkpoints are not atomic, tied to the world size, and its universal ones corrupt ZeRO-3 silently
(`docs/decisions/0001`). Here each rank owns fragments of parameters, and any stage and any world size finds the ranges
it needs. The attributes are private to DeepSpeed 0.19.8: the version is pinned, and the reload tests hold them.
"""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, distributed

from llmcore.train.engine import Engine
from llmcore.train.momentum import MOMENTUM, is_muons, own_momentum, whole_momentum
from llmcore.train.resident import Fragment, resident, swapped_in

__all__ = [
    "WEIGHT",
    "allocate_state",
    "fragments_to_read",
    "own_fragments",
    "refresh_weights",
    "restore_scalars",
    "restore_step",
    "scalars",
]

WEIGHT = "weight"
MOMENTS = ("exp_avg", "exp_avg_sq")
_ADAM = (WEIGHT, *MOMENTS)
_LOSS_SCALE = ("cur_scale", "cur_iter", "last_overflow_iter", "cur_hysteresis")


def _adam(engine: Engine) -> torch.optim.Optimizer:
    optimizer = engine.zero_optimizer
    return getattr(optimizer, "optimizer", optimizer)  # type: ignore[no-any-return]


def _flat_masters(engine: Engine) -> list[Tensor]:
    """The fp32 tensors that Adam steps on this rank."""
    optimizer, stage = engine.zero_optimizer, engine.settings.zero_stage
    if stage == 3:
        return list(optimizer.fp32_partitioned_groups_flat)
    if stage in (1, 2):
        # bf16 at stage 1 may be another class of DeepSpeed's, with another name for the same thing.
        shards = getattr(optimizer, "single_partition_of_fp32_groups", None) or optimizer.fp32_groups_flat_partition
        return list(shards)
    return [parameter for group in _adam(engine).param_groups for parameter in group["params"]]


def _with_moments(adam: torch.optim.Optimizer, master: Tensor) -> dict[str, Tensor]:
    """Adam's state of a master, made where no step has been taken yet; torch's fused AdamW wants fp32 steps."""
    state = adam.state[master]
    if "exp_avg" not in state:
        state["step"] = torch.zeros((), dtype=torch.float32, device=master.device)
        state.update({key: torch.zeros_like(master.data) for key in MOMENTS})
    return state  # type: ignore[no-any-return]


def own_fragments(engine: Engine) -> Iterator[Fragment]:
    """What this rank owns, in the order of the model's parameters; tied parameters appear once."""
    adam = _adam(engine)
    stage, optimizer = engine.settings.zero_stage, engine.zero_optimizer
    masters = _flat_masters(engine)
    named: list[tuple[str, Any]] = [(name, p) for name, p in engine.model.named_parameters() if p.requires_grad]
    rank, world_size = distributed.get_rank(), distributed.get_world_size()
    for index, (name, parameter) in enumerate(named):
        if stage == 3:
            group, offset, size = optimizer.grad_position[optimizer.get_param_id(parameter)]
            start, shape = size * rank, tuple(parameter.ds_shape)
            size = max(0, min(size, parameter.ds_numel - start))  # the last partition is padded
        elif stage in (1, 2):
            mapping: Any = parameter._hp_mapping
            if mapping is None:
                continue  # this rank owns nothing of it
            # Not `optim_fragment`: it is linked for the first group alone.
            group, shape = mapping.param_group_index, tuple(parameter.shape)
            start, size = mapping.lp_fragment_address.start, mapping.lp_fragment_address.numel
            offset = mapping.hp_fragment_address.start
        else:
            if index % world_size == rank:  # replicated: each parameter is written by one rank
                yield _replicated(adam, name, parameter)
            continue
        if size > 0:
            muons = is_muons(engine, parameter)
            state = (
                partial(_muon, engine, parameter, masters[group], offset, start, size)
                if muons
                else partial(_views, adam, masters[group], offset, size)
            )
            yield Fragment(name, shape, start, size, (WEIGHT, MOMENTUM) if muons else _ADAM, state, group)


def _replicated(adam: torch.optim.Optimizer, name: str, parameter: Tensor) -> Fragment:
    size = parameter.numel()
    state = partial(_views, adam, parameter, 0, size)
    return Fragment(name, tuple(parameter.shape), 0, size, _ADAM, state)


def _views(adam: torch.optim.Optimizer, master: Tensor, offset: int, size: int) -> dict[str, Tensor]:
    state = _with_moments(adam, master)
    flat = {WEIGHT: master.data, **{key: state[key] for key in MOMENTS}}
    return {key: tensor.view(-1).narrow(0, offset, size) for key, tensor in flat.items()}


def _muon(engine: Engine, parameter: Any, master: Tensor, offset: int, start: int, size: int) -> dict[str, Tensor]:
    weight = master.data.view(-1).narrow(0, offset, size)
    return {WEIGHT: weight, MOMENTUM: own_momentum(engine, parameter, master, start, size)}


def fragments_to_read(engine: Engine) -> Iterator[Fragment]:
    """What this rank must read: what it owns, or at stage 0 every parameter, since each rank has them all."""
    if engine.settings.zero_stage > 0:
        yield from own_fragments(engine)
        if engine.settings.zero_stage < 3:
            yield from _whole_momenta(engine)
        return
    adam = _adam(engine)
    for name, parameter in engine.model.named_parameters():
        if parameter.requires_grad:
            yield _replicated(adam, name, parameter)


def _whole_momenta(engine: Engine) -> Iterator[Fragment]:
    masters = _flat_masters(engine)
    for name, parameter in engine.model.named_parameters():
        mapping: Any = getattr(parameter, "_hp_mapping", None)
        if mapping is not None and is_muons(engine, parameter):
            whole = whole_momentum(engine, parameter, masters[mapping.param_group_index])
            yield Fragment.whole(name, tuple(parameter.shape), {MOMENTUM: whole})


def allocate_state(engine: Engine) -> None:
    """Makes what the optimizer keeps, as its first step would."""
    for lot in resident(engine, fragments_to_read(engine), changed=True):
        for fragment in lot:
            fragment.state()


def restore_step(engine: Engine, step: int) -> None:
    """Tells Adam how many steps it has taken: one tensor of its own for each master, or they would share it."""
    adam = _adam(engine)
    for master in _flat_masters(engine):
        if MOMENTUM in adam.state[master]:
            continue  # Muon's step does not depend on how many there were
        _with_moments(adam, master)["step"] = torch.tensor(float(step), device=master.device)


def scalars(engine: Engine) -> dict[str, float]:
    """What DeepSpeed's optimizer keeps beside its tensors, the same on each rank: where fp16's loss scale stands."""
    scaler = getattr(engine.zero_optimizer, "loss_scaler", None)
    return {key: getattr(scaler, key) for key in _LOSS_SCALE} if scaler is not None and scaler.dynamic else {}


def restore_scalars(engine: Engine, saved: Mapping[str, float]) -> None:
    """Puts them back, where this run's precision has them too."""
    for key in scalars(engine).keys() & saved.keys():
        setattr(engine.zero_optimizer.loss_scaler, key, saved[key])


def refresh_weights(engine: Engine) -> None:
    """After fragments are overwritten: the weights the model computes with, from the fp32 masters."""
    optimizer, stage = engine.zero_optimizer, engine.settings.zero_stage
    if stage in (1, 2):
        optimizer.update_lp_params()
    elif stage == 3:
        for sub_group in range(len(optimizer.fp32_partitioned_groups_flat)):
            with swapped_in(engine, sub_group, changed=False):
                optimizer._reassign_or_swap_out_partitioned_parameters(sub_group)
        kept = optimizer.persistent_parameters
        if kept:
            kept[0].partition(kept)
            kept[0].all_gather(kept)
