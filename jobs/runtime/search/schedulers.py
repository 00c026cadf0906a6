"""Tune's schedulers, as a configuration asks for them."""

import random
from collections.abc import Mapping
from typing import Any

from llmcore.config.space import Range
from llmcore.config.tune import TuneConfig
from llmcore.evaluation.compared import Compared

__all__ = ["NO_CONTROLLER", "make_scheduler"]


class _NoController:
    """What a scheduler asks of Tune while it is told of the past: nothing runs."""

    def get_live_trials(self) -> list[Any]:
        """None."""
        return []

    get_trials = get_live_trials


NO_CONTROLLER = _NoController()


def make_scheduler(config: TuneConfig, compared: Compared, num_reports: int) -> Any:
    """The scheduler of a search; it counts reports.

    Args:
        config: The search's.
        compared: What it compares by: always of the validation split.
        num_reports: Validations of a full trial.
    """
    from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, MedianStoppingRule, TrialScheduler

    mode = "max" if compared.higher_is_better else "min"
    match config.scheduler:
        case "asha":
            scheduler = ASHAScheduler(
                time_attr="report",
                max_t=num_reports + 1,  # a trial that ends by itself is not stopped
                grace_period=config.asha.grace_reports,
                reduction_factor=config.asha.reduction_factor,
            )
        case "median":

            class Median(MedianStoppingRule):  # type: ignore[misc]  # Ray is not typed
                """A trial that failed before it reported is no part of any median; one that was stopped stays so."""

                def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
                    if trial in self._stopped_trials:
                        return str(TrialScheduler.STOP)
                    return _never_paused(super().on_trial_result(tune_controller, trial, result))

                def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
                    if self._metric in result:
                        super().on_trial_complete(tune_controller, trial, result)

            scheduler = Median(
                time_attr="report",
                grace_period=config.median.grace_reports,
                min_samples_required=config.median.min_trials,
            )
        case "pbt":
            return _population(config, compared.key, mode)
        case _:
            return FIFOScheduler()
    scheduler.set_search_properties(compared.key, mode)
    return scheduler


def _population(config: TuneConfig, metric: str, mode: str) -> Any:
    from ray.tune.schedulers import PopulationBasedTraining, TrialScheduler

    class Population(PopulationBasedTraining):  # type: ignore[misc]  # Ray is not typed
        """All of it trains at once: none need give way to another, as Tune's own would have it when one is replaced."""

        def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
            if tune_controller is NO_CONTROLLER:  # it is told of the past: nobody is replaced for that
                state = self._trial_state[trial]
                self._save_trial_state(state, result["report"], result, trial)
                state.last_perturbation_time = result["report"]
                return str(TrialScheduler.CONTINUE)
            return _never_paused(super().on_trial_result(tune_controller, trial, result))

        def _get_new_config(self, trial: Any, trial_to_clone: Any) -> tuple[dict[str, Any], dict[str, Any]]:
            """The other one's values, perturbed; who it is, a trial keeps."""
            new, changes = super()._get_new_config(trial, trial_to_clone)
            new["point"]["trial"] = trial.config["point"]["trial"]
            return new, changes

    def explore(tune_config: dict[str, Any]) -> dict[str, Any]:
        """What a fifth more or less has left of a range is at its end again."""
        values = tune_config["point"]["values"]
        for key, range_ in config.space.items():
            values[key] = _inside(range_, values[key])
        return tune_config

    random.seed(config.seed)  # the scheduler draws from the process's generator
    return Population(
        time_attr="report",
        metric=metric,
        mode=mode,
        perturbation_interval=config.pbt.every_reports,
        quantile_fraction=config.pbt.quantile,
        resample_probability=config.pbt.resample_probability,
        hyperparam_mutations={"point": {"values": _mutations(config.space)}},
        custom_explore_fn=explore,
        log_config=False,
    )


def _never_paused(decision: str) -> str:
    """To go on instead of giving way to a trial that waits: one that is paused loses its driver and its workers."""
    from ray.tune.schedulers import TrialScheduler

    return str(TrialScheduler.CONTINUE if decision == TrialScheduler.PAUSE else decision)


def _mutations(space: Mapping[str, Range]) -> dict[str, Any]:
    from ray import tune

    def of(range_: Range) -> Any:
        if range_.listed is not None:
            return list(range_.listed)
        assert range_.interval is not None
        low, high = range_.interval
        if range_.is_integer:
            return (tune.lograndint if range_.is_log else tune.randint)(int(low), int(high) + 1)
        return (tune.loguniform if range_.is_log else tune.uniform)(low, high)

    return {key: of(range_) for key, range_ in space.items()}


def _inside(range_: Range, value: Any) -> Any:
    if range_.interval is None:
        return value
    low, high = range_.interval
    return int(min(max(round(value), low), high)) if range_.is_integer else min(max(value, low), high)
