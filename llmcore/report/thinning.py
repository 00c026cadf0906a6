"""Fewer points of a curve that look like all of them."""

from collections.abc import Iterator

__all__ = ["Thinning"]

_NUM_BUCKETS = 200
"""A curve is drawn about as many points wide; of each there are four at most."""


class Thinning:
    """Takes points one at a time, and keeps of each of 200 equal parts of the steps the first, last, lowest, highest.

    So a spike of one step among millions is still seen, which every n-th point, or a mean, would lose.
    """

    def __init__(self, last_step: int, num_buckets: int = _NUM_BUCKETS) -> None:
        """`last_step` is the largest step that will come; steps begin with 0."""
        self._width = (last_step + 1) / num_buckets
        self._kept: dict[int, list[tuple[int, float]]] = {}

    def add(self, step: int, value: float) -> None:
        """Take a point; the value is finite."""
        place = int(step / self._width)
        kept = self._kept.setdefault(place, [])
        kept.append((step, value))
        if len(kept) > 4:
            self._kept[place] = list(_telling(kept))

    def points(self) -> list[tuple[int, float]]:
        """What is kept, by step."""
        return [point for place in sorted(self._kept) for point in self._kept[place]]


def _telling(points: list[tuple[int, float]]) -> Iterator[tuple[int, float]]:
    """The first, the last, the lowest and the highest, in their order; one that is two of these once."""
    places = range(len(points))
    lowest = min(places, key=lambda place: points[place][1])
    highest = max(places, key=lambda place: points[place][1])
    return (points[place] for place in sorted({0, lowest, highest, len(points) - 1}))
