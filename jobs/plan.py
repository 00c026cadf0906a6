"""`python -m jobs plan`: what a training will need and cost, without a GPU and without a cluster."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from cluster.connect import inside_ray_job
from jobs.runtime.console import say
from jobs.runtime.plan_words import base_line, model_line, optimum_lines, plan_lines, search_lines, transfer_lines
from jobs.runtime.planning import Asked, PlannedTraining
from jobs.runtime.plans_of import (
    PlannedSearch,
    plan_of_fine_tuning,
    plan_of_pretraining,
    plan_of_search,
    plan_of_transfer,
)
from jobs.runtime.references import existing_run
from llmcore.config import load_config
from llmcore.config.common import JobSettings
from llmcore.config.finetune import FinetuneConfig
from llmcore.config.loading import top_level_keys
from llmcore.config.pipeline import PipelineConfig
from llmcore.config.prepare import PrepareConfig
from llmcore.config.pretrain import PretrainConfig
from llmcore.config.prices import PricesConfig
from llmcore.config.transfer import TransferConfig
from llmcore.config.tune import TuneConfig
from llmcore.cost.devices import device_named
from llmcore.errors import ConfigError, CorpusError
from llmcore.records import attempt_folder, attempt_numbers
from llmcore.storage import Folder, resolve_storage

__all__ = ["PRICES", "PlanOptions", "asked", "needed_lines", "plan"]

PRICES = Path("configs/plan/prices.yaml")
"""Taken where it is there and no other is named."""


@dataclass(frozen=True)
class PlanOptions:
    """What the command line asks.

    Attributes:
        device: Name of a GPU.
        num_devices: How many.
        utilization: `0.4`, or `0.3:0.5`.
        like: An earlier run, by name or URL, whose pace is taken.
        prices: A file of prices.
        vocab_size: Entries of the vocabulary of tokens that are not there yet.
        sequence_length: Tokens of a row of them.
        as_json: Whether a program reads it.
        html: A file to write a page to, besides.
    """

    device: str | None = None
    num_devices: int | None = None
    utilization: str = "0.3:0.5"
    like: str | None = None
    prices: Path | None = None
    vocab_size: int | None = None
    sequence_length: int | None = None
    as_json: bool = False
    html: Path | None = None


def plan(path: Path, overrides: Sequence[str], options: PlanOptions) -> None:
    """Say what the trainings of a configuration need: of a pre-training, a fine-tuning, a search, or a pipeline's.

    Raises ConfigError for a configuration, a device or a price that is none, and where a training does not fit the
    device, with the nearest that would; CorpusError where a fine-tuning's model or data are not there.
    """
    if options.html is not None and (options.html.is_dir() or not options.html.absolute().parent.is_dir()):
        raise ConfigError(f"--html {options.html}: give a file in a folder that is there")
    config = load_config(_kind(path, overrides), path, overrides)
    storage = resolve_storage(config.storage, inside_ray_job=inside_ray_job())
    wanted = asked(options, storage)
    found: dict[str, _Planned] = {}
    if isinstance(config, PipelineConfig):
        for stage, job in config.jobs.items():
            found[stage] = _of_stage(config, stage, job, storage, wanted, options)
    else:
        found[config.name] = _planned(config, storage, wanted, options.vocab_size, options.sequence_length)
    if options.as_json:
        records = {name: one.record for name, one in found.items()}
        print(json.dumps(records if isinstance(config, PipelineConfig) else records[config.name], indent=2))
    for name, one in found.items() if not options.as_json else ():
        say(f"{name}:")
        for line in one.lines:
            say(f"  {line}")
    if options.html is not None:
        from jobs.runtime.plan_pages import planned_job
        from llmcore.report.planned import render_plan

        jobs = [planned_job(name, one.lines, one.training, one.search) for name, one in found.items()]
        options.html.write_text(render_plan(config.name, jobs), encoding="utf-8")
    for one in found.values():
        if one.training is not None:
            one.training.check_fits()


def needed_lines(config: "_Training") -> list[str]:
    """What a dry run says of a training: what it needs, or why nobody knows yet. Raises ConfigError."""
    storage = resolve_storage(config.storage, inside_ray_job=inside_ray_job())
    try:
        return _planned(config, storage, Asked(), None, None).lines
    except CorpusError as error:
        return [f"What it needs is not known yet: {error}"]


_Training = PretrainConfig | FinetuneConfig | TuneConfig | TransferConfig


class _Planned(NamedTuple):
    """A job's plan: in words, as JSON, what has to fit a device, and of a search that."""

    lines: list[str]
    record: dict[str, Any] | None
    training: PlannedTraining | None
    search: PlannedSearch | None = None


