"""`tune`: a search over fine-tuning configurations."""

from typing import Any, Literal

from pydantic import model_validator

from llmcore.config.base import Section, flagged, free, identity
from llmcore.config.budget import BudgetSettings
from llmcore.config.common import JobSettings
from llmcore.config.fairness import COUNTERFACTUAL_GAP
from llmcore.config.finetune import FinetuneSettings
from llmcore.config.labelled import DataReference
from llmcore.config.space import Range, check_conditions, check_point

__all__ = [
    "ASHASettings",
    "MedianSettings",
    "Objective",
    "PBTSettings",
    "Range",
    "TuneConfig",
    "TuneSettings",
]

Objective = Literal["quality", "device_seconds", "counterfactual_gap"]
_OPTIMIZER = "train.optimizer."
_DEFAULT_TRIALS = 4


class ASHASettings(Section):
    """Asynchronous successive halving (Li et al., 2020): stops trials that fall behind at a rung."""

    grace_reports: int = identity(1, ge=1, description="Reports before a trial may be stopped.")
    reduction_factor: float = identity(3, gt=1, description="One of so many goes on from each rung.")


class MedianSettings(Section):
    """The median stopping rule (Golovin et al., 2017): stops a trial whose best is worse than the others' median."""

    grace_reports: int = identity(1, ge=1, description="Reports before a trial may be stopped.")
    min_trials: int = identity(3, ge=1, description="Other trials that a median is of, at least.")


class PBTSettings(Section):
    """Population based training (Jaderberg et al., 2017): bad trials go on from a good one's weights, otherwise set."""

    every_reports: int = identity(1, ge=1, description="Reports between looks at who is to be replaced.")
    quantile: float = identity(
        0.25,
        gt=0,
        le=0.5,
        description="The worst of so large a share take over weights from the best of as large a one.",
    )
    resample_probability: float = identity(
        0.25, ge=0, le=1, description="How often a value is drawn anew instead of being made a fifth larger or smaller."
    )


