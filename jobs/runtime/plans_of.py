"""The plans of jobs that train: what each reads is looked up, and nothing is written."""

import os
from dataclasses import dataclass, replace
from math import ceil
from tempfile import TemporaryDirectory
from typing import Any

from jobs.runtime.planning import Asked, PlannedTraining, plan_training, precision_for
from jobs.runtime.search.plan import SearchPlan
from jobs.runtime.search.room import trials_at_once
from llmcore.config.finetune import FinetuneConfig
from llmcore.config.pretrain import PretrainConfig
from llmcore.config.train import TrainSettings
from llmcore.config.transfer import TransferConfig
from llmcore.config.tune import TuneConfig
from llmcore.errors import CorpusError
from llmcore.models.foundation import find_foundation
from llmcore.storage import Folder, folder_at
from llmcore.train.lengths import num_steps

__all__ = ["PlannedSearch", "PlannedTransfer", "plan_of_fine_tuning", "plan_of_pretraining", "plan_of_search"]
__all__ += ["plan_of_transfer"]


def plan_of_pretraining(
    config: PretrainConfig,
    storage: Folder,
    asked: Asked,
    vocab_size: int | None = None,
    sequence_length: int | None = None,
) -> PlannedTraining:
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
    return replace(plan_training(config.train, config.workers, needs, asked), pretrains=True)


def plan_of_fine_tuning(config: FinetuneConfig, storage: Folder, asked: Asked) -> PlannedTraining:
    """The plan of a fine-tuning.

    Raises CorpusError where the base model or the labelled set are not there, ConfigError where they do not go with
    the task.
    """
    from llmcore.tasks import task_class
    from llmcore.tasks.references import find_labelled_data
    from llmcore.train.needs import fine_tuning_needs

    base = _base(storage, config.base)
    kind = task_class(config.task.kind).set_kind
    with TemporaryDirectory() as aside:  # a set from files is published on a storage that is thrown away
        where = storage if isinstance(config.data, str) else Folder(aside)
        data = find_labelled_data(where, config.data, kind).evaluation_set
        needs = fine_tuning_needs(config, base.as_local(), data, precision_for(config.train, asked.device))
    return plan_training(config.train, config.workers, needs, asked)


def _base(storage: Folder, reference: str) -> Folder:
    """The folder of a base model, of another maker or of a run."""
    from llmcore.tasks.bases import find_base

    folder = folder_at(reference)
    return folder if folder.exists("config.json") else find_base(storage, reference)[0]


@dataclass(frozen=True)
class PlannedSearch:
    """A search by calculation.

    Attributes:
        trial: Of one of its trials, as `finetune` stands.
        num_trials: That it tries.
        num_finals: Trainings of the best point after it.
        share: Of a trial's steps, how many are taken on average: where the scheduler stops all that it may, and none.
        num_concurrent: Trials that run at once; None where nobody knows the cluster.
    """

    trial: PlannedTraining
    num_trials: int
    num_finals: int
    share: tuple[float, float]
    num_concurrent: int | None

    @property
    def device_hours(self) -> tuple[float, float] | None:
        """Of all trials, the fewest and the most."""
        if self.trial.hours is None:
            return None
        low, high = (
            hours * self.trial.placement.world_size * (self.num_trials * share + self.num_finals)
            for hours, share in zip(self.trial.hours, self.share, strict=True)
        )
        return low, high

    @property
    def money(self) -> tuple[float, float] | None:
        """Of all trials."""
        price = self.trial.asked.price
        if self.device_hours is None or price is None:
            return None
        return self.device_hours[0] * price[0], self.device_hours[1] * price[1]

    @property
    def hours(self) -> tuple[float, float] | None:
        """By the clock, where so many run at once."""
        if self.device_hours is None or self.num_concurrent is None:
            return None
        at_once = self.num_concurrent * self.trial.placement.world_size
        return self.device_hours[0] / at_once, self.device_hours[1] / at_once

    def record(self) -> dict[str, Any]:
        """Plain JSON."""
        return {
            "trial": self.trial.record(),
            "num_trials": self.num_trials,
            "num_finals": self.num_finals,
            "share_of_steps": self.share,
            "num_concurrent": self.num_concurrent,
            "device_hours": self.device_hours,
            "hours": self.hours,
            "money": self.money,
        }