def _kind(path: Path, overrides: Sequence[str]) -> type[_Training | PipelineConfig]:
    """Which command a configuration is of, by the keys that it alone has."""
    keys = top_level_keys(path) | {override.partition("=")[0].partition(".")[0] for override in overrides}
    if "stages" in keys:
        return PipelineConfig
    if "space" in keys:
        return TuneConfig
    if "labels" in keys:
        return TransferConfig
    if "base" in keys:
        return FinetuneConfig
    if "sources" in keys:
        raise ConfigError(f"{path} prepares a corpus, and what is planned are trainings: plan its pipeline instead")
    return PretrainConfig


def _planned(
    config: _Training, storage: Folder, wanted: Asked, vocab_size: int | None, sequence_length: int | None
) -> _Planned:
    if isinstance(config, PretrainConfig):
        training = plan_of_pretraining(config, storage, wanted, vocab_size, sequence_length)
        lines = [model_line(config, training.needs), *plan_lines(training), *optimum_lines(training)]
        return _Planned(lines, training.record(), training)
    if isinstance(config, FinetuneConfig):
        training = plan_of_fine_tuning(config, storage, wanted)
        return _Planned([base_line(training.needs), *plan_lines(training)], training.record(), training)
    if isinstance(config, TransferConfig):
        transfer = plan_of_transfer(config, storage, wanted)
        lines = [base_line(transfer.largest.needs), *plan_lines(transfer.largest), *transfer_lines(transfer)]
        return _Planned(lines, transfer.record(), transfer.largest)
    search = plan_of_search(config, storage, wanted)
    lines = [base_line(search.trial.needs), *plan_lines(search.trial), *search_lines(search)]
    return _Planned(lines, search.record(), search.trial, search)


def _of_stage(
    config: PipelineConfig, stage: str, job: JobSettings, storage: Folder, wanted: Asked, options: PlanOptions
) -> _Planned:
    """A stage's plan; what reads what no stage has made yet is planned when that is there."""
    if not isinstance(job, PretrainConfig | FinetuneConfig | TuneConfig):
        return _Planned([f"{config.job(stage)} trains no model of its own"], None, None)
    vocab_size, sequence_length = options.vocab_size, options.sequence_length
    for needed in config.needs(stage):
        prepared = config.jobs[needed]
        if isinstance(prepared, PrepareConfig):
            vocab_size = vocab_size or prepared.tokenizer.vocab_size
            sequence_length = sequence_length or prepared.packing.sequence_length
    try:
        return _planned(job, storage, wanted, vocab_size, sequence_length)
    except CorpusError as error:
        if not config.needs(stage):
            raise
        return _Planned([f"is planned when {', '.join(sorted(config.needs(stage)))} is done: {error}"], None, None)


def asked(options: PlanOptions, storage: Folder) -> Asked:
    """What the options ask. Raises ConfigError for what they name and is not there."""
    device = None if options.device is None else device_named(options.device)
    prices = _prices(options.prices)
    price = prices.devices.get(device.name) if device is not None and prices is not None else None
    return Asked(
        device,
        options.num_devices,
        _utilization(options.utilization),
        None if options.like is None else _measured(storage, options.like),
        None if price is None else (price[0], price[1]),
        "USD" if prices is None else prices.currency,
    )


def _prices(path: Path | None) -> PricesConfig | None:
    if path is None and not PRICES.exists():
        return None
    prices = load_config(PricesConfig, path or PRICES)
    for name in prices.devices:
        device_named(name)
    return prices


def _utilization(given: str) -> tuple[float, float]:
    try:
        parts = [float(part) for part in given.split(":")]
    except ValueError:
        parts = []
    if not 1 <= len(parts) <= 2 or not 0 < parts[0] <= parts[-1] <= 1:
        raise ConfigError(f"--mfu {given}: give a share of the peak, 0.4, or a range of them, 0.3:0.5")
    return parts[0], parts[-1]


def _measured(storage: Folder, reference: str) -> float:
    """FLOP/s of a device in the newest attempt of a run that has trained."""
    run = existing_run(storage.url, reference)
    for number in reversed(attempt_numbers(run)):
        cost = attempt_folder(run, number).find_json("cost.json")
        if cost is not None and cost["flops_per_s"]:
            return float(cost["flops_per_s"] / cost["devices"])
    raise ConfigError(f"--like {reference}: no attempt of {run.url} has trained, so that its pace is not known")
