"""`transfer`: what pre-training buys. Fine-tunes with it and without it at several budgets, in one worker group."""

import time
from collections.abc import Iterator, Mapping
from typing import Any

from jobs.finetune import Inputs, check_fits_cluster, check_method, check_task, find_inputs, parents_of, plan_of_data
from jobs.runtime.budget import check_budget, within_budget
from jobs.runtime.console import say
from jobs.runtime.options import RunOptions
from jobs.runtime.start import find_or_do
from llmcore.config.labelled import told_data
from llmcore.config.transfer import Point, TransferConfig
from llmcore.errors import InterruptedRunError
from llmcore.evaluation.transfer import COSTS, PretrainingCost, TransferOutcome, finished_points, transfer_outcome
from llmcore.records import Attempt, begin_attempt, finished_result, spent_on_training
from llmcore.storage import Folder, publish, read_manifest, readable_json
from llmcore.tasks import task_class
from llmcore.tasks.subsets import Subset, check_subsets, publish_subsets
from llmcore.train.lengths import num_steps
from llmcore.train.place import Place

__all__ = ["RESULTS", "course", "finished", "plan", "result_lines", "run", "transfer"]

KIND = "transfer"
STEP_VERSION = 1
RESULTS = "transfer"
"""Folder of the run with what the points come to."""


def run(config: TransferConfig, options: RunOptions) -> None:
    """`python -m jobs transfer`."""
    result, storage = find_or_do(config, options, finished, lambda storage, _: transfer(config, storage, options))
    for line in result_lines(result, storage):
        say(line)


def result_lines(result: Mapping[str, Any], storage: Folder) -> Iterator[str]:
    """The result for a person: what the report says above its figures."""
    yield from (f"transfer: {line}" for line in result["told"])
    yield f"transfer: {result['num_points']} points, in {storage.url}/{result['results']}"


def plan(config: TransferConfig) -> list[str]:
    """What `--dry-run` says: the points, and what they need."""
    from jobs.plan import needed_lines

    return [*course(config), *needed_lines(config)]


def course(config: TransferConfig) -> list[str]:
    """What is done; needs no model. Raises `CorpusError`, `ConfigError` for labelled data that is wrong."""
    points = config.points()
    return [
        f"Fine-tunes {config.base} on {told_data(config.data)}, from its weights and from random ones: {len(points)} "
        f"points, one after the other on {config.workers.told()} workers, ZeRO-{config.train.zero_stage}",
        f"Labels: {_listed(config.labels)}; epochs: {_listed(config.epochs)}; seeds: {_listed(config.seeds)}; "
        f"{_total_steps(config):,} steps in all",
        "Each is judged after its last step on the validation split; the test split is not opened",
        *plan_of_data(config.data, config.task),
    ]


def _listed(values: list[int] | list[float]) -> str:
    return ", ".join(f"{value:g}" if isinstance(value, float) else f"{value:,}" for value in sorted(values))


def _total_steps(config: TransferConfig) -> int:
    """Of all points, where each row is an example."""
    return sum(num_steps(config.settings_of(point).train, point.labels) for point in config.points())


def finished(config: TransferConfig, storage: Folder) -> dict[str, Any] | None:
    """The result of an earlier start, if there is nothing left to do; else what is left was checked.

    Raises `CorpusError`, `ConfigError` for what is not there or does not go together.
    """
    return _finished(config, storage, find_inputs(storage, config.base, config.data, config.task))


def _finished(config: TransferConfig, storage: Folder, inputs: Inputs) -> dict[str, Any] | None:
    result = finished_result(storage, config, kind=KIND, step_version=STEP_VERSION, inputs=inputs.hashes())
    if result and read_manifest(storage / result["results"]) is not None:
        return result
    check_task(config.task, inputs)
    check_subsets(inputs.data, map(_subset, config.points()))
    return None


def _subset(point: Point) -> Subset:
    return Subset(point.labels, point.seed)


