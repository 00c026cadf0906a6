"""What is said of models by the sets: figures of what they scored, as plain JSON."""

from collections.abc import Mapping, Sequence
from typing import Any

from llmcore.bias.bias_set import BiasSet
from llmcore.bias.figures import Figures
from llmcore.bias.intervals import Resampling
from llmcore.bias.scored import Scored

__all__ = ["bias_json", "differences_of", "told_of"]


def told_of(bias_set: BiasSet, portions: Sequence[Scored], resampling: Resampling) -> dict[str, Any]:
    """The figures of one model by one set, from what it says of all portions of the set, in their order.

    Returns:
        `num_rows` that were scored, `num_too_long` that the model has no positions for, `figures` by name, and
        `groups`: the same by group of people, where the set has several.
    """
    scores = [of_example for portion in portions for of_example in portion.scores]
    pairs = [(one, found) for one, found in zip(bias_set.examples, scores, strict=True) if found is not None]
    told: dict[str, Any] = {"num_rows": len(pairs), "num_too_long": len(scores) - len(pairs)}
    if not pairs:
        return told | {"figures": {}, "groups": {}}
    examples, found = [one for one, _ in pairs], [of_example for _, of_example in pairs]
    measure = bias_set.measure
    groups = measure.groups(examples, found, resampling)
    return told | {
        "figures": _plain(measure.figures(examples, found, resampling)),
        "groups": {name: _plain(figures) for name, figures in groups.items()} if len(groups) > 1 else {},
    }


def differences_of(
    bias_set: BiasSet, portions: Sequence[Scored], others: Sequence[Scored], resampling: Resampling
) -> dict[str, Any]:
    """By figure, one model's less another's, of the rows that both have positions for; none where there is none."""
    scores, other_scores = ([of for portion in side for of in portion.scores] for side in (portions, others))
    rows = zip(bias_set.examples, scores, other_scores, strict=True)
    both = [(one, ours, theirs) for one, ours, theirs in rows if ours is not None and theirs is not None]
    if not both:
        return {}
    examples, ours, theirs = map(list, zip(*both, strict=True))
    return _plain(bias_set.measure.differences(examples, ours, theirs, resampling))


def bias_json(
    sets: Sequence[BiasSet],
    told: Mapping[str, Mapping[str, dict[str, Any]]],
    left_out: Mapping[str, str],
    against: str | None = None,
    differences: Mapping[str, Mapping[str, dict[str, Any]]] | None = None,
) -> dict[str, Any]:
    """Plain JSON of all that was measured.

    Args:
        sets: By which.
        told: Of each model, by its name, what is said by each set.
        left_out: Of each model that none of this can be measured of, why not.
        against: The model that the others are held against, where one is.
        differences: Of each of those, what each set says of it less what it says of that one (`differences_of`).
    """
    return {
        "sets": {one.name: one.about() for one in sets},
        "models": {name: dict(by_set) for name, by_set in told.items()},
        "left_out": dict(left_out),
        "against": against,
        "differences": {name: dict(by_set) for name, by_set in (differences or {}).items()},
    }


def _plain(figures: Figures) -> dict[str, dict[str, Any]]:
    return {name: figure.to_json() for name, figure in figures.items()}
