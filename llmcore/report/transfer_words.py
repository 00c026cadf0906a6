"""What pre-training has bought, in sentences that claim no more than the intervals and the measured budgets allow."""

from collections.abc import Iterator
from math import isinf

from llmcore.cost.transfer import Amount, BreakEven, BreakEvenBetween, EqualQuality
from llmcore.evaluation.transfer import COSTS, TransferOutcome
from llmcore.report import words

__all__ = ["amount", "paid", "paid_between", "sentences"]

_UNITS = {"device_seconds": "device-seconds", "flops": "FLOP"}


def amount(of: Amount, cost: str = "") -> str:
    """ "12.3 device-seconds", "200 labels or fewer", "8.1e12 FLOP or more": a budget, or the bound of one."""
    told = words.flops(of.value) if cost == "flops" else f"{of.value:,.3g}" if of.value < 1000 else f"{of.value:,.0f}"
    if cost != "flops":
        told = f"{told} {_UNITS.get(cost, cost)}".rstrip()
    return told + {"exact": "", "at_most": " or less", "at_least": " or more"}[of.bound]


def paid(found: BreakEven) -> str:
    """ "is paid for after at most 12 tasks", "is never paid for …": what is to be said of a pre-training."""
    if found.verdict == "never":
        return "is never paid for at these budgets, since a task saves nothing by it"
    if found.tasks is None:
        return "may be paid for or not: the smallest budgets already reach more, and smaller ones were not measured"
    tasks = found.tasks
    bound = {"exact": "", "at_most": "at most ", "at_least": "at least "}[tasks.bound]
    if tasks.value == 1:
        return "is paid for " + (
            "after at least one task" if tasks.bound == "at_least" else "at once, by the first task"
        )
    return f"is paid for after {bound}{tasks.value:,.0f} tasks"


def paid_between(found: BreakEvenBetween | None) -> str:
    """ " (95 % of the draws of rows: 4 to 12 tasks)", to be read behind `paid`; nothing where nothing was drawn."""
    if found is None:
        return ""
    if isinf(found.low):
        told = "never"
    elif isinf(found.high):
        told = f"{found.low:,.0f} tasks or more"
    else:
        told = f"{found.low:,.0f} to {found.high:,.0f} tasks"
    for share, what in ((found.never, "never"), (found.open, "not to be told")):
        if share and told != what:
            told += f", {what} in {share:.0%} of them"
    return f" (95 % of the draws of validation rows: {told})"


def sentences(outcome: TransferOutcome) -> list[str]:
    """The result, a sentence a line: equal budgets, equal quality by labels and by cost, and when it is paid for."""
    return [*_at_equal_budgets(outcome), *_by_labels(outcome), *_at_equal_quality(outcome), *_paid_off(outcome)]


def _at_equal_budgets(outcome: TransferOutcome) -> Iterator[str]:
    metric = words.plain(outcome.metric)
    if not outcome.differences:
        yield "No budget has a result with both kinds of weights, so that nothing can be compared."
        return
    sign = 1 if outcome.higher_is_better else -1
    told = [one.excludes_zero and (1 if sign * one.value > 0 else -1) for one in outcome.differences.values()]
    better, worse, number = told.count(1), told.count(-1), len(told)
    (labels, epochs), last = list(outcome.differences.items())[-1]
    yield (
        f"At equal labels and epochs the pre-trained model is better at {better} of {number} budgets, worse at "
        f"{worse}, and not distinguishable at {number - better - worse}; at the largest ({labels:,} labels, "
        f"{epochs:g} epoch{'' if epochs == 1 else 's'}) the difference in {metric} is {words.signed(last.value)}, "
        f"95 % interval {words.interval(last, difference=True)}."
    )


def _by_labels(outcome: TransferOutcome) -> Iterator[str]:
    """With the most epochs, where training is least short of steps."""
    by_labels = outcome.by_labels()
    found = by_labels[max(by_labels)] if by_labels else []
    if found:
        best, epochs = found[-1], max(by_labels)
        yield (
            f"With {epochs:g} epoch{'' if epochs == 1 else 's'} both reach {words.plain(outcome.metric)} "
            f"{words.figure(best.quality)}: the pre-trained model with {amount(best.first, 'labels')}, random weights "
            f"with {amount(best.second, 'labels')}."
        )


def _at_equal_quality(outcome: TransferOutcome) -> Iterator[str]:
    metric, equal = words.plain(outcome.metric), outcome.by_cost("device_seconds")
    pretrained, random = ([cell.quality.value for cell in outcome.of(one)] for one in ("pretrained", "random"))
    if not pretrained or not random:
        return
    best = max if outcome.higher_is_better else min
    ours, theirs = best(pretrained), best(random)
    if equal:
        yield _of_level(metric, equal[-1], outcome.by_cost("flops")[-1])
    else:
        yield f"No {metric} is reached by both within these budgets."
    if ours != theirs:
        ahead = best(ours, theirs)
        leader, other = ("the pre-trained model", "random weights")[:: 1 if ours == ahead else -1]
        yield (
            f"The best of {leader} is {words.figure(ahead)}; {other} did not reach it within the budgets, the best is "
            f"{words.figure(theirs if ours == ahead else ours)}."
        )


def _of_level(metric: str, seconds: EqualQuality, flops: EqualQuality) -> str:
    """By both costs: seconds are what is paid, FLOPs hang on no other work of the machine."""
    ours, theirs = (
        f"{amount(in_s, 'device_seconds')} ({amount(in_flops, 'flops')})"
        for in_s, in_flops in ((seconds.first, flops.first), (seconds.second, flops.second))
    )
    return (
        f"The best {metric} that both reach is {words.figure(seconds.quality)}: fine-tuning takes {ours} from the "
        f"pre-trained model and {theirs} from random weights."
    )


def _paid_off(outcome: TransferOutcome) -> Iterator[str]:
    """By the first cost that is known of the pre-training."""
    pretraining = outcome.pretraining
    cost = next((cost for cost in COSTS if pretraining.of(cost) is not None), None)
    if cost is None:
        yield (
            "After how many tasks the pre-training is paid for cannot be told, since its cost is not known: "
            f"{pretraining.source}."
        )
    elif (found := outcome.paid_off(cost)) is None:
        yield "After how many tasks the pre-training is paid for cannot be told: no quality is reached by both."
    else:
        told = amount(Amount(pretraining.of(cost) or 0.0), cost)
        between = paid_between(outcome.paid_off_between(cost))
        yield (
            f"At the best quality that both reach the pre-training ({told}, by {pretraining.source}) {paid(found)}"
            f"{between}."
        )