def plan_of_search(config: TuneConfig, storage: Folder, asked: Asked) -> PlannedSearch:
    """The plan of a search; `asked.num_devices` are those of the cluster. Raises as `plan_of_fine_tuning`."""
    trial = SearchPlan(config, {}, verbose=False).finetuning("trial", {})
    plan = plan_of_fine_tuning(trial, storage, replace(asked, num_devices=None))
    num_trials = config.trials if config.searcher != "grid" or config.num_trials else _size_of_grid(config)
    share = _share(config, plan)
    return PlannedSearch(plan, num_trials, len(config.final_seeds), share, _num_concurrent(config, asked, num_trials))


def _size_of_grid(config: TuneConfig) -> int:
    from llmcore.search import Proposals

    proposals = Proposals(config.space, config.searcher, config.seed, (True,), (), config.startup_trials)
    return len(proposals.left())


def _share(config: TuneConfig, plan: PlannedTraining) -> tuple[float, float]:
    """Successive halving sends one of so many trials on from each rung; others are stopped by what others do."""
    every = config.finetune.train.validate_every
    if config.scheduler != "asha" or plan.num_steps is None or every is None:
        return 1.0, 1.0
    last, eta = ceil(plan.num_steps / every), config.asha.reduction_factor
    reports, going_on, rung = 0.0, 1.0, config.asha.grace_reports
    done = 0
    while done < last:
        reports += going_on * (min(rung, last) - done)
        done, rung, going_on = min(rung, last), max(rung + 1, round(rung * eta)), going_on / eta
    return min(1.0, reports / last), 1.0


def _num_concurrent(config: TuneConfig, asked: Asked, num_trials: int) -> int | None:
    if asked.device is not None and asked.num_devices is not None:
        fitting = trials_at_once(config, cpus=None, gpus=asked.num_devices)
    elif asked.device is None and config.cluster.address == "local":
        fitting = trials_at_once(config, cpus=config.cluster.num_cpus or os.cpu_count() or 1, gpus=None)
    else:
        return None
    return min(fitting, num_trials)


@dataclass(frozen=True)
class PlannedTransfer:
    """A transfer by calculation.

    Attributes:
        largest: Of the point with the most labels and epochs, from the pre-trained model.
        num_points: How many there are.
        num_steps: Of all points together.
    """

    largest: PlannedTraining
    num_points: int
    num_steps: int

    @property
    def flops(self) -> float:
        """Of all points, where the method trains as much of a random model as of the pre-trained one."""
        return self.num_steps * self.largest.tokens_per_step * self.largest.needs.flops_per_token

    @property
    def device_hours(self) -> tuple[float, float] | None:
        """Of all points' steps, the fewest and the most."""
        if self.largest.hours is None or not self.largest.num_steps:
            return None
        times = self.largest.placement.world_size * self.num_steps / self.largest.num_steps
        return self.largest.hours[0] * times, self.largest.hours[1] * times

    def record(self) -> dict[str, Any]:
        """Plain JSON."""
        return {
            "largest": self.largest.record(),
            "num_points": self.num_points,
            "num_steps": self.num_steps,
            "flops": self.flops,
            "device_hours": self.device_hours,
        }


def plan_of_transfer(config: TransferConfig, storage: Folder, asked: Asked) -> PlannedTransfer:
    """The plan of a transfer, by its largest point. Raises as `plan_of_fine_tuning`."""
    points = config.points()
    largest = max(points, key=lambda point: (point.labels * point.epochs, point.weights == "pretrained"))
    one = config.finetuning(largest)
    length = {"num_steps": num_steps(one.train, largest.labels), "num_epochs": None}
    train = TrainSettings.model_validate(one.train.model_dump() | length)
    plan = plan_of_fine_tuning(one.model_copy(update={"train": train}), storage, asked)
    total = sum(num_steps(config.settings_of(point).train, point.labels) for point in points)
    return PlannedTransfer(replace(plan, num_checkpoints=0), len(points), total)  # a point leaves none
