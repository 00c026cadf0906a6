"""From names to metrics, for what is judged."""

from collections.abc import Callable, Iterable
from functools import partial
from importlib import import_module

from llmcore.config.judging import check_metrics, is_own
from llmcore.errors import ConfigError
from llmcore.evaluation.kinds import Subject
from llmcore.evaluation.metrics import classification, likelihood, probabilities, texts
from llmcore.evaluation.metrics.base import Metric
from llmcore.evaluation.metrics.classes import Classes
from llmcore.evaluation.metrics.pass_at_k import pass_at_k
from llmcore.evaluation.metrics.squad import SQUAD_METRICS

__all__ = ["make_metric", "make_metrics"]

_BY_CLASS = "f1_by_class"
_ONE_LABEL, _LABELS = "one label a row", "several labels a row"

_OF_CLASSES: dict[str, Callable[[Classes], Metric]] = {
    "accuracy": classification.accuracy,
    "macro_f1": classification.macro_f1,
    "micro_f1": classification.micro_f1,
    "matthews": classification.matthews,
    "roc_auc": probabilities.roc_auc,
    "example_roc_auc": probabilities.example_roc_auc,
    "calibration_error": probabilities.calibration_error,
}
_NEEDS = {"matthews": _ONE_LABEL, "example_roc_auc": _LABELS}

_OF_TEXTS: dict[str, Callable[[tuple[str, ...], texts.Texts], Metric]] = {
    "exact_match": texts.exact_match,
    "bleu": texts.bleu,
    "chrf": texts.chrf,
    "rouge1": partial(texts.rouge, "rouge1"),
    "rouge2": partial(texts.rouge, "rouge2"),
    "rougeL": partial(texts.rouge, "rougeL"),
}

_OF_COLUMNS: dict[str, Metric] = {
    **SQUAD_METRICS,
    "perplexity": likelihood.PERPLEXITY,
    "bits_per_byte": likelihood.BITS_PER_BYTE,
    **{f"pass_at_{k}": pass_at_k(k) for k in (1, 2, 5, 10, 100)},
}


def make_metrics(subject: Subject, names: Iterable[str]) -> list[Metric]:
    """The metrics of a configuration; `f1_by_class` is one for each class.

    Raises:
        ConfigError: A name is no metric of the kind; the message lists what there is.
    """
    metrics: list[Metric] = []
    for name in names:
        if name == _BY_CLASS and subject.kind == "text_classification":
            metrics += classification.f1_by_class(_classes(subject))
        else:
            metrics.append(make_metric(subject, name))
    return metrics


def make_metric(subject: Subject, name: str) -> Metric:
    """One metric, which is one number.

    Raises:
        ConfigError: The name is no metric of the kind, or is many numbers.
    """
    try:
        check_metrics((name,), subject.kind)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    if is_own(name):
        return _own(subject, name)
    if name in _OF_COLUMNS:
        return _OF_COLUMNS[name]
    if name in _OF_TEXTS:
        return _OF_TEXTS[name]((*subject.references[:1], "prediction"), subject.reference_texts)
    if name == _BY_CLASS:
        raise ConfigError(f"{name} is one number a class: to choose by, name one that is one number, as macro_f1")
    has = _LABELS if subject.multi_label else _ONE_LABEL
    if _NEEDS.get(name, has) != has:
        raise ConfigError(f"{name} is defined for {_NEEDS[name]}; the labelled set has {has}")
    return _OF_CLASSES[name](_classes(subject))


def _classes(subject: Subject) -> Classes:
    return Classes(subject.label_names, subject.multi_label)


def _own(subject: Subject, name: str) -> Metric:
    """The user's metric: what `module:object` names is called with the subject."""
    module, _, attribute = name.partition(":")
    try:
        make: Callable[[Subject], Metric] = getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"metric {name!r} cannot be imported ({error}): it is `module:object`") from error
    return make(subject)
