"""Points of a space: a pure function of the space, the seed, the number of the trial and what is known by then.

So a search that was killed goes on from its records alone, and no sampler's state is kept. Samplers are Optuna's.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from llmcore.config.space import Range, in_order

if TYPE_CHECKING:
    import optuna

__all__ = ["Proposals", "Told"]


@dataclass(frozen=True)
class Told:
    """What is known of a trial.

    Attributes:
        values: Its point; keys of the space alone.
        worth: What it is worth by each objective; None while it runs, and of one that failed.
        running: Whether it still runs.
        violation: By how much it breaks the search's constraint, 0 or less where it does not; None without one.
    """

    values: Mapping[str, Any]
    worth: tuple[float, ...] | None
    running: bool = False
    violation: float | None = None


@dataclass(frozen=True)
class Proposals:
    """What to try next.

    Attributes:
        space: Ranges by dotted key.
        searcher: random, grid or optuna.
        seed: Of all draws.
        higher_is_better: Of each objective.
        first: Points that are tried first; what they leave out is drawn.
        startup_trials: Random trials that TPE begins with.
    """

    space: Mapping[str, Range]
    searcher: Literal["random", "grid", "optuna"]
    seed: int
    higher_is_better: tuple[bool, ...] = (True,)
    first: tuple[Mapping[str, Any], ...] = ()
    startup_trials: int = 10

    def combinations(self) -> list[dict[str, Any]]:
        """Of the keys that are taken in turn, all that there are, each once; the first key changes slowest."""
        found: list[dict[str, Any]] = [{}]
        for key in in_order(self.space):
            values = self._in_turn(key)
            if values is not None:
                found = [
                    point | one
                    for point in found
                    for one in ([{key: value} for value in values] if self.space[key].applies(point) else [{}])
                ]
        return found

    def left(self) -> list[dict[str, Any]]:
        """The combinations that are taken in turn; with `grid`, those that are no first point."""
        found = self.combinations()
        return [one for one in found if one not in self.first] if self.searcher == "grid" else found

    def propose(self, number: int, told: Sequence[Told]) -> dict[str, Any]:
        """The point of a trial.

        Args:
            number: Of the trial, from 0.
            told: All that is known of other trials; their order is part of it.
        """
        if number < len(self.first):
            given = dict(self.first[number])
        else:
            left = self.left()
            given = left[(number - len(self.first)) % len(left)]
        study = self.study(told, number)
        study.enqueue_trial({key: self._internal(key, value) for key, value in given.items()})
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Optuna's own experiments
            return self._drawn(study.ask())

    def _in_turn(self, key: str) -> list[Any] | None:
        range_ = self.space[key]
        return range_.enumerated if self.searcher == "grid" or range_.kind == "grid" else None

    def study(self, told: Sequence[Told], number: int = 0) -> "optuna.Study":
        """What is known, as Optuna has it, with the sampler for a trial."""
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        seed = int(np.random.SeedSequence([self.seed, number]).generate_state(1)[0])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            sampler: optuna.samplers.BaseSampler = optuna.samplers.RandomSampler(seed=seed)
            if self.searcher == "optuna":
                sampler = optuna.samplers.TPESampler(
                    seed=seed, n_startup_trials=self.startup_trials, constant_liar=True, multivariate=True, group=True
                )
        directions: list[Literal["maximize", "minimize"]] = [
            "maximize" if higher else "minimize" for higher in self.higher_is_better
        ]
        study = optuna.create_study(sampler=sampler, directions=directions)
        if self.searcher == "optuna":
            study.add_trials([self._trial(one) for one in told])
        return study

    def _trial(self, told: Told) -> "optuna.trial.FrozenTrial":
        import optuna
        from optuna.trial import TrialState

        values = None if told.worth is None or any(map(np.isnan, told.worth)) else list(told.worth)
        state = TrialState.RUNNING if told.running else TrialState.FAIL if values is None else TrialState.COMPLETE
        return optuna.trial.create_trial(
            state=state,
            params={key: self._internal(key, value) for key, value in told.values.items()},
            distributions={key: self._distribution(key) for key in told.values},
            values=values if state == TrialState.COMPLETE else None,
            constraints=None if told.violation is None else {"fairness": told.violation},
        )

    def _drawn(self, trial: "optuna.Trial") -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key in in_order(self.space):
            range_ = self.space[key]
            if not range_.applies(values):
                continue
            if range_.listed is not None:
                values[key] = range_.listed[trial.suggest_categorical(key, range(len(range_.listed)))]
            else:
                assert range_.interval is not None
                low, high = range_.interval
                if range_.is_integer:
                    values[key] = trial.suggest_int(key, int(low), int(high), log=range_.is_log)
                else:
                    values[key] = trial.suggest_float(key, low, high, log=range_.is_log)
        return values

    def _internal(self, key: str, value: Any) -> Any:
        """A value as Optuna has it: that of a list, which may be anything, by its place."""
        listed = self.space[key].listed
        return value if listed is None else listed.index(value)

    def _distribution(self, key: str) -> "optuna.distributions.BaseDistribution":
        import optuna

        range_ = self.space[key]
        if range_.listed is not None:
            return optuna.distributions.CategoricalDistribution(range(len(range_.listed)))
        assert range_.interval is not None
        low, high = range_.interval
        if range_.is_integer:
            return optuna.distributions.IntDistribution(int(low), int(high), log=range_.is_log)
        return optuna.distributions.FloatDistribution(low, high, log=range_.is_log)
