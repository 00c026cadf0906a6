"""A search as its processes know it: what each trial is, given its point. Plain data, which travels to the drivers."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from llmcore.config.finetune import FinetuneConfig, FinetuneSettings
from llmcore.config.tune import TuneConfig
from llmcore.errors import ConfigError, RunError
from llmcore.evaluation.searches import Search, trial_id, value_at, with_values
from llmcore.search import Proposals
from llmcore.storage import Folder

__all__ = ["FINAL", "SEED", "SearchPlan", "config_point", "final_ids", "proposals_of", "trial_ids"]

FINAL = "final"
"""What ids of the trainings of the best point begin with."""
SEED = "train.seed"


def trial_ids(num_trials: int) -> list[str]:
    """Names of the trials: the same in each start of a search."""
    return [trial_id(number) for number in range(num_trials)]


def final_ids(config: TuneConfig) -> dict[str, int]:
    """Names of the trainings of the best point, and their seeds."""
    return {f"{FINAL}-seed-{seed}": seed for seed in config.final_seeds}


@dataclass(frozen=True)
class SearchPlan:
    """What all trials have in common.

    Attributes:
        config: The search's.
        reads: What `worker_spec` says of the base model and the labelled set.
        verbose: Whether workers are to say all that they have to say.
    """

    config: TuneConfig
    reads: Mapping[str, str]
    verbose: bool

    def finetuning(self, trial: str, values: Mapping[str, Any]) -> FinetuneConfig:
        """What a trial does.

        Raises:
            ConfigError: With these values it cannot be.
        """
        try:
            settings = with_values(self.config.finetune, dict(values))
        except (RunError, ValidationError) as error:
            raise ConfigError(f"tune.space: {trial} would have {dict(values)}: {error}") from error
        return FinetuneConfig(
            name=f"{self.config.name}.{trial}",
            storage=self.config.storage,
            cluster=self.config.cluster,
            base=self.config.base,
            data=self.config.data,
            **{field: getattr(settings, field) for field in FinetuneSettings.model_fields},
        )


def config_point(config: TuneConfig) -> dict[str, Any]:
    """The point at which `finetune` stands by itself; keys whose condition it does not meet are no part of it.

    Raises:
        ConfigError: It is outside of a range.
    """
    own = {key: value_at(config.finetune, key) for key in config.space}
    point = {key: value for key, value in own.items() if config.space[key].applies(own)}
    for key, value in point.items():
        if not config.space[key].holds(value):
            raise ConfigError(
                f"first_points has `config`, and finetune.{key}={value!r} is outside of its range, "
                f"{config.space[key].told()}: widen it, or leave `config` out"
            )
    return point


def proposals_of(config: TuneConfig, storage: Folder, higher_is_better: bool) -> tuple[Proposals, list[str]]:
    """What the search tries, and what is to be said of points of earlier searches.

    Raises:
        ConfigError: An earlier search is not there, or has not ended; a first point is outside of the space.
    """
    first = [config_point(config) if point == "config" else dict(point) for point in config.first_points]
    said = []
    for reference in config.first_from:
        point = Search.find(storage, reference).best_point()
        strangers = [
            key for key, value in point.items() if key not in config.space or not config.space[key].holds(value)
        ]
        if strangers:
            said.append(
                f"the best point of {reference} is not tried: {strangers[0]}={point[strangers[0]]!r} is not searched"
            )
        elif point not in first:
            first.append(point)
    directions = (higher_is_better, False)[: len(config.objectives)]
    return (
        Proposals(config.space, config.searcher, config.seed, directions, tuple(first), config.startup_trials),
        said,
    )
