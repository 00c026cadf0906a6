"""`train`: steps against the same training by plain means, and what comes before the first of them.

Gloo ranks of one thread; a GPT of 10 M parameters; rows of 256 tokens packed from the standard library's documents,
since the lengths of documents decide what their attention costs. Loops by themselves, without Ray and without data
loading; then ours in Ray Train's place, its reader running, against bare DeepSpeed on tensors in memory.
"""

import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal

from jobs.benchmarks.rows import Measured, Row, in_turn, median_of
from jobs.runtime.console import quiet, say
from jobs.runtime.options import RunOptions
from llmcore.errors import RunError
from llmcore.storage import Folder, publish

if TYPE_CHECKING:
    from jobs.benchmarks.loops import Block, Job, Loop
    from llmcore.train.precision import Precision

__all__ = ["measure"]

WORLD_SIZE = 2
NUM_REPETITIONS = 5
STEPS_PER_BLOCK = 4
NUM_WARM_UP_STEPS = 4
GLOBAL_BATCH_SIZE = 8
SEQUENCE_LENGTH = 256
VOCAB_SIZE = 8192
CORPUS_CHARACTERS = 4_000_000
SIZES = {"n_embd": 320, "n_layer": 6, "n_head": 5}
TOLERANCE = 1e-4
"""Nats that the losses of two exact loops may differ by, in fp32, …"""
NUM_CHECKED_STEPS = 8
"""… in so many steps. Later, Adam has made full steps of what rounding left of gradients that are nearly zero: the two
weights differ where it hardly matters, and a rare token then shows it."""

STAGES: tuple[Literal[1, 2, 3], ...] = (1, 2, 3)
SAME = "DDP, our attention"
EXACT = "DDP, boolean mask"
LEAKING = "DDP, documents leak"
TRAINER = "transformers Trainer, documents leak"
COMPILED, EAGER = "ours, bf16, compiled", "ours, fp32, eager"


def _ours(stage: int) -> str:
    return f"ours, ZeRO-{stage}"


def measure(options: RunOptions) -> Measured:
    """Tokens per second, in turn; and the losses, which must agree. Raises RunError where they do not."""
    from jobs.benchmarks.ranks import run_ranks
    from jobs.benchmarks.train_step import step_rows

    with tempfile.TemporaryDirectory() as folder:
        tokens = Folder(f"{folder}/tokens")
        num_rows, mean_length = _write_rows(tokens)
        say(f"train: {num_rows} rows of {SEQUENCE_LENGTH} tokens, documents of {mean_length:.0f} tokens on average")
        by_precision = run_ranks(WORLD_SIZE, _measure_on_rank, tokens.url, options.verbose)[0]
        alone = run_ranks(1, _measure_on_rank, tokens.url, options.verbose)[0]
        compiled = run_ranks(WORLD_SIZE, _measure_compiled_on_rank, tokens.url, options.verbose)[0]
        rows = [row for precision, found in by_precision.items() for row in _rows(precision, found)]
        for precision, found in alone.items():
            rows += _speeds(f"one process, {precision}", found["tokens_per_s"], [TRAINER, EXACT])
        if compiled:
            rows.append(Row(COMPILED, compiled[COMPILED], "tokens/s", EAGER, compiled[EAGER]))
        rows += step_rows(tokens, {"family": "gpt2", "sizes": SIZES}, GLOBAL_BATCH_SIZE, options)
    if find_spec("accelerate") is None:
        say(f"train: {TRAINER!r} is left out, since it needs accelerate, which is not installed")
    settings = {
        "model": {"family": "gpt2", **SIZES, "vocab_size": VOCAB_SIZE},
        "sequence_length": SEQUENCE_LENGTH,
        "global_batch_size": GLOBAL_BATCH_SIZE,
        "num_ranks": WORLD_SIZE,
        "precisions": list(by_precision),
        "num_repetitions": NUM_REPETITIONS,
        "steps_per_block": STEPS_PER_BLOCK,
        "tokens_per_document": round(mean_length, 1),
    }
    return Measured(rows, settings)


