"""`train`: the loop without Ray and without data loading, against the same training by plain means.

Two gloo ranks of one thread; a GPT of 4 M parameters; rows of 256 tokens packed from the standard library's documents,
since the lengths of documents decide what their attention costs.
"""

import io
import tempfile
from collections.abc import Callable
from contextlib import nullcontext, redirect_stdout
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs.benchmarks.rows import Measured, Row, in_turn, median_of
from jobs.runtime.console import quiet, say
from jobs.runtime.options import RunOptions
from llmcore.errors import RunError

if TYPE_CHECKING:
    from jobs.benchmarks.loops import Job, Loop

__all__ = ["measure"]

WORLD_SIZE = 2
NUM_REPETITIONS = 5
STEPS_PER_BLOCK = 8
NUM_WARM_UP_STEPS = 4
GLOBAL_BATCH_SIZE = 8
SEQUENCE_LENGTH = 256
VOCAB_SIZE = 4096
CORPUS_CHARACTERS = 2_000_000
SIZES = {"n_embd": 256, "n_layer": 4, "n_head": 4}
TOLERANCE = 1e-4
"""Nats that the losses of two exact loops may differ by, in fp32, …"""
NUM_CHECKED_STEPS = 8
"""… in so many steps. Later, Adam has made full steps of what rounding left of gradients that are nearly zero: the two
weights differ where it hardly matters, and a rare token then shows it."""

OURS = "ours"
EXACT = "DDP, boolean mask"
LEAKING = "DDP, documents leak"
TRAINER = "transformers Trainer, documents leak"


def measure(options: RunOptions) -> Measured:
    """Tokens per second, in turn; and the losses, which must agree. Raises RunError where they do not."""
    from jobs.benchmarks.ranks import run_ranks

    with tempfile.TemporaryDirectory() as folder:
        rows_file = Path(folder, "rows.arrow")
        num_rows, mean_length = _write_rows(rows_file)
        say(f"train: {num_rows} rows of {SEQUENCE_LENGTH} tokens, documents of {mean_length:.0f} tokens on average")
        by_precision = run_ranks(WORLD_SIZE, _measure_on_rank, str(rows_file), options.verbose)[0]
    rows: list[Row] = []
    for precision, found in by_precision.items():
        rows += _rows(precision, found)
    if find_spec("accelerate") is None:
        say(f"train: {TRAINER!r} is left out, since it needs accelerate, which is not installed")
    settings = {
        "model": {"family": "gpt2", **SIZES, "vocab_size": VOCAB_SIZE},
        "sequence_length": SEQUENCE_LENGTH,
        "global_batch_size": GLOBAL_BATCH_SIZE,
        "num_ranks": WORLD_SIZE,
        "zero_stage": 2,
        "precisions": list(by_precision),
        "num_repetitions": NUM_REPETITIONS,
        "steps_per_block": STEPS_PER_BLOCK,
        "tokens_per_document": round(mean_length, 1),
    }
    return Measured(rows, settings)


def _rows(precision: str, found: dict[str, Any]) -> list[Row]:
    speeds: dict[str, float] = found["tokens_per_s"]
    losses: dict[str, list[float]] = found["losses"]
    ours, exact = losses[OURS], losses[EXACT]
    differences = [abs(a - b) for a, b in zip(ours, exact, strict=True)]
    furthest = max(differences[:NUM_CHECKED_STEPS])
    if precision == "fp32" and not furthest <= TOLERANCE:  # NaN too
        raise RunError(
            f"the losses of ours and of {EXACT!r} differ by {furthest:.2g} nats in {NUM_CHECKED_STEPS} steps, "
            f"more than {TOLERANCE}: they do not train the same, and their speeds cannot be compared"
        )
    return [
        *(Row(f"speed, {precision}", speeds[OURS], "tokens/s", peer, speeds[peer]) for peer in speeds if peer != OURS),
        Row(f"loss after {len(ours)} steps, {precision}", ours[-1], "nats", EXACT, exact[-1]),
        Row(f"largest difference of a loss in {NUM_CHECKED_STEPS} steps, {precision}", furthest, "nats"),
        Row(f"… in {len(ours)} steps, {precision}", max(differences), "nats"),
    ]


