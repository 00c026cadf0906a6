"""What a model has cost until it was there: the trainings that made it, by the ledgers of their attempts."""

from typing import Any, NamedTuple

from llmcore.records.attempt import COST
from llmcore.records.heartbeat import lived
from llmcore.records.identity import RUN
from llmcore.records.layout import attempt_folder, attempt_numbers
from llmcore.records.results import run_folder
from llmcore.storage import Folder

__all__ = ["Spent", "spent_on_training"]

_TRAININGS = ("pretrain", "finetune")


class Spent(NamedTuple):
    """What trainings have cost.

    Attributes:
        device_seconds: For which devices were held, steps or not; those of killed starts until their last heartbeat.
        flops: Of the model; of starts that left no ledger they are not known, and not counted.
        runs: Names of the trainings.
        devices: What they ran on, by its makers' names; seconds of one are not those of another.
    """

    device_seconds: float
    flops: float
    runs: tuple[str, ...]
    devices: tuple[str, ...]


def spent_on_training(storage: Folder, reference: str) -> Spent | None:
    """Of the training that a name or URL stands for, and of those that it began with.

    None where it stands for none of this package's, so that nobody knows. What prepared the data is not counted: it is
    shared, and needs no accelerator.
    """
    return _spent(storage, reference, ())


def _spent(storage: Folder, reference: str, below: tuple[str, ...]) -> Spent | None:
    run = run_folder(storage, reference)
    record = run.find_json(RUN)
    if record is None or record["kind"] not in _TRAININGS or reference in below:
        return None
    # A run that lies elsewhere names its parents where it lies.
    earlier = [_spent(run.parent, parent, (*below, reference)) for parent in dict.fromkeys(record["parents"])]
    parts = [_of_run(run), *(one for one in earlier if one is not None)]
    return Spent(
        device_seconds=sum(part.device_seconds for part in parts),
        flops=sum(part.flops for part in parts),
        runs=tuple(dict.fromkeys(name for part in parts for name in part.runs)),
        devices=tuple(dict.fromkeys(name for part in parts for name in part.devices)),
    )


def _of_run(run: Folder) -> Spent:
    folders = [attempt_folder(run, number) for number in attempt_numbers(run)]
    costs: list[dict[str, Any] | None] = [folder.find_json(COST) for folder in folders]
    num_devices = max((cost["devices"] for cost in costs if cost is not None), default=1)
    device_seconds = flops = 0.0
    for folder, cost in zip(folders, costs, strict=True):
        if cost is not None:
            device_seconds += sum(cost["device_seconds"].values())
            flops += cost["flops"] or 0.0
        else:
            began, ended = lived(folder)
            device_seconds += (ended - began) * num_devices
    devices = dict.fromkeys(cost["device"] for cost in costs if cost is not None)
    return Spent(device_seconds, flops, (run.name,), tuple(devices))