def _speeds(what: str, speeds: dict[str, float], peers: list[str]) -> list[Row]:
    """Each of ours against each peer that took part."""
    return [
        Row(f"{name}, {what}", speeds[name], "tokens/s", peer, speeds[peer])
        for name in map(_ours, STAGES)
        for peer in peers
        if name in speeds and peer in speeds
    ]


def _rows(precision: str, found: dict[str, Any]) -> list[Row]:
    losses: dict[str, list[float]] = found["losses"]
    ours, exact = losses[_ours(2)], losses[EXACT]
    differences = [abs(a - b) for a, b in zip(ours, exact, strict=True)]
    furthest = max(differences[:NUM_CHECKED_STEPS])
    if precision == "fp32" and not furthest <= TOLERANCE:  # NaN too
        raise RunError(
            f"the losses of ours and of {EXACT!r} differ by {furthest:.2g} nats in {NUM_CHECKED_STEPS} steps, "
            f"more than {TOLERANCE}: they do not train the same, and their speeds cannot be compared"
        )
    return [
        *_speeds(precision, found["tokens_per_s"], [SAME, EXACT, LEAKING, TRAINER]),
        Row(f"loss after {len(ours)} steps, {precision}", ours[-1], "nats", EXACT, exact[-1]),
        Row(f"largest difference of a loss in {NUM_CHECKED_STEPS} steps, {precision}", furthest, "nats"),
        Row(f"… in {len(ours)} steps, {precision}", max(differences), "nats"),
    ]


def _write_rows(folder: Folder) -> tuple[int, float]:
    """Token shards of real documents; the number of their rows, and the mean length of their pieces.

    The documents are made and ordered as `prepare` does it: without duplicates, by the digests of their texts.
    """
    import pyarrow as pa

    from llmcore.config.prepare import PackingSettings
    from llmcore.corpus.dedup import text_digests
    from llmcore.corpus.stdlib import StdlibCorpus
    from llmcore.tokens.encode import pack_documents
    from llmcore.tokens.encoder import Encoder
    from llmcore.tokens.shards import KIND, shard_name, write_shard
    from llmcore.tokens.tokenizer import OWN_IDS, train_tokenizer

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
    packing = PackingSettings(sequence_length=SEQUENCE_LENGTH)
    rows, _ = pack_documents(documents, Encoder(tokenizer, "gigatoken"), packing)
    num_rows, name = rows.num_rows, shard_name("train", 0)
    source = {"name": "stdlib", "first_row": 0, "num_rows": num_rows, "weight": None, "max_epochs": None}
    about = {
        "sequence_length": SEQUENCE_LENGTH,
        "vocab_size": VOCAB_SIZE,
        "rows_per_block": num_rows,
        "special_ids": OWN_IDS._asdict(),
        "mixture": [source],
        "splits": {"train": {"num_rows": num_rows, "shards": [{"name": name, "num_rows": num_rows}]}},
    }
    with publish(folder, KIND, about) as publication:
        publication.add(write_shard(folder, name, rows, num_rows))
    lengths = rows["document_lengths"].combine_chunks().flatten().to_numpy()
    return num_rows, float(lengths.mean())


