"""The points that no other one beats in everything."""

from collections.abc import Sequence

import numpy as np

__all__ = ["pareto_front"]


def pareto_front(points: Sequence[Sequence[float]], higher_is_better: Sequence[bool]) -> list[int]:
    """Indices of the points that none is better than: at least as good in all objectives, and better in one.

    Args:
        points: What each is worth by each objective; one with a NaN is on no front.
        higher_is_better: Of each objective.
    """
    if not points:
        return []
    worth = np.where(np.asarray(higher_is_better), 1.0, -1.0) * np.asarray(points, dtype=np.float64)
    defined = ~np.isnan(worth).any(axis=1)
    found = []
    for place in np.flatnonzero(defined):
        others = worth[defined]
        beaten = (others >= worth[place]).all(axis=1) & (others > worth[place]).any(axis=1)
        if not beaten.any():
            found.append(int(place))
    return found
