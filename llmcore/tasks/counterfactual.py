"""Rows of a labelled set with the people in them of the other group, and how far a model's answers move.

Garg et al. (2019), "Counterfactual Fairness in Text Classification through Robustness", AIES.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from llmcore.config.counterfactual import WordPairs
from llmcore.corpus.counterfactual import MARK, Swapper

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Counterfactuals", "Moves"]


class Moves(NamedTuple):
    """What changed between rows and their counterfactuals.

    Attributes:
        flips: 1 where the answer is another one, else 0: [rows].
        shifts: How far probabilities moved, 0 to 1, [rows]: of one label, the total variation between both
            distributions; of several, the mean over classes; where an answer has none, as `flips`.
    """

    flips: NDArray[np.float64]
    shifts: NDArray[np.float64]


class Counterfactuals:
    """Makes them, of texts and of conversations."""

    def __init__(self, words: WordPairs) -> None:
        self._swapper = Swapper(words)

    def of(self, rows: "pa.Table", columns: Sequence[str]) -> tuple["pa.Table", list[int]]:
        """The counterfactuals of the rows that name somebody.

        Args:
            rows: Of a labelled set.
            columns: Those in which words are swapped; the others stay as they are, but for the id, which is marked.

        Returns:
            Them, and the places of their rows.
        """
        import pyarrow as pa

        originals = {name: rows[name].to_pylist() for name in columns}
        swapped = {name: [self._swapped(value) for value in values] for name, values in originals.items()}
        places = [
            place
            for place in range(rows.num_rows)
            if any(swapped[name][place] != originals[name][place] for name in columns)
        ]
        made = rows.take(pa.array(places, pa.int64()))
        values = {name: [of_column[place] for place in places] for name, of_column in swapped.items()}
        values["id"] = [f"{name}{MARK}" for name in made["id"].to_pylist()]
        for name, of_column in values.items():
            number = made.schema.get_field_index(name)
            field = made.schema.field(number)
            made = made.set_column(number, field, pa.array(of_column, field.type))
        return made, places

    def leaning(self, rows: "pa.Table", columns: Sequence[str]) -> list[str]:
        """Which group a row names more often: `first` or `second` of the pairs, or `neither`."""
        said = zip(*(rows[name].to_pylist() for name in columns), strict=True)
        counts = [np.sum([self._named(value) for value in values], axis=0) for values in said]
        return ["neither" if one == other else "first" if one > other else "second" for one, other in counts]

    def moves(self, before: Mapping[str, Sequence[Any]], after: Mapping[str, Sequence[Any]]) -> Moves:
        """How far answers move.

        Args:
            before: `prediction`, and `probabilities` where there are any, of rows.
            after: The same of their counterfactuals, in their order. A text is compared with what the answer before
                says of the other group.
        """
        pairs = list(zip(before["prediction"], after["prediction"], strict=True))
        flips = np.array([_plain(self._swapped(one)) != _plain(other) for one, other in pairs], np.float64)
        if "probabilities" not in before:
            return Moves(flips, flips)
        both = [np.array(list(side["probabilities"]), np.float64) for side in (before, after)]
        apart = np.abs(both[0] - both[1]).reshape(len(pairs), -1)
        several = bool(pairs) and isinstance(_plain(pairs[0][0]), list)
        return Moves(flips, apart.mean(axis=1) if several else apart.sum(axis=1) / 2)

    def _swapped(self, value: Any) -> Any:
        if isinstance(value, str):
            return self._swapper.swapped(value)[0]
        if isinstance(value, list) and value and isinstance(value[0], dict):
            return [message | {"content": self._swapped(message["content"])} for message in value]
        return value

    def _named(self, value: Any) -> tuple[int, int]:
        """Words of the first and of the second group of a value."""
        if isinstance(value, list):
            counts = [self._named(message["content"]) for message in value]
            return sum(one for one, _ in counts), sum(other for _, other in counts)
        return self._swapper.named(value or "")


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value