class TuneSettings(Section):
    """What `tune` does."""

    finetune: FinetuneSettings = identity(description="What each trial does, before its own values.")
    space: dict[str, Range] = identity(min_length=1, description="Dotted keys of `finetune`, and their values.")
    searcher: Literal["random", "grid", "optuna"] = identity(
        "random",
        description="`grid` takes each combination of the space in turn; `optuna` draws near what was good by then "
        "(TPE, Bergstra et al., 2011).",
    )
    startup_trials: int = identity(10, ge=1, description="Random trials that `optuna` begins with.")
    num_trials: int | None = identity(
        None, ge=1, description="Trials. Null: each combination once with `searcher: grid`, else 4."
    )
    seed: int = identity(0, ge=0, description="Seed of the sampled values.")
    first_points: list[dict[str, Any] | Literal["config"]] = identity(
        list,
        description="Points that are tried first; keys that are left out are sampled. `config` is `finetune` as it "
        "stands, with which an evaluation can compare the winner.",
    )
    first_from: list[str] = identity(
        list, description="Names or URLs of earlier `tune` runs: the best point of each is tried next, where it fits."
    )
    objectives: list[Objective] = identity(
        ["quality"],
        min_length=1,
        max_length=2,
        description="What is searched for: the validation metric of the task, and besides either cheap trials "
        "(`device_seconds`) or such as `finetune.fairness` finds fair (`counterfactual_gap`): then the result is a "
        "Pareto front.",
    )
    scheduler: Literal["fifo", "asha", "median", "pbt"] = identity(
        "asha", description="`asha` and `median` stop trials that fall behind, `pbt` has them go on from better ones."
    )
    asha: ASHASettings = identity(ASHASettings, description="ASHA's settings.")
    median: MedianSettings = identity(MedianSettings, description="The median stopping rule's settings.")
    pbt: PBTSettings = identity(PBTSettings, description="Population based training's settings.")
    final_seeds: list[int] = flagged(
        list, description="Seeds with which the best point is trained again when the search is over."
    )
    trial_hours: float | None = free(None, gt=0, description="What a trial may take by the clock. Null: any time.")
    budget: BudgetSettings = free(BudgetSettings, description="What the search may cost.")
    max_concurrent_trials: int | None = free(None, ge=1, description="Null: as many as the cluster holds.")

    @model_validator(mode="after")
    def _conditions_can_be_met(self) -> "TuneSettings":
        check_conditions(self.space)
        return self

    @model_validator(mode="after")
    def _the_searcher_knows_the_ranges(self) -> "TuneSettings":
        for key, range_ in self.space.items():
            if self.searcher == "grid" and range_.enumerated is None:
                raise ValueError(
                    f"searcher=grid takes each value in turn, and space.{key} is {range_.told()}: give a grid"
                )
            if self.searcher == "optuna" and range_.kind == "grid":
                raise ValueError(f"space.{key} is a grid, which searcher=optuna does not follow: give a choice")
        return self

    @model_validator(mode="after")
    def _first_points_are_of_the_space(self) -> "TuneSettings":
        if self.first_points.count("config") > 1:
            raise ValueError("first_points has `config` twice: it is one point")
        for place, point in enumerate(self.first_points):
            if point != "config":
                assert isinstance(point, dict)
                try:
                    check_point(self.space, point)
                except ValueError as error:
                    raise ValueError(f"first_points.{place}: {error}") from error
        return self

    @model_validator(mode="after")
    def _first_points_are_tried(self) -> "TuneSettings":
        given = len(self.first_points) + len(self.first_from)
        if given > self.trials and not (self.searcher == "grid" and self.num_trials is None):
            raise ValueError(f"num_trials={self.trials} has no room for {given} first points: raise it, or give fewer")
        return self

    @model_validator(mode="after")
    def _objectives_differ(self) -> "TuneSettings":
        if self.objectives[0] != "quality" or len(set(self.objectives)) < len(self.objectives):
            raise ValueError(
                f"objectives={self.objectives}: give [quality], [quality, device_seconds] or "
                "[quality, counterfactual_gap]"
            )
        if COUNTERFACTUAL_GAP in self.objectives and not _measures_the_gap(self.finetune):
            raise ValueError(
                f"objectives={self.objectives}: a validation measures that gap of text_classification, where "
                "finetune.fairness is given: give it, or leave the objective out"
            )
        if len(self.objectives) > 1 and self.scheduler != "fifo":
            raise ValueError(
                f"scheduler={self.scheduler} stops trials by their quality alone, and with two objectives another "
                "one may be worth its price: use scheduler=fifo"
            )
        return self

    @model_validator(mode="after")
    def _a_constraint_is_measured(self) -> "TuneSettings":
        fairness = self.finetune.fairness
        if fairness and fairness.max_counterfactual_gap is not None and not _measures_the_gap(self.finetune):
            raise ValueError(
                f"finetune.fairness.max_counterfactual_gap={fairness.max_counterfactual_gap:g}: no validation of "
                f"{self.finetune.task.kind} measures that gap, only one of text_classification: leave it out"
            )
        return self

    @model_validator(mode="after")
    def _a_population_is_perturbed(self) -> "TuneSettings":
        if self.scheduler != "pbt":
            return self
        if fixed := [key for key in sorted(self.space) if not key.startswith(_OPTIMIZER) or key == f"{_OPTIMIZER}kind"]:
            raise ValueError(
                f"scheduler=pbt changes values in the midst of training, and {fixed[0]} cannot change there: search "
                f"keys of {_OPTIMIZER}* alone, or use scheduler=asha"
            )
        if conditional := [key for key, range_ in self.space.items() if range_.when]:
            raise ValueError(f"scheduler=pbt perturbs each key by itself: leave space.{conditional[0]}.when out")
        if self.searcher == "optuna":
            raise ValueError("scheduler=pbt proposes points by itself: use searcher=random")
        train = self.finetune.train
        every, saved = train.validate_every, train.checkpoint_every
        if every is None or saved is None or every % saved:
            raise ValueError(
                f"scheduler=pbt hands on the checkpoint of a validation, and with train.validate_every={every} "
                f"and checkpoint_every={saved} there is none: set both, the first a multiple of the second"
            )
        return self

    @property
    def trials(self) -> int:
        """How many, where that is no matter of a grid."""
        return self.num_trials if self.num_trials is not None else _DEFAULT_TRIALS


def _measures_the_gap(finetune: FinetuneSettings) -> bool:
    return finetune.fairness is not None and finetune.task.kind == "text_classification"


class TuneConfig(JobSettings, TuneSettings):
    """`python -m jobs tune`."""

    base: str = identity(description="Name, URL or folder of the base model, as for `finetune`.")
    data: DataReference = identity(
        description="`<prepare run>/<labelled set name>`, the URL of an evaluation set, or files to make one of."
    )
