"""Exact sums over a split: every row once, whatever the number of ranks."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from torch import Tensor, distributed

from llmcore.errors import RunError
from llmcore.evaluation.metrics import Additive
from llmcore.objectives.base import unigram_loss_sum
from llmcore.tasks.base import Task, batches_in_order
from llmcore.tasks.counterfactual import Counterfactuals
from llmcore.tokens.order import padded_share_size, share
from llmcore.train.engine import Engine
from llmcore.train.held_out import HeldOut

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = [
    "Pairs",
    "judge_rows",
    "shares_of_tokens",
    "validate_language_model",
    "validate_task",
]


class Pairs(NamedTuple):
    """Those of the validated examples whose rows name somebody, and their counterfactuals, in the same order.

    Attributes:
        made: What made them.
        places: Of the examples among all that are validated, ascending.
        after: The examples of their counterfactuals.
    """

    made: Counterfactuals
    places: list[int]
    after: list[Any]


def _own_batches(num_rows: int, size: int) -> Iterator[range]:
    """This rank's rows in batches of at most `size`: as many as any rank has, since at ZeRO-3 each is a collective.

    The last ones may have no rows.
    """
    world_size = distributed.get_world_size()
    own = share(num_rows, world_size, distributed.get_rank())
    for number in range(-(-padded_share_size(num_rows, world_size) // size)):
        yield own[number * size : (number + 1) * size]


def shares_of_tokens(sizes: Sequence[int], world_size: int) -> list[range]:
    """The examples of each rank, of about as many tokens: contiguous, so that one after the other they are all.

    Counted by examples, one rank may wait for another that has the long ones.
    """
    ends = np.cumsum(sizes)
    middles = ends - np.asarray(sizes) / 2
    bounds = np.searchsorted(middles, ends[-1] * np.arange(1, world_size) / world_size, side="right").tolist()
    return [range(first, last) for first, last in pairwise([0, *bounds, len(sizes)])]


def _in_step(examples: Sequence[Any], shares: Sequence[range], max_tokens: int) -> Iterator[list[int]]:
    """This rank's batches of its share: as many as any rank has, since at ZeRO-3 each is a collective.

    The last ones may have no examples. Shares of as many tokens have about as many batches.
    """
    of_ranks = [list(batches_in_order(examples, one, max_tokens)) for one in shares]
    own = of_ranks[distributed.get_rank()]
    yield from own
    yield from [[]] * (max(map(len, of_ranks)) - len(own))


def _check_complete(name: str, num_seen: float, num_rows: int) -> None:
    if round(num_seen) != num_rows:
        raise RunError(f"{name} saw {num_seen:.0f} rows of {num_rows}: its figures would not be exact")


def validate_language_model(
    engine: Engine,
    held_out: HeldOut,
    batch_rows: int,
    other_parts: Sequence[str] = (),
    unigram_counts: Tensor | None = None,
) -> dict[str, float]:
    """Over the targets of all rows: mean loss (nats) and accuracy; with counts, also those of train unigrams.

    `other_parts` names the parts of the loss besides that of the tokens; each has a mean loss and an accuracy. The
    metrics are called after `held_out`, the unigrams' are not. A collective.
    """
    names = [held_out.name, *(f"{held_out.name}_{part}" for part in other_parts)]
    objective = held_out.objective
    of_parts, of_unigrams = np.zeros((len(names), 3)), np.zeros(2)  # losses, hits and targets; losses and hits
    num_seen = 0.0
    with engine.evaluating():
        for rows in _own_batches(len(held_out), batch_rows):
            batch = held_out.batch(rows)
            measured = np.array(engine.measure(batch, objective.loss_and_hits)).reshape(-1, 2)
            of_parts += np.column_stack([measured, objective.num_targets(batch)])
            if unigram_counts is not None:
                targets = objective.targets(batch)
                hits = int((targets == unigram_counts.argmax()).sum())
                of_unigrams += unigram_loss_sum(unigram_counts, targets), hits
            num_seen += len(rows)
    *sums, num_seen = engine.sum_over_ranks([*of_parts.flatten(), *of_unigrams, num_seen])
    _check_complete(held_out.name, num_seen, len(held_out))
    metrics: dict[str, float] = {}
    for name, (loss, hits, count) in zip(names, np.reshape(sums[:-2], (-1, 3)).tolist(), strict=True):
        # A small sample may have no pair, and then nothing is said of them.
        metrics |= {f"{name}_loss": loss / count, f"{name}_accuracy": hits / count} if count else {}
    if unigram_counts is not None:
        num_targets = sums[2]
        metrics |= {"unigram_loss": sums[-2] / num_targets, "unigram_accuracy": sums[-1] / num_targets}
    return metrics


def _shares(examples: Sequence[Any]) -> list[range]:
    return shares_of_tokens([example.num_tokens for example in examples], distributed.get_world_size())


def _judged(
    engine: Engine, task: Task[Any, Any], examples: Sequence[Any], shares: Sequence[range], max_tokens: int
) -> Iterator[tuple["pa.Table", np.ndarray[Any, Any]]]:
    """Of each of this rank's batches what is measured of its rows, and its loss, targets and examples [3]."""
    with engine.evaluating() as model:
        for own in _in_step(examples, shares, max_tokens):
            # A rank whose share is at its end runs the model all the same, as ZeRO's hooks need.
            judged = task.judge(model, [examples[one] for one in own] or examples[:1], engine.device)
            totals = np.array([judged.loss_sum, judged.num_targets, len(own)]) * bool(own)
            yield judged.rows.slice(0, len(own)), totals


