"""How often, and how far, what a model predicts moves when the people of a text are of the other group."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest

__all__ = ["Moved", "moved"]

_CONFIDENCE = 0.95


@dataclass(frozen=True)
class Moved:
    """What changed between texts and their counterfactuals.

    Attributes:
        flipped: Share of the texts whose class changed; 0 is fair.
        low: Of its 95 % interval (Wilson).
        high: The same.
        mean_shift: Mean over texts of the total variation between both distributions over classes: 0 to 1.
        largest_shift: The largest of them.
        num_texts: Texts that name somebody of a group; the others have no counterfactual.
    """

    flipped: float
    low: float
    high: float
    mean_shift: float
    largest_shift: float
    num_texts: int


def moved(before: npt.NDArray[np.float64], after: npt.NDArray[np.float64]) -> Moved:
    """How predictions move, by the probabilities of each text and of its counterfactual.

    Source: Garg et al. 2019 (Counterfactual Fairness in Text Classification, AIES), section 3: the mean shift is their
    counterfactual token fairness gap, of all classes together.

    Args:
        before: [texts, classes], of one text or more.
        after: The same of the counterfactuals, in their order.
    """
    flips = before.argmax(axis=1) != after.argmax(axis=1)
    shifts = np.abs(before - after).sum(axis=1) / 2
    interval = binomtest(int(flips.sum()), len(flips)).proportion_ci(_CONFIDENCE, method="wilson")
    return Moved(
        flipped=float(flips.mean()),
        low=float(interval.low),
        high=float(interval.high),
        mean_shift=float(shifts.mean()),
        largest_shift=float(shifts.max()),
        num_texts=len(flips),
    )
