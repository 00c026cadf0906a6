"""A plan in words."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from llmcore.config.pretrain import PretrainConfig
from llmcore.cost.plan import RankMemory, compute_optimal, largest_micro_batch

if TYPE_CHECKING:
    from jobs.runtime.planning import PlannedTraining
    from jobs.runtime.plans_of import PlannedSearch, PlannedTransfer
    from llmcore.train.needs import Needs

__all__ = ["base_line", "in_bytes", "model_line", "optimum_lines", "plan_lines", "search_lines"]
__all__ += ["transfer_lines"]

_GIB, _MIB = 2**30, 2**20


def model_line(config: PretrainConfig, needs: "Needs") -> str:
    """How large the model is, and where that is known from."""
    begins = "" if config.model.folder is None else f", begins with the weights in {config.model.folder}"
    num_parameters = needs.load.sizes.num_parameters
    if needs.num_rows is not None:
        vocabulary = "vocabulary of the tokens"
    elif config.model.folder is not None:
        vocabulary = "vocabulary it has: the tokens are not there yet"
    else:
        vocabulary = "vocabulary it is planned with: the tokens are not there yet"
    return f"The model has {num_parameters:,} parameters{begins}, with {needs.vocab_size:,} entries, the {vocabulary}"


def base_line(needs: "Needs") -> str:
    """What a fine-tuning trains."""
    sizes = needs.load.sizes
    share = f", {sizes.num_trained / sizes.num_parameters:.1%} of which train" if sizes.num_trained else ""
    return f"The model is a {needs.family} of {sizes.num_parameters:,} parameters{share}; {needs.num_rows:,} examples"


def search_lines(search: "PlannedSearch") -> Iterator[str]:
    """What there is to know before a search begins, beside what one of its trials needs."""
    least, most = search.share
    share = f", which take {least:.0%} of their steps where all are stopped that may be" if least < most else ""
    finals = f", and {search.num_finals} trainings of the best point" if search.num_finals else ""
    at_once = (
        "as many at once as the cluster holds"
        if search.num_concurrent is None
        else (f"{search.num_concurrent} at once")
    )
    yield f"Search: {search.num_trials} trials{share}{finals}; {at_once}"
    if search.device_hours is not None:
        clock = "" if search.hours is None else f", {_times(*search.hours)} by the clock"
        yield f"All trials: {_range(*search.device_hours)} device-hours{clock}"
    if search.money is not None:
        yield f"Money of all trials: {_range(*search.money)} {search.trial.asked.currency}"


def transfer_lines(transfer: "PlannedTransfer") -> Iterator[str]:
    """What there is to know before a transfer begins, beside what its largest point needs."""
    yield f"That is the largest of {transfer.num_points} points; all take {transfer.num_steps:,} steps"
    yield f"FLOPs of all points: {transfer.flops:.3g}"
    if transfer.device_hours is not None:
        yield f"Steps of all points: {_range(*transfer.device_hours)} device-hours"


def plan_lines(plan: "PlannedTraining") -> Iterator[str]:
    """What there is to know before a training begins."""
    needs, placement = plan.needs, plan.placement
    steps = "" if plan.num_steps is None else f", {plan.num_steps:,} steps"
    total = "" if plan.num_tokens is None else f": {_number(plan.num_tokens)} tokens"
    yield f"Tokens: {plan.tokens_per_step:,.0f} a step{steps}{total}"
    flops = "" if plan.flops is None else f", {plan.flops:.3g} in all"
    yield f"FLOPs: {needs.flops_per_token:.4g} a token, forward and backward{flops}"
    ranks = f"each of {placement.world_size} ranks" if placement.world_size > 1 else "one rank"
    yield f"Memory of {ranks} in {needs.load.precision}, {placement.told()}: {_memory(plan.memory)}"
    for stage, memory in plan.by_stage.items():
        if stage != placement.stage:
            yield f"  with ZeRO-{stage}: {_memory(memory)}"
    yield from _fitting(plan)
    if plan.num_checkpoints:
        yield (
            f"Checkpoints: {in_bytes(plan.checkpoint_bytes)} each, {plan.num_checkpoints} kept: "
            f"{in_bytes(plan.checkpoint_bytes * plan.num_checkpoints)}"
        )
    yield from _time_and_money(plan)


def _fitting(plan: "PlannedTraining") -> Iterator[str]:
    device = plan.asked.device
    if device is None:
        return
    stage = plan.smallest_stage
    rows = largest_micro_batch(plan.needs.load, plan.placement, device.memory_gib * _GIB)
    smallest = "no ZeRO stage fits" if stage is None else f"the smallest ZeRO stage that fits is {stage}"
    yield (
        f"On one {device.name} ({device.memory_gib} GiB) {smallest} with this micro batch, and at "
        f"ZeRO-{plan.placement.stage} the largest micro batch has {rows:,} rows"
    )


def _time_and_money(plan: "PlannedTraining") -> Iterator[str]:
    if plan.hours is None:
        return
    asked, num_devices = plan.asked, plan.placement.world_size
    devices = f"{num_devices} x {asked.device.name}" if asked.device else f"{num_devices} devices"
    lowest, highest = asked.utilization
    pace = "as fast as the earlier run" if asked.measured else f"at an MFU of {highest:.0%} to {lowest:.0%}"
    held = [hours * num_devices for hours in plan.hours]
    yield f"Steps take {_times(*plan.hours)} on {devices}, {pace}: {_range(*held)} device-hours"
    if plan.money is not None:
        yield f"Money: {_range(*plan.money)} {asked.currency}"


def optimum_lines(plan: "PlannedTraining") -> Iterator[str]:
    """Of a pre-training: where it stands to the model that would learn most of its FLOPs."""
    if plan.flops is None or plan.num_tokens is None:
        return
    num_parameters, num_tokens = compute_optimal(plan.flops)
    own = plan.needs.load.sizes.num_parameters
    yield (
        f"Of as many FLOPs a model of {_number(num_parameters)} parameters on {_number(num_tokens)} tokens learns most "
        f"(Chinchilla: 20 tokens a parameter); this one has {_number(own)}, and {_short(plan.num_tokens / own)} "
        "tokens a parameter"
    )


def _memory(memory: RankMemory) -> str:
    host = f"; of the host's {in_bytes(memory.host)}" if memory.host else ""
    return (
        f"{in_bytes(memory.device)}: states {in_bytes(memory.states)}, gradients and buffers "
        f"{in_bytes(memory.gradients)}, activations {in_bytes(memory.activations)}{host}"
    )


def in_bytes(number: float) -> str:
    """A number of bytes."""
    return f"{number / _GIB:,.1f} GiB" if number >= _GIB / 10 else f"{number / _MIB:,.1f} MiB"


def _number(number: float) -> str:
    for size, word in ((1e12, "trillion"), (1e9, "billion"), (1e6, "million")):
        if number >= size:
            return f"{number / size:.3g} {word}"
    return f"{number:,.0f}"


def _range(low: float, high: float) -> str:
    return " to ".join(dict.fromkeys(map(_short, (low, high))))


def _times(low: float, high: float) -> str:
    """Hours, in a unit that they are read in."""
    for unit, word in ((1.0, "hours"), (60.0, "minutes")):
        if low * unit >= 2:
            return f"{_range(low * unit, high * unit)} {word}"
    return f"{_range(low * 3600, high * 3600)} seconds"


def _short(number: float) -> str:
    return f"{number:,.0f}" if number >= 100 else f"{number:.2g}"