def validate_task(
    engine: Engine,
    task: Task[Any, Any],
    examples: Sequence[Any],
    max_tokens: int,
    metrics: Sequence[Additive],
    pairs: Pairs | None = None,
) -> dict[str, float]:
    """Loss a target, and the metrics, over all examples: sums over ranks give those of all rows. A collective.

    With pairs also how predictions move from examples to their counterfactuals; nothing of it where there are none.
    """
    import pyarrow as pa

    sums: list[np.ndarray[Any, Any]] = []
    told: list[pa.Table] = []
    totals, shares = np.zeros(3), _shares(examples)
    for rows, of_batch in _judged(engine, task, examples, shares, max_tokens):
        of_metrics = [metric.sums(rows) for metric in metrics]
        sums = [before + more for before, more in zip(sums, of_metrics, strict=True)] if sums else of_metrics
        totals += of_batch
        told += [rows] if pairs is not None else []
    ends = np.cumsum([3, *(len(of_metric) for of_metric in sums)])
    (loss, num_targets, num_seen), *of_all = np.split(
        np.array(engine.sum_over_ranks(np.concatenate([totals, *sums]).tolist())), ends[:-1]
    )
    _check_complete("validation", num_seen, len(examples))
    scores = {metric.name: float(metric.value(own)) for metric, own in zip(metrics, of_all, strict=True)}
    found = {"validation_loss": loss / num_targets, **{f"validation_{name}": one for name, one in scores.items()}}
    if pairs is not None and pairs.places:
        own_rows = pa.concat_tables(told, promote_options="permissive")
        found |= _validate_counterfactuals(engine, task, pairs, own_rows, shares, max_tokens)
    return found


def _validate_counterfactuals(
    engine: Engine,
    task: Task[Any, Any],
    pairs: Pairs,
    own_rows: "pa.Table",
    shares: Sequence[range],
    max_tokens: int,
) -> dict[str, float]:
    """How often, and how far on average, predictions move between examples and their counterfactuals. A collective.

    A rank has the counterfactuals of its own share of the examples, of which it knows already what the model says.
    """
    first_of_own = shares[distributed.get_rank()].start
    bounds = np.searchsorted(pairs.places, [0, *(one.stop for one in shares)]).tolist()
    pieces = [range(first, last) for first, last in pairwise(bounds)]
    sums = np.zeros(3)  # flips, shifts, pairs
    with engine.evaluating() as model:
        for own in _in_step(pairs.after, pieces, max_tokens):
            # As above, a rank that has none left runs the model all the same.
            after = task.judge(model, [pairs.after[one] for one in own] or pairs.after[:1], engine.device).rows
            if own:
                before = own_rows.take([pairs.places[one] - first_of_own for one in own])
                moves = pairs.made.moves(before.to_pydict(), after.to_pydict())
                sums += np.array([moves.flips.sum(), moves.shifts.sum(), len(own)])
    flips, shifts, num_seen = engine.sum_over_ranks(sums.tolist())
    _check_complete("validation of counterfactuals", num_seen, len(pairs.places))
    return {
        "validation_counterfactual_flips": flips / num_seen,
        "validation_counterfactual_gap": shifts / num_seen,
    }


def judge_rows(
    engine: Engine, task: Task[Any, Any], examples: Sequence[Any], max_tokens: int
) -> tuple[float, "pa.Table"]:
    """Loss a target over all examples, and what is measured of each, in their order, on every rank. A collective."""
    import pyarrow as pa

    own, totals = zip(*_judged(engine, task, examples, _shares(examples), max_tokens), strict=True)
    loss, num_targets, num_seen = engine.sum_over_ranks(np.sum(totals, axis=0).tolist())
    _check_complete("validation", num_seen, len(examples))
    parts: list[Any] = [None] * engine.world_size
    distributed.all_gather_object(parts, pa.concat_tables(own, promote_options="permissive"))
    return loss / num_targets, pa.concat_tables(parts, promote_options="permissive")
