"""`finetune`: packed batches, as fine-tuning makes them, against shuffled ones padded to the longest of each.

Both go through the same engine, from the same weights, with the same examples in each step. What differs: ours come
sorted by length and end to end, with attention inside each; the peer's as transformers' collators pad them, with a
mask, through transformers' own forward pass and loss.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple

from jobs.benchmarks.finetune_cases import CASES, Case
from jobs.benchmarks.rows import Measured, Row, in_turn, median_of
from jobs.runtime.console import quiet, say
from jobs.runtime.options import RunOptions
from llmcore.errors import RunError
from llmcore.storage import Folder

if TYPE_CHECKING:
    from llmcore.tasks.evaluation_set import EvaluationSet
    from llmcore.train.engine import Engine
    from llmcore.train.finetuning import Finetuning

__all__ = ["OURS", "PEER", "Side", "check_losses", "measure", "padding_share", "sides_of"]

OURS, PEER = "ours", "shuffled and padded"
NUM_REPETITIONS = 5
STEPS_PER_BLOCK = 4
NUM_STEPS = (1 + NUM_REPETITIONS) * STEPS_PER_BLOCK
"""One block warms up."""
TOLERANCE = 1e-4
"""Relative, of the loss of a batch by both, in fp32."""


def measure(options: RunOptions) -> Measured:
    """Padding and speed of each case.

    Raises:
        UserError: LLMCORE_DATA names no folder with the sets.
        RunError: both did not do the same work.
    """
    from jobs.benchmarks.ranks import run_ranks

    rows: list[Row] = []
    settings: dict[str, Any] = {"num_repetitions": NUM_REPETITIONS, "steps_per_block": STEPS_PER_BLOCK}
    with TemporaryDirectory() as folder:
        for number, case in enumerate(CASES):
            data, base = case.labelled(Folder(f"{folder}/storage")), Path(folder, f"base-{number}")
            case.write_base(base, data)
            say(f"finetune: {case.name}, {data.num_rows('train'):,} examples, {case.batch_size} in a step")
            [found] = run_ranks(1, _measure_on_rank, number, str(base), data.folder.url, options.verbose)
            rows += _rows(case, found)
            facts = {key: found[key] for key in ("precision", "num_parameters", "tokens_per_example")}
            settings[case.name] = facts | {"family": case.family, "batch_size": case.batch_size, **case.sizes}
    return Measured(rows, settings)


def _rows(case: Case, found: dict[str, Any]) -> list[Row]:
    padding, examples, tokens = found["padding"], found["examples_per_s"], found["tokens_per_s"]
    return [
        Row(f"{case.name}: padding", padding[OURS], "of all tokens", PEER, padding[PEER]),
        Row(f"{case.name}: {found['precision']}", examples[OURS], "examples/s", PEER, examples[PEER]),
        Row("… without padding", tokens[OURS], "tokens/s", PEER, tokens[PEER]),
    ]


@dataclass(frozen=True)
class Side:
    """Ours or the peer.

    Attributes:
        model: with its weights.
        objective: its loss.
        batches: the batch of each step, from the first on.
    """

    model: Any
    objective: Any
    batches: Callable[[], Iterator[Any]]


def sides_of(recipe: "Finetuning", base: Path, data: "EvaluationSet") -> dict[str, Side]:
    """Both, with the same weights and the same examples in each step, of this process alone."""
    from jobs.benchmarks.padded import Padded, padded_batch, plain_attention
    from llmcore.tasks.base import Reader
    from llmcore.tokens.order import RowOrder
    from llmcore.train.rows import step_rows

    reader = Reader.of(base)
    examples = recipe.task.features(reader, data.rows("train")).examples
    order = RowOrder(len(examples), recipe.settings.seed)

    def ours() -> Iterator[Any]:
        return (batch for [batch] in recipe.step_batches(0))

    def padded() -> Iterator[Any]:
        for step in count():
            rows = step_rows(order, recipe.settings.global_batch_size, 1, 0, step)
            yield padded_batch(reader.tokenizer, [examples[row] for row in rows])

    return {
        OURS: Side(recipe.build_model(None), recipe.objective, ours),
        PEER: Side(plain_attention(recipe.build_model(None)), Padded(), padded),
    }


def padding_share(side: Side, num_batches: int) -> float:
    """What of all that goes through the model in the first batches is padding."""
    num_tokens = num_places = 0
    for batch in islice(side.batches(), num_batches):
        num_tokens += side.objective.num_tokens(batch)
        num_places += batch.num_places
    return 1 - num_tokens / num_places


class _Block(NamedTuple):
    """Some steps: their seconds on the wall, and their tokens."""

    seconds: float
    num_tokens: int


def _measure_on_rank(number: int, base: str, labelled: str, verbose: bool) -> dict[str, Any]:
    quiet(verbose)
    from jobs.benchmarks.ranks import silenced
    from llmcore.tasks.evaluation_set import EvaluationSet
    from llmcore.train.finetuning import Finetuning

    data = EvaluationSet.open(Folder(labelled))
    recipe = Finetuning(CASES[number].settings(NUM_STEPS), Path(base), data, "0" * 64)
    sides = sides_of(recipe, Path(base), data)
    check_losses(sides)
    per_epoch = data.num_rows("train") // recipe.settings.global_batch_size
    padding = {name: padding_share(side, per_epoch) for name, side in sides.items()}
    with silenced(verbose=verbose):
        engines = {name: _engine(recipe, side) for name, side in sides.items()}
        blocks = {name: _block_of(engine, sides[name].batches()) for name, engine in engines.items()}
        taken = in_turn(blocks, 1 + NUM_REPETITIONS)
    _, *found = zip(taken[OURS], taken[PEER], strict=True)
    return {
        "padding": padding,
        **_speeds(found, recipe.settings.global_batch_size),
        "precision": engines[OURS].precision,
        "num_parameters": engines[OURS].num_parameters,
    }


def _speeds(pairs: Sequence[tuple[_Block, _Block]], batch_size: int) -> dict[str, Any]:
    """Medians of the blocks, ours and the peer's by turns. Raises RunError where their tokens differ."""
    num_examples = STEPS_PER_BLOCK * batch_size
    for ours, padded in pairs:
        if ours.num_tokens != padded.num_tokens:
            raise RunError(f"a block of ours has {ours.num_tokens} tokens, and one of the peer {padded.num_tokens}")
    of_side = {OURS: [ours for ours, _ in pairs], PEER: [padded for _, padded in pairs]}
    num_tokens = sum(block.num_tokens for block in of_side[OURS])
    return {
        "examples_per_s": {
            name: median_of(blocks, lambda block: num_examples / block.seconds) for name, blocks in of_side.items()
        },
        "tokens_per_s": {
            name: median_of(blocks, lambda block: block.num_tokens / block.seconds) for name, blocks in of_side.items()
        },
        "tokens_per_example": num_tokens / (num_examples * len(pairs)),
    }