def _job(tokens: str, precision: "Precision | None" = None, **changes: Any) -> "Job":
    """What the loops of this rank do; in the fastest precision, where none is given."""
    import numpy as np
    from torch import distributed

    from jobs.benchmarks.loops import Job
    from llmcore.config.model import ModelSettings
    from llmcore.config.train import TrainSettings
    from llmcore.models.build import config_for_tokens
    from llmcore.tokens.shards import TokenShards
    from llmcore.train.precision import resolve_precision

    shards = TokenShards.open(Folder(tokens))
    rows = shards.rows("train", np.arange(shards.num_rows("train")))
    config = config_for_tokens(ModelSettings(family="gpt2", sizes=SIZES), shards, 0)
    settings = TrainSettings.model_validate(
        {
            "num_steps": NUM_WARM_UP_STEPS + NUM_REPETITIONS * STEPS_PER_BLOCK,
            "global_batch_size": GLOBAL_BATCH_SIZE,
            "micro_batch_size": GLOBAL_BATCH_SIZE // distributed.get_world_size(),
            "zero_stage": 2,
            "optimizer": {"learning_rate": 3e-4},
            "schedule": {"kind": "constant", "warmup_fraction": 0.0},
        }
    )
    return Job(rows, config, settings.model_copy(update=changes), precision or resolve_precision(settings))


def _measure_on_rank(tokens: str, verbose: bool) -> dict[str, Any]:
    """For each precision, each loop's median speed, and its losses."""
    quiet(verbose)
    from torch import distributed

    from jobs.benchmarks.ranks import silenced

    with silenced(verbose=verbose):
        fastest = _job(tokens).precision
        precisions = dict.fromkeys(["fp32", fastest] if distributed.get_world_size() > 1 else [fastest])
        return {precision: _measure(_job(tokens, precision), fully=precision == fastest) for precision in precisions}


def _measure_compiled_on_rank(tokens: str, verbose: bool) -> dict[str, float]:
    """Tokens a second in bf16 with compiled layers, and in fp32 without; nothing where bf16 is not multiplied."""
    quiet(verbose)
    from jobs.benchmarks.loops import OurLoop
    from jobs.benchmarks.ranks import silenced

    with silenced(verbose=verbose):
        jobs = {COMPILED: _job(tokens, compile=True), EAGER: _job(tokens, "fp32")}
        if jobs[COMPILED].precision != "bf16":
            return {}
        loops = {name: OurLoop(job, 2) for name, job in jobs.items()}
        for loop in loops.values():
            loop.run(range(NUM_WARM_UP_STEPS))
        blocks = in_turn({name: _blocks(loop, jobs[name]) for name, loop in loops.items()}, NUM_REPETITIONS)
    return {name: median_of(found, lambda timed: timed[0]) for name, found in blocks.items()}


def _blocks(loop: "Loop", job: "Job") -> Callable[[int], tuple[float, "Block"]]:
    """Takes the steps of a repetition: tokens a second, and what came out."""

    def run(repetition: int) -> tuple[float, "Block"]:
        first = NUM_WARM_UP_STEPS + repetition * STEPS_PER_BLOCK
        steps = range(first, first + STEPS_PER_BLOCK)
        block = loop.run(steps)
        return job.num_tokens(steps) / block.seconds, block

    return run


def _measure(job: "Job", *, fully: bool) -> dict[str, Any]:
    """All loops; or, where it is for the check of the losses, ours and its exact peer alone."""
    from torch import distributed

    from jobs.benchmarks.loops import OurLoop, PlainLoop, TrainerLoop

    loops: dict[str, Loop] = {_ours(2): OurLoop(job, 2), EXACT: PlainLoop(job, "mask")}
    if fully and distributed.get_world_size() > 1:
        loops |= {_ours(stage): OurLoop(job, stage) for stage in STAGES if stage != 2}
        loops |= {SAME: PlainLoop(job, "ours"), LEAKING: PlainLoop(job, "leaks")}
    if fully and find_spec("accelerate") is not None:
        loops[TRAINER] = TrainerLoop(job)
    losses = {name: loop.run(range(NUM_WARM_UP_STEPS)).losses for name, loop in loops.items()}

    blocks = in_turn({name: _blocks(loop, job) for name, loop in loops.items()}, NUM_REPETITIONS)
    for name, found in blocks.items():
        losses[name] += [loss for _, block in found for loss in block.losses]
    speeds = {name: median_of(found, lambda timed: timed[0]) for name, found in blocks.items()}
    return {"tokens_per_s": speeds, "losses": losses}