def transfer(config: TransferConfig, storage: Folder, options: RunOptions) -> dict[str, Any]:
    """Trains the points that are not there yet, and publishes what all of them come to; Ray is connected.

    Raises `ConfigError` for what the cluster cannot hold, `RunError` with ranks and reasons.
    """
    inputs = find_inputs(storage, config.base, config.data, config.task)
    result = _finished(config, storage, inputs)
    if result is not None:
        return result
    points = config.points()
    one = config.finetuning(points[0])
    check_fits_cluster(one)
    check_method(one, inputs)
    check_budget(config.budget, storage / config.name, config.workers.num_workers)
    attempt = begin_attempt(
        storage,
        config,
        kind=KIND,
        step_version=STEP_VERSION,
        inputs=inputs.hashes(),
        parents=parents_of(config.base, config.data),
        allow_changes=options.allow_changes,
        say=say,
    )
    for line in inputs.labelled.lines():
        say(line)
    with attempt, within_budget(config.budget, attempt, config.workers.num_workers, KIND):
        there = finished_points(attempt.run, points)
        if len(there) < len(points):
            if there:
                say(f"{len(there)} of {len(points)} points are there, and the others are trained")
            _train(config, inputs, attempt, options)
        about = {"base": config.base, "data": inputs.data.name, "data_hash": inputs.data.hash}
        outcome = transfer_outcome(config, attempt.run, inputs.data, _pretraining(config, storage), about)
        attempt.check_newest()
        attempt.result.update(_publish(outcome, attempt.run, len(points)))
    return attempt.result


def _train(config: TransferConfig, inputs: Inputs, attempt: Attempt, options: RunOptions) -> None:
    from jobs.runtime.training import charge, run_workers, watched

    points, storage = config.points(), attempt.run.parent
    sets = publish_subsets(storage, inputs.data, task_class(config.task.kind).set_kind, map(_subset, points))
    started = time.perf_counter()
    spec = {
        "kind": KIND,
        "config": config.model_dump(mode="json"),
        "place": Place.of(attempt).as_json(),
        "verbose": options.verbose,
        "points": [[list(point), sets[_subset(point)].folder.url] for point in points],
        **inputs.reads(),
    }
    with watched(attempt.folder, config.name, _total_steps(config)):
        outcome = run_workers(spec, config.workers)
    charge(attempt.ledger, outcome, time.perf_counter() - started, attempt.folder)
    if outcome["stopped"]:
        num_there = len(finished_points(attempt.run, points))
        raise InterruptedRunError(
            f"interrupted; {num_there} of {len(points)} points are there, and the same command goes on with the others"
        )


def _pretraining(config: TransferConfig, storage: Folder) -> PretrainingCost:
    """What the base model has cost: as the configuration says, or else the attempts of its run."""
    given = {cost: getattr(config.pretraining, cost) for cost in COSTS}
    sources = ["pretraining in the configuration"] if any(value is not None for value in given.values()) else []
    spent = spent_on_training(storage, config.base) if None in given.values() else None
    if spent is not None:
        of_points = {one.about["device"] for one in finished_points(storage / config.name, config.points()).values()}
        recorded = {"device_seconds": spent.device_seconds or None, "flops": spent.flops or None}
        sources.append(f"the attempts of {', '.join(spent.runs)}")
        if given["device_seconds"] is None and {*spent.devices} != of_points:
            recorded["device_seconds"] = None
            devices = ", ".join(spent.devices), ", ".join(sorted(of_points))
            sources.append(f"seconds of {devices[0]} are not those of {devices[1]}, on which the points ran")
        given = {cost: recorded[cost] if value is None else value for cost, value in given.items()}
    unknown = f"{config.base} is no run that trained here, and pretraining.device_seconds is not given"
    return PretrainingCost(**given, source="; ".join(sources) or unknown)


def _publish(outcome: TransferOutcome, run: Folder, num_points: int) -> dict[str, Any]:
    """Publishes the results; returns what the run's result has of them."""
    from llmcore.report.transfer import render_transfer
    from llmcore.report.transfer_words import sentences

    record = outcome.to_json()
    with publish(run / RESULTS, "transfer", {"metric": outcome.metric}) as publication:
        publication.write_bytes("transfer.json", readable_json(record))
        publication.write_bytes("transfer.csv", outcome.to_csv().encode())
        publication.write_bytes("report.html", render_transfer(outcome).encode())
    return {
        "results": f"{run.name}/{RESULTS}",
        "told": sentences(outcome),
        "num_points": num_points,
        "num_diverged": len(outcome.diverged),
        **{name: record[name] for name in ("metric", "pretraining", "paid_off", "equal_by_cost")},
    }