def check_losses(sides: Mapping[str, Side]) -> None:
    """Raises RunError where the two do not say the same of the first batch."""
    import torch

    losses = {}
    for name, side in sides.items():
        batch = next(side.batches())
        with torch.no_grad():
            total = float(side.objective.loss_sums(side.model, batch))
        losses[name] = total / side.objective.num_targets(batch)[0]
    ours, padded = losses.values()
    if not abs(ours - padded) <= TOLERANCE * padded:  # NaN too
        raise RunError(f"the loss of a batch is {ours} by ours and {padded} by the peer: they do not learn the same")


def _engine(recipe: "Finetuning", side: Side) -> "Engine":
    import torch

    from llmcore.train.engine import Engine
    from llmcore.train.precision import resolve_precision

    return Engine(
        side.model,
        side.objective,
        recipe.settings,
        num_steps=recipe.num_steps,
        precision=resolve_precision(recipe.settings),
        device=torch.device("cpu"),
    )


def _block_of(engine: "Engine", batches: Iterator[Any]) -> Callable[[int], _Block]:
    """Takes the steps of a repetition, making their batches meanwhile."""

    def run(repetition: int) -> _Block:
        started = time.perf_counter()
        steps = range(repetition * STEPS_PER_BLOCK, (repetition + 1) * STEPS_PER_BLOCK)
        num_tokens = sum(engine.step(step, [next(batches)]).num_tokens for step in steps)
        return _Block(time.perf_counter() - started, num_tokens)

    return run
