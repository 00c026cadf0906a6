"""How the stages of a pipeline stand and what they have cost, from the attempts of their runs."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from llmcore.records import RunStatus, attempt_folder, attempt_numbers, lived
from llmcore.report.model import Fit, StageReport
from llmcore.report.reading import Records, leaves, told_error
from llmcore.report.recorded import CostRecord, EndRecord, RunRecord
from llmcore.report.words import moment
from llmcore.storage import Folder

__all__ = ["stage_report"]

_TRIAL_FITS = 4


@dataclass(frozen=True)
class _Attempt:
    number: int
    span: tuple[float, float]
    end: EndRecord
    cost: CostRecord | None


def stage_report(
    records: Records, stage: str, job: str, status: RunStatus | None
) -> tuple[StageReport, Mapping[str, Any]]:
    """How a stage stands and what it has cost, and the result of its last start. Raises StorageError."""
    run = records.run(stage)
    if status is None:
        return StageReport(stage, run.name, job=job), {}
    about = records.read(RunRecord, run, "run.json") or RunRecord()
    attempts = [_attempt(records, run, number) for number in attempt_numbers(run)]
    costs = [attempt.cost for attempt in attempts if attempt.cost]
    end = attempts[-1].end if attempts else EndRecord()
    last = costs[-1] if costs else CostRecord()
    result = end.result or {}
    seconds = _summed(cost.seconds for cost in costs)
    device_seconds = _summed(cost.device_seconds for cost in costs)
    if lost := sum(attempt.span[1] - attempt.span[0] for attempt in attempts if not attempt.cost):
        seconds["lost"], device_seconds["lost"] = lost, lost * (last.devices or 1)
    told = StageReport(
        stage=stage,
        run=run.name,
        job=job,
        status=status.status,
        started=moment(status.started),
        num_attempts=len(attempts),
        fingerprint=about.fingerprint,
        versions={name: str(version) for name, version in about.versions.items() if version is not None},
        error=told_error(end.error),
        device=last.device or "",
        num_devices=last.devices,
        seconds=seconds,
        device_seconds=device_seconds,
        fits=tuple(_fits(records, stage, job, attempts)),
        spans=tuple(attempt.span for attempt in attempts),
        flops=_sum_known(cost.flops for cost in costs),
        tokens=_sum_known(cost.tokens for cost in costs),
        mfu=last.mfu,
        money=_sum_known(cost.money for cost in costs),
        energy_j=_sum_known(cost.energy_j for cost in costs),
        counts=dict(leaves(result.get("counts"), (int,))),
        dropped=_left_out(result),
    )
    return told, result


def _attempt(records: Records, run: Folder, number: int) -> _Attempt:
    folder = attempt_folder(run, number)
    end = records.read(EndRecord, folder, "end.json") or EndRecord()
    started, last = lived(folder)
    return _Attempt(
        number,
        span=(started, max(started, end.ended or last)),
        end=end,
        cost=records.read(CostRecord, folder, "cost.json"),
    )


def _fits(records: Records, stage: str, job: str, attempts: list[_Attempt]) -> Iterator[Fit]:
    """Start-up of each attempt; of a search, that of its first trials, each of which starts workers."""
    if job == "tune":
        trials = records.run(stage) / "trials"
        for name in trials.names()[:_TRIAL_FITS]:
            cost = records.read(CostRecord, trials / name, "cost.json")
            if cost and cost.start_up_parts:
                yield Fit(f"trial {name}", cost.start_up_parts)
        return
    for attempt in attempts:
        if attempt.cost and attempt.cost.start_up_parts:
            name = stage if len(attempts) == 1 else f"{stage}, attempt {attempt.number}"
            yield Fit(name, attempt.cost.start_up_parts)


def _left_out(result: Mapping[str, Any]) -> dict[str, int]:
    dropped = dict(leaves(result.get("dropped"), (int,)))
    passed_over = result.get("passed_over_checkpoints")
    told = {"checkpoints passed over": len(passed_over)} if isinstance(passed_over, list) and passed_over else {}
    return dropped | told


def _summed(parts: Iterator[dict[str, float]]) -> dict[str, float]:
    total: dict[str, float] = {}
    for part in parts:
        for name, value in part.items():
            total[name] = total.get(name, 0.0) + value
    return total


def _sum_known(values: Iterator[Any]) -> Any:
    known = [value for value in values if value is not None]
    return sum(known) if known else None
