"""What predictions can be judged by and compared with, by kind of task: names, known before anything heavy is imported.

`evaluation.metrics` and `evaluation.baselines` make what is named here; docs/metrics.md defines it.
"""

from collections.abc import Sequence
from typing import NamedTuple

__all__ = [
    "BASELINES",
    "JUDGING",
    "SEARCHED",
    "Judging",
    "Resampling",
    "check_baselines",
    "check_metrics",
    "check_split",
    "is_own",
    "samples_needed",
]

_OVERLAP = ("exact_match", "bleu", "chrf", "rouge1", "rouge2", "rougeL")
_LIKELIHOOD = ("perplexity", "bits_per_byte")
_RANDOM_WEIGHTS = "random_weights"
_PASS_AT = "pass_at_"


class Resampling(NamedTuple):
    """How intervals are computed: how often is drawn, and the seed of the draws."""

    num_resamples: int
    seed: int


class Judging(NamedTuple):
    """Of a kind of task.

    Attributes:
        metrics: All that are defined for it.
        default: Those of a model where the configuration names none.
        choose_by: The one that chooses where the configuration does not say.
        baselines: All that there are for it.
    """

    metrics: tuple[str, ...]
    default: tuple[str, ...]
    choose_by: str
    baselines: tuple[str, ...]


JUDGING = {
    "text_classification": Judging(
        metrics=(
            "accuracy",
            "macro_f1",
            "micro_f1",
            "f1_by_class",
            "matthews",
            "roc_auc",
            "example_roc_auc",
            "calibration_error",
        ),
        default=("accuracy", "macro_f1"),
        choose_by="macro_f1",
        baselines=("majority", _RANDOM_WEIGHTS),
    ),
    "question_answering": Judging(
        metrics=(
            "squad_exact_match",
            "squad_f1",
            "squad2_exact_match",
            "squad2_f1",
            "squad2_has_answer_exact_match",
            "squad2_has_answer_f1",
            "squad2_no_answer_exact_match",
            "squad2_best_exact_match",
            "squad2_best_f1",
        ),
        default=("squad2_exact_match", "squad2_f1"),
        choose_by="squad2_f1",
        baselines=(_RANDOM_WEIGHTS,),
    ),
    "translation": Judging(
        metrics=(*_OVERLAP, *_LIKELIHOOD),
        default=("bleu", "chrf"),
        choose_by="bleu",
        baselines=("copy_source", _RANDOM_WEIGHTS),
    ),
    "summarization": Judging(
        metrics=(*_OVERLAP, *_LIKELIHOOD),
        default=("rouge1", "rouge2", "rougeL"),
        choose_by="rougeL",
        baselines=("lead_3", _RANDOM_WEIGHTS),
    ),
    "text_generation": Judging(
        metrics=(*_OVERLAP, *_LIKELIHOOD),
        default=_LIKELIHOOD,
        choose_by="bits_per_byte",
        baselines=(_RANDOM_WEIGHTS,),
    ),
    "chat": Judging(
        metrics=(*_OVERLAP, *_LIKELIHOOD),
        default=_LIKELIHOOD,
        choose_by="bits_per_byte",
        baselines=(_RANDOM_WEIGHTS,),
    ),
    "code_generation": Judging(
        metrics=(*(f"{_PASS_AT}{k}" for k in (1, 2, 5, 10, 100)), *_OVERLAP, *_LIKELIHOOD),
        default=("pass_at_1",),
        choose_by="pass_at_1",
        baselines=(_RANDOM_WEIGHTS,),
    ),
}
"""By kind. Of a kind that is the user's own there is every metric, and the baseline from random weights."""

SEARCHED = ("runner_up", "config")
"""Baselines of searches, whatever the kind: the next best model on validation; the trial of `finetune` as it stands."""

BASELINES = (*dict.fromkeys(name for judging in JUDGING.values() for name in judging.baselines), *SEARCHED)


def is_own(metric: str) -> bool:
    """Whether a metric is one of the user's, `module:object`."""
    return ":" in metric


def samples_needed(names: Sequence[str]) -> int:
    """Answers to a row, at least, of which these metrics are defined: k of pass@k."""
    return max((int(name.removeprefix(_PASS_AT)) for name in names if name.startswith(_PASS_AT)), default=1)


def check_metrics(names: Sequence[str], kind: str | None = None) -> None:
    """Refuse a name that is no metric: of `kind`, where it is known.

    Raises:
        ValueError: The message lists what there is.
    """
    check_split(names)
    of = "" if kind is None else f" of {kind}"
    kinds = [kind] if kind in JUDGING else list(JUDGING)
    there = list(dict.fromkeys(name for one in kinds for name in JUDGING[one].metrics))
    for name in names:
        if name not in there and not is_own(name):
            raise ValueError(f"{name!r} is no metric{of}: there are {', '.join(there)}; your own is `module:object`")


def check_split(names: Sequence[str]) -> None:
    """Refuse a metric of the test split, by which nothing is chosen.

    Raises:
        ValueError: The message has the rule.
    """
    for name in names:
        split, _, metric = name.partition("_")
        if split == "test" and metric:
            raise ValueError(
                f"{name!r}: the test split chooses nothing, it is opened for what was chosen on validation alone; give "
                f"{metric}, which is measured on validation"
            )


def check_baselines(names: Sequence[str], kind: str) -> None:
    """Refuse a baseline that a kind does not have.

    Raises:
        ValueError: The message lists what there is.
    """
    there = (*(JUDGING[kind].baselines if kind in JUDGING else (_RANDOM_WEIGHTS,)), *SEARCHED)
    for name in names:
        if name not in there:
            raise ValueError(f"{name!r} is no baseline of {kind}: there is {', '.join(there)}")
