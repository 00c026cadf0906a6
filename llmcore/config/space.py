"""A search space: dotted keys of a configuration, and the values that trials give them."""

from collections.abc import Mapping
from typing import Any, Literal, get_args

from pydantic import model_validator

from llmcore.config.base import Section, identity

__all__ = ["Range", "RangeKind", "check_conditions", "check_point", "in_order"]

RangeKind = Literal["choice", "grid", "uniform", "log_uniform", "integer", "log_integer"]
_KINDS: tuple[RangeKind, ...] = get_args(RangeKind)
_INTERVALS: tuple[RangeKind, ...] = ("uniform", "log_uniform", "integer", "log_integer")


class Range(Section):
    """Values of one key: a choice, or an interval; and when the key is searched at all."""

    choice: list[Any] | None = identity(None, min_length=1, description="One of these.")
    grid: list[Any] | None = identity(
        None, min_length=1, description="Each of these in turn, with every combination of the other grids."
    )
    uniform: tuple[float, float] | None = identity(None, description="Uniform between two numbers.")
    log_uniform: tuple[float, float] | None = identity(None, description="Uniform in the logarithm.")
    integer: tuple[int, int] | None = identity(None, description="A whole number between two, both included.")
    log_integer: tuple[int, int] | None = identity(None, description="The same, uniform in the logarithm.")
    when: dict[str, list[Any]] = identity(
        dict,
        description="Other keys of the space, and the values of theirs with which this one is searched; with others it "
        "stays as `finetune` has it.",
    )

    @model_validator(mode="after")
    def _one_kind(self) -> "Range":
        given = [kind for kind in _KINDS if getattr(self, kind) is not None]
        if len(given) != 1:
            raise ValueError(f"give exactly one of {', '.join(_KINDS)}; got {given or 'none'}")
        return self

    @model_validator(mode="after")
    def _values_are_different(self) -> "Range":
        values = self.listed
        if values is not None and (twice := [one for place, one in enumerate(values) if one in values[:place]]):
            raise ValueError(f"{self.kind} has {twice[0]!r} twice: give each value once")
        return self

    @model_validator(mode="after")
    def _intervals_are_not_empty(self) -> "Range":
        interval = self.interval
        if interval is None:
            return self
        if not interval[0] < interval[1]:
            raise ValueError(f"the interval {list(interval)} is empty: the first number must be the smaller")
        if self.is_log and interval[0] <= 0:
            raise ValueError(f"{self.kind} needs positive numbers, got {list(interval)}")
        return self

    @property
    def kind(self) -> RangeKind:
        """Which of them it is."""
        return next(kind for kind in _KINDS if getattr(self, kind) is not None)

    @property
    def listed(self) -> list[Any] | None:
        """The values, of a choice or a grid."""
        return self.choice if self.choice is not None else self.grid

    @property
    def interval(self) -> tuple[float, float] | None:
        """The ends, of an interval."""
        return getattr(self, self.kind) if self.kind in _INTERVALS else None

    @property
    def is_integer(self) -> bool:
        """Whether its values are whole numbers of an interval."""
        return self.kind in ("integer", "log_integer")

    @property
    def is_log(self) -> bool:
        """Whether it is uniform in the logarithm."""
        return self.kind in ("log_uniform", "log_integer")

    @property
    def enumerated(self) -> list[Any] | None:
        """All values, where they can be counted."""
        if self.is_integer and self.interval is not None:
            low, high = self.interval
            return list(range(int(low), int(high) + 1))
        return self.listed

    def holds(self, value: Any) -> bool:
        """Whether a value is one of its values."""
        if self.listed is not None:
            return value in self.listed
        if isinstance(value, bool) or not isinstance(value, int | float) or self.interval is None:
            return False
        return self.interval[0] <= value <= self.interval[1] and (not self.is_integer or int(value) == value)

    def told(self) -> str:
        """It in words."""
        values = self.listed if self.listed is not None else list(self.interval or ())
        return f"{self.kind} {values}"

    def applies(self, values: Mapping[str, Any]) -> bool:
        """Whether the key is searched, beside these values of others."""
        return all(key in values and values[key] in wanted for key, wanted in self.when.items())


def in_order(space: Mapping[str, Range]) -> list[str]:
    """The keys by name, each after those that its `when` names.

    Raises:
        ValueError: Keys wait for each other.
    """
    ordered: list[str] = []
    left = sorted(space)
    while left:
        ready = [key for key in left if all(one in ordered for one in space[key].when)]
        if not ready:
            raise ValueError(f"space: {', '.join(left)} are searched when each other is: leave out one `when`")
        ordered.extend(ready)
        left = [key for key in left if key not in ready]
    return ordered


def check_conditions(space: Mapping[str, Range]) -> None:
    """Raises ValueError where a `when` names what is not searched, or a value that is never taken."""
    for key, range_ in space.items():
        for other, wanted in range_.when.items():
            if other not in space:
                raise ValueError(
                    f"space.{key}.when names {other!r}, which is not searched: name one of {sorted(space)}"
                )
            if strangers := [value for value in wanted if not space[other].holds(value)]:
                raise ValueError(
                    f"space.{key}.when.{other}={strangers[0]!r} never is: {other} is {space[other].told()}"
                )
    in_order(space)


def check_point(space: Mapping[str, Range], point: Mapping[str, Any]) -> None:
    """Raises ValueError where a point has a key or a value that the space has not; it may leave keys out."""
    for key, value in point.items():
        if key not in space:
            raise ValueError(f"{key} is not searched: the space has {', '.join(sorted(space))}")
        if not space[key].holds(value):
            raise ValueError(f"{key}={value!r} is outside of its range, {space[key].told()}")
