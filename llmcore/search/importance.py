"""Which keys of a search made the difference."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from llmcore.config.space import Range
from llmcore.search.proposals import Proposals, Told

__all__ = ["FEWEST_TRIALS", "importances"]

FEWEST_TRIALS = 8
"""Of fewer, what looks important is chance."""


def importances(
    space: Mapping[str, Range], worth: Sequence[tuple[Mapping[str, Any], float]], *, higher_is_better: bool = True
) -> dict[str, float]:
    """By key, the share of it in what trials are worth, largest first; together 1. Nothing of too few trials.

    PED-ANOVA (Watanabe et al., 2023): how differently the keys are spread among the best trials and among all.

    Args:
        space: What was searched.
        worth: Points, and what each was worth; keys that are not of the space are left out.
        higher_is_better: Whether more of it is better.
    """
    points = [({key: value for key, value in point.items() if key in space}, value) for point, value in worth]
    points = [(point, value) for point, value in points if all(space[key].holds(one) for key, one in point.items())]
    if len(points) < FEWEST_TRIALS or len({value for _, value in points}) < 2:
        return {}
    import optuna

    study = Proposals(space, "optuna", 0, (higher_is_better,)).study([Told(point, (value,)) for point, value in points])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = optuna.importance.get_param_importances(
            study, evaluator=optuna.importance.PedAnovaImportanceEvaluator(), normalize=True
        )
    return {key: float(value) for key, value in found.items()}