def _write_rows(file: Path) -> tuple[int, float]:
    """Packed rows of real documents; their number, and the mean length of their pieces.

    The documents are made and ordered as `prepare` does it: without duplicates, by the digests of their texts.
    """
    import pyarrow as pa

    from llmcore.config.prepare import PackingSettings
    from llmcore.corpus.dedup import text_digests
    from llmcore.corpus.stdlib import StdlibCorpus
    from llmcore.tokens.encode import pack_documents
    from llmcore.tokens.encoder import Encoder
    from llmcore.tokens.tokenizer import train_tokenizer

    texts = [document.text for document in StdlibCorpus().documents()]
    mixed = dict(sorted(zip(text_digests(texts, seed=0), texts, strict=True)))
    chosen: list[str] = []
    num_characters = 0
    for text in mixed.values():
        if num_characters >= CORPUS_CHARACTERS:
            break
        chosen.append(text)
        num_characters += len(text)
    tokenizer = train_tokenizer(chosen, VOCAB_SIZE)
    documents = pa.table({"text": chosen, "source": [0] * len(chosen)})
    rows = pack_documents(documents, Encoder(tokenizer, "gigatoken"), PackingSettings(sequence_length=SEQUENCE_LENGTH))
    with pa.ipc.new_file(str(file), rows.schema) as writer:
        writer.write_table(rows)
    lengths = rows["document_lengths"].combine_chunks().flatten().to_numpy()
    return rows.num_rows, float(lengths.mean())


def _measure_on_rank(rows_file: str, verbose: bool) -> dict[str, Any]:
    """For each precision, each loop's median speed, and its losses."""
    quiet(verbose)
    import pyarrow as pa

    from jobs.benchmarks.loops import Job
    from llmcore.config.model import ModelSettings
    from llmcore.config.train import TrainSettings
    from llmcore.models.build import model_config
    from llmcore.tokens.tokenizer import END_OF_TEXT, PAD, SPECIAL_TOKENS
    from llmcore.train.precision import resolve_precision

    rows = pa.ipc.open_file(rows_file).read_all()
    special = {"eos_id": SPECIAL_TOKENS.index(END_OF_TEXT), "pad_id": SPECIAL_TOKENS.index(PAD)}
    model = ModelSettings(family="gpt2", sizes=SIZES)
    config = model_config(model, vocab_size=VOCAB_SIZE, sequence_length=SEQUENCE_LENGTH, **special)
    settings = TrainSettings.model_validate(
        {
            "num_steps": NUM_WARM_UP_STEPS + NUM_REPETITIONS * STEPS_PER_BLOCK,
            "global_batch_size": GLOBAL_BATCH_SIZE,
            "micro_batch_size": GLOBAL_BATCH_SIZE // WORLD_SIZE,
            "zero_stage": 2,
            "optimizer": {"learning_rate": 1e-3},
            "schedule": {"kind": "constant", "warmup_fraction": 0.0},
        }
    )
    precisions = dict.fromkeys(["fp32", resolve_precision(settings)])
    with nullcontext() if verbose else redirect_stdout(io.StringIO()):  # DeepSpeed prints what it has built
        return {precision: _measure(Job(rows, config, settings, precision)) for precision in precisions}


def _measure(job: "Job") -> dict[str, Any]:
    from jobs.benchmarks.loops import Block, OurLoop, PlainLoop, TrainerLoop

    loops: dict[str, Loop] = {
        OURS: OurLoop(job),
        EXACT: PlainLoop(job, exact=True),
        LEAKING: PlainLoop(job, exact=False),
    }
    if find_spec("accelerate") is not None:
        loops[TRAINER] = TrainerLoop(job)
    losses = {name: loop.run(range(NUM_WARM_UP_STEPS)).losses for name, loop in loops.items()}

    def block_of(loop: "Loop") -> Callable[[int], tuple[float, Block]]:
        def run(repetition: int) -> tuple[float, Block]:
            first = NUM_WARM_UP_STEPS + repetition * STEPS_PER_BLOCK
            steps = range(first, first + STEPS_PER_BLOCK)
            block = loop.run(steps)
            return job.num_tokens(steps) / block.seconds, block

        return run

    blocks = in_turn({name: block_of(loop) for name, loop in loops.items()}, NUM_REPETITIONS)
    for name, found in blocks.items():
        losses[name] += [loss for _, block in found for loss in block.losses]
    speeds = {name: median_of(found, lambda timed: timed[0]) for name, found in blocks.items()}
    return {"tokens_per_s": speeds, "losses": losses}
