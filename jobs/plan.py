"""`python -m jobs plan`: what a training will need and cost, without a GPU and without a cluster."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jobs.runtime.console import say
from jobs.runtime.plan_words import model_line, plan_lines
from jobs.runtime.planning import Asked, Plan, plan_training, precision_for
from jobs.runtime.references import existing_run
from llmcore.config import load_config
from llmcore.config.pretrain import PretrainConfig
from llmcore.config.prices import PricesConfig
from llmcore.cost.devices import device_named
from llmcore.errors import ConfigError, CorpusError
from llmcore.models.foundation import find_foundation
from llmcore.records import attempt_folder, attempt_numbers
from llmcore.storage import Folder, resolve_storage

__all__ = ["PRICES", "PlanOptions", "plan", "plan_of_pretraining"]

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
    """

    device: str | None = None
    num_devices: int | None = None
    utilization: str = "0.3:0.5"
    like: str | None = None
    prices: Path | None = None
    vocab_size: int | None = None
    sequence_length: int | None = None
    as_json: bool = False


def plan(path: Path, overrides: Sequence[str], options: PlanOptions) -> None:
    """Say what the configuration's training needs.

    Raises ConfigError for a configuration, a device or a price that is none, and where the training does not fit the
    device, with the nearest that would.
    """
    config = load_config(PretrainConfig, path, overrides)
    storage = resolve_storage(config.storage, inside_ray_job=False)
    planned = options.vocab_size, options.sequence_length
    found = plan_of_pretraining(config, storage, asked(options, storage), *planned)
    if options.as_json:
        print(json.dumps(found.record(), indent=2))
    else:
        for line in [model_line(config, found.needs), *plan_lines(found)]:
            say(line)
    found.check_fits()


def plan_of_pretraining(
    config: PretrainConfig,
    storage: Folder,
    asked: Asked,
    vocab_size: int | None = None,
    sequence_length: int | None = None,
) -> Plan:
    """The plan of a pre-training; of its tokens, where they are there. Raises ConfigError.

    A stream says its sizes itself; of tokens that are still to be prepared the last two arguments do.
    """
    from jobs.runtime.pretrain_inputs import find_inputs
    from llmcore.train.needs import PlannedTokens, pretraining_needs

    try:
        found = find_inputs(config, storage)
    except CorpusError:  # the run that prepares the tokens may be still to come
        found = None
    foundation = None if config.model.folder is None else find_foundation(config.model.folder)
    precision = precision_for(config.train, asked.device)
    if config.stream is not None:
        vocab_size = vocab_size or config.stream.tokenizer.vocab_size
        sequence_length = sequence_length or config.stream.packing.sequence_length
    planned = PlannedTokens(vocab_size, sequence_length)
    needs = pretraining_needs(config, found[0] if found else None, foundation, precision, planned)
    return plan_training(config.train, config.workers, needs, asked)


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
