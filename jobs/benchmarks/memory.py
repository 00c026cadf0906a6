"""`memory`: what each of four ranks holds, held against the formulas of `llmcore.cost.memory`.

Live bytes of tensors, as the process's own size does not show what ZeRO shares out. At each stage between the
collectives of a step, and at ZeRO-3 at the worst moment of each part of a run, a layer being whole.
"""

import tempfile
from itertools import product
from pathlib import Path
from typing import Any, Literal

from jobs.benchmarks.rows import Measured, Row
from jobs.runtime.console import quiet, say
from jobs.runtime.options import RunOptions
from llmcore.cost.memory import SMALLEST_BUCKET, Moment, buckets_for, copy_bytes, peak_bytes, state_bytes
from llmcore.errors import RunError

__all__ = ["measure"]

WORLD_SIZE = 4
SIZES = {
    "hidden_size": 256,
    "intermediate_size": 704,
    "num_attention_heads": 4,
    "num_hidden_layers": 12,
    "tie_word_embeddings": False,
}
VOCAB_SIZE, SEQUENCE_LENGTH = 1024, 32
PRECISIONS: tuple[Literal["fp32", "bf16"], ...] = ("fp32", "bf16")
RUNS = [(0, PRECISIONS[0]), *((stage, precision) for stage in (1, 2, 3) for precision in PRECISIONS)]
"""Stages and precisions; bf16 needs a sharded master."""
SMALLEST_BUCKETS = {"buckets of a layer": 0, "buckets of the model": SMALLEST_BUCKET}
"""Of a model that is too large for one rank they hold a layer; of this one, as it is trained, all of it."""
TOLERANCE = 0.02
WORDS: dict[Moment, str] = {"step_end": "at a step's end", "after_backward": "after backward"}
FORMULA, BOUND = "formula", "share + largest layer + buckets"


def measure(options: RunOptions) -> Measured:
    """The rank that is furthest from the formula, of each stage; and the highest peaks.

    Raises RunError where a rank is more than 2 % off, or a peak is over the bound.
    """
    from jobs.benchmarks.ranks import run_ranks

    with tempfile.TemporaryDirectory() as root:
        found = run_ranks(WORLD_SIZE, _measure_on_rank, root, options.verbose)
    rows = [*_between_collectives(found), *_at_worst(found)]
    say(f"memory: a model of {found[0]['sizes'].num_parameters:,} parameters, {WORLD_SIZE} ranks")
    return Measured(rows, {"model": {"family": "llama", **SIZES, "vocab_size": VOCAB_SIZE}, "num_ranks": WORLD_SIZE})


def _between_collectives(found: list[dict[str, Any]]) -> list[Row]:
    sizes = found[0]["sizes"]
    rows = []
    for stage, precision in RUNS:
        for moment, words in WORDS.items():
            formula = state_bytes(
                sizes,
                stage=stage,
                precision=precision,
                world_size=WORLD_SIZE,
                moment=moment,
                buckets=buckets_for(sizes),
            )
            held = [rank["held"][stage, precision][moment] for rank in found]
            furthest = max(held, key=lambda value: abs(value - formula))
            if abs(furthest / formula - 1) > TOLERANCE:
                raise RunError(
                    f"ZeRO-{stage} in {precision} {words}: rank {held.index(furthest)} holds {furthest:,} bytes, and "
                    f"the formula says {formula:,.0f}: more than {TOLERANCE:.0%} apart"
                )
            name = f"ZeRO-{stage}, {precision}, {words}"
            rows.append(_row(name, furthest, FORMULA, formula, sizes.num_parameters))
    return rows


def _at_worst(found: list[dict[str, Any]]) -> list[Row]:
    sizes = found[0]["sizes"]
    rows = []
    for precision, words in product(PRECISIONS, SMALLEST_BUCKETS):
        buckets = buckets_for(sizes, at_least=SMALLEST_BUCKETS[words])
        bound = peak_bytes(sizes, precision=precision, world_size=WORLD_SIZE, buckets=buckets)
        for part in found[0]["peaks"][precision, words]:
            peak = max(rank["peaks"][precision, words][part] for rank in found)
            # A checkpoint goes through host memory, which here is the ranks' own.
            allowed = bound + (copy_bytes(sizes, world_size=WORLD_SIZE) if part in ("save", "restore") else 0)
            if peak > allowed:
                raise RunError(
                    f"ZeRO-3 in {precision}, {words}, {part}: a rank held {peak:,} bytes at once, more than "
                    f"{allowed:,.0f}"
                )
            rows.append(
                _row(f"ZeRO-3, {precision}, {words}, peak in {part}", peak, BOUND, allowed, sizes.num_parameters)
            )
    return rows


def _row(name: str, value: float, peer: str, peer_value: float, num_parameters: int) -> Row:
    return Row(name, value / num_parameters, "bytes/parameter", peer, peer_value / num_parameters)


def _measure_on_rank(root: str, verbose: bool) -> dict[str, Any]:
    quiet(verbose)
    from jobs.benchmarks.memory_rank import held_at_worst, held_between_collectives, write_tokenizer
    from jobs.benchmarks.ranks import silenced
    from llmcore.config.model import ModelSettings
    from llmcore.models.build import model_config

    def config() -> Any:
        settings = ModelSettings(family="llama", sizes=SIZES)
        return model_config(settings, vocab_size=VOCAB_SIZE, sequence_length=SEQUENCE_LENGTH, eos_id=0, pad_id=1)

    tokenizer = write_tokenizer(Path(root, "tokenizer"))
    found: dict[str, Any] = {"held": {}, "peaks": {}}
    with silenced(verbose=verbose):
        for precision, words in product(PRECISIONS, SMALLEST_BUCKETS):
            folder, smallest = str(Path(root, precision, words)), SMALLEST_BUCKETS[words]
            sizes, peaks = held_at_worst(config(), precision, WORLD_SIZE, smallest, folder, tokenizer)
            found["sizes"], found["peaks"][precision, words] = sizes, peaks
        for stage, precision in RUNS:
            _, held = held_between_collectives(config(), stage, precision, WORLD_SIZE, SMALLEST_BUCKET)
            found["held"][stage, precision] = held
    return found
