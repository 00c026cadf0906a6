"""The section on bias of a model card: what was measured and done, or that nothing was."""

from collections.abc import Iterator, Mapping

from llmcore.config.fairness import FairnessSettings

__all__ = ["bias_section"]

_NOT_MEASURED = "How this model treats groups of people was not measured: do so before it is used where that matters."


def bias_section(metrics: Mapping[str, float], fairness: FairnessSettings | None) -> str:
    """Markdown.

    Args:
        metrics: of the validation split, those of fairness alone; none where nothing was measured.
        fairness: what the fine-tuning did about it; None: nothing.
    """
    return "\n".join(["", "## Bias", "", *_measured(metrics, fairness), *_done(fairness), ""])


def _measured(metrics: Mapping[str, float], fairness: FairnessSettings | None) -> Iterator[str]:
    if not metrics or fairness is None:
        yield _NOT_MEASURED
        return
    yield "| between validation rows and the same of the other group | |"
    yield "| --- | --- |"
    for name, value in metrics.items():
        yield f"| {name.removeprefix('validation_').replace('_', ' ')} | {value:.4f} |"
    yield ""
    yield f"By {len(fairness.words.pairs)} pairs of words; 0 is no difference. It says nothing of any other group."


def _done(fairness: FairnessSettings | None) -> Iterator[str]:
    if fairness is None:
        return
    done = {
        f"of {fairness.augment:.0%} of the train rows that name somebody a counterfactual copy was learnt": (
            fairness.augment > 0
        ),
        f"the loss had the differences from counterfactuals in it, with weight {fairness.consistency:g}": (
            fairness.consistency > 0
        ),
        f"labels were made independent of groups ({fairness.balance})": fairness.balance is not None,
    }
    if told := "; ".join(words for words, is_done in done.items() if is_done):
        yield ""
        yield f"What was done about it: {told}."
