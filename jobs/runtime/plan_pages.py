"""A plan for its page: what `llmcore.report` draws knows nothing of jobs."""

from collections.abc import Sequence

from jobs.runtime.planning import GIB, PlannedTraining
from jobs.runtime.plans_of import PlannedSearch
from llmcore.cost.plan import USABLE, compute_optimal
from llmcore.report.planned import PlannedJob

__all__ = ["planned_job"]


def planned_job(
    name: str, lines: Sequence[str], training: PlannedTraining | None, search: PlannedSearch | None
) -> PlannedJob:
    """Of a job its plan in words, its training where it trains, and where that is a trial, the search."""
    if training is None:
        return PlannedJob(name, tuple(lines))
    device, placement = training.asked.device, training.placement
    hours, money = training.hours, training.money
    device_hours = None if hours is None else (hours[0] * placement.world_size, hours[1] * placement.world_size)
    if search is not None:
        device_hours, money = search.device_hours, search.money
    of_pretraining = training.pretrains and training.flops is not None
    return PlannedJob(
        name=name,
        lines=tuple(lines),
        stage=placement.stage,
        memory={**training.by_stage, placement.stage: training.memory},
        device=None if device is None else device.name,
        usable=None if device is None else device.memory_gib * GIB * USABLE,
        num_parameters=training.needs.load.sizes.num_parameters,
        num_tokens=training.num_tokens,
        optimum=compute_optimal(training.flops or 0.0) if of_pretraining else None,
        device_hours=device_hours,
        money=money,
        currency=training.asked.currency,
    )
