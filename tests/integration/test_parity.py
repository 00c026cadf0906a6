"""Every objective at every ZeRO stage and several world sizes: the losses of a plain loop.

The rows are of one corpus of random tokens; documents are of unequal lengths, and the rows of a global batch are dealt
unequally, so that ranks hold unequal numbers of targets. A group of processes is started once for each world size.
The suite takes ten steps; `make proof TOPIC=parity` takes fifty.
"""

from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import Tensor, distributed, nn
from torch.nn import functional
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoModelForSeq2SeqLM

from llmcore.config.corruption import InfillingSettings, SpanSettings
from llmcore.config.masking import MaskingSettings
from llmcore.config.model import ModelSettings
from llmcore.config.train import TrainSettings
from llmcore.models.build import build_language_model, model_config
from llmcore.models.packed import PackedBatch
from llmcore.objectives.base import LanguageObjective
from llmcore.objectives.causal_lm import CausalLM
from llmcore.objectives.infilling import FillInTheMiddle
from llmcore.objectives.masked_lm import MaskedLM
from llmcore.objectives.span_corruption import SpanCorruption
from llmcore.tokens.marks import InfillingMarks
from llmcore.tokens.schema import PackedRows, in_run
from llmcore.tokens.tokenizer import SpecialIds
from llmcore.tokens.vocabulary import Vocabulary
from tests.plain_loop import Document, plain_losses
from tests.ranks import run_ranks

NUM_STEPS = 10
NUM_STEPS_OF_PROOF = 50
NUM_ROWS = 29
LENGTH = 24
VOCAB_SIZE = 60
GLOBAL_BATCH = 7
"""Not divisible by 2 or 4."""
END, PAD, MASK = 0, 1, 2
MARKS = list(range(52, 60))
"""The rarest tokens, to be sentinels, or to mark a document's parts."""
ALL_STAGES, TWO_STAGES = (0, 1, 2, 3), (0, 3)
STAGES = {
    "causal_lm": ALL_STAGES,
    "masked_lm": ALL_STAGES,
    "span_corruption": TWO_STAGES,
    "fill_in_the_middle": TWO_STAGES,
}
WORLD_SIZES = (1, 2, 4)
SETTINGS = {
    "global_batch_size": GLOBAL_BATCH,
    "micro_batch_size": 2,
    "precision": "fp32",
    "optimizer": {"learning_rate": 1e-3, "max_grad_norm": 0.5},
    "schedule": {"kind": "constant", "warmup_fraction": 0.1},
}
FAMILIES = {"causal_lm": "gpt2", "masked_lm": "bert", "span_corruption": "t5", "fill_in_the_middle": "gpt2"}
SIZES: dict[str, dict[str, Any]] = {
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 2},
    "bert": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64},
    "t5": {"d_model": 32, "d_ff": 64, "d_kv": 16, "num_layers": 2, "num_heads": 2},
}


def _corpus() -> pa.Table:
    """Rows of 1 to 5 documents, some with padding."""
    rng = np.random.default_rng(5)
    tokens = np.full((NUM_ROWS, LENGTH), PAD, np.int32)
    lengths: list[list[int]] = []
    for row in tokens:
        cuts = np.sort(rng.choice(np.arange(2, LENGTH + 1), size=rng.integers(1, 6), replace=False))
        sizes = np.diff([0, *cuts]).tolist()
        # Tokens follow from the ones before them, so that there is something to learn.
        row[: cuts[-1]] = 3 + (np.cumsum(rng.integers(0, 4, cuts[-1])) % (VOCAB_SIZE - 3))
        row[cuts - 1] = END
        lengths.append(sizes)
    return PackedRows(tokens, lengths, [[0] * len(sizes) for sizes in lengths]).to_table(VOCAB_SIZE)


CORPUS = _corpus()


def _rows(positions: Sequence[int]) -> pa.Table:
    """The rows of these positions of a run, which goes over the corpus again and again."""
    wanted = np.array(positions, np.int64)
    return in_run(CORPUS.take(pa.array(wanted % NUM_ROWS)).combine_chunks(), wanted, wanted // NUM_ROWS)


def _settings(stage: int, num_steps: int) -> TrainSettings:
    return TrainSettings.model_validate(SETTINGS | {"zero_stage": stage, "num_steps": num_steps})


def _model(name: str) -> nn.Module:
    family = FAMILIES[name]
    settings = ModelSettings.model_validate({"family": family, "sizes": SIZES[family]})
    length = LENGTH + _objective(name).num_extra_positions
    config = model_config(settings, vocab_size=VOCAB_SIZE, sequence_length=length, eos_id=END, pad_id=PAD)
    return build_language_model(name, config, seed=3)  # type: ignore[arg-type]


def _objective(name: str) -> LanguageObjective:
    if name == "causal_lm":
        return CausalLM()
    if name == "span_corruption":
        return SpanCorruption(SpanSettings(share=0.3), MARKS, SpecialIds(END, PAD), LENGTH, seed=9)
    if name == "fill_in_the_middle":
        return FillInTheMiddle(InfillingSettings(), InfillingMarks(*MARKS[:3]), SpecialIds(END, PAD), seed=9)
    special = np.arange(VOCAB_SIZE) < 3
    begins = special | (np.arange(VOCAB_SIZE) % 3 > 0)
    return MaskedLM(MaskingSettings(share=0.3, whole_words=True), Vocabulary(MASK, special, begins), seed=9)


def _plain(name: str) -> nn.Module:
    """The same weights in a model whose attention is plain."""
    ours = _model(name)
    kind: Any = {"bert": AutoModelForMaskedLM, "t5": AutoModelForSeq2SeqLM}.get(FAMILIES[name], AutoModelForCausalLM)
    model: nn.Module = kind.from_config(deepcopy(ours.config), attn_implementation="eager")
    model.load_state_dict(ours.state_dict())
    return model.train()


def _documents(name: str, objective: LanguageObjective, step: int) -> list[Document]:
    """The documents of a global batch, each by itself."""
    rows = _rows(range(step * GLOBAL_BATCH, (step + 1) * GLOBAL_BATCH))
    if name in ("span_corruption", "fill_in_the_middle"):  # how documents are taken apart is a matter of its own tests
        return _taken_apart(objective.micro_batches(rows, 1, GLOBAL_BATCH)[0])
    tokens = np.array(rows["tokens"].to_pylist())
    seen, labels = tokens, np.full_like(tokens, -100)
    if name == "masked_lm":  # which tokens are masked is a matter of its own tests
        [batch] = objective.micro_batches(rows, 1, GLOBAL_BATCH)
        seen = batch.seen.tokens.numpy()
        labels.flat[batch.places.numpy()] = tokens.flat[batch.places.numpy()]
    documents: list[Document] = []
    for row, lengths in enumerate(rows["document_lengths"].to_pylist()):
        start = 0
        for size in lengths:
            place = slice(start, start + size)
            start += size
            wanted = np.append(tokens[row, place][1:], -100) if name == "causal_lm" else labels[row, place]
            inputs = {"input_ids": torch.from_numpy(seen[row, place])[None]}
            documents.append((inputs, (torch.from_numpy(wanted.astype(np.int64))[None],)))
    return documents


def _taken_apart(batch: Any) -> list[Document]:
    if isinstance(batch, PackedBatch):
        texts = _pieces(batch)
        return [({"input_ids": text}, (functional.pad(text[:, 1:], (0, 1), value=-100),)) for text in texts]
    pairs = zip(_pieces(batch.pair.source), _pieces(batch.pair.target), strict=True)
    return [({"input_ids": source, "labels": target}, (target,)) for source, target in pairs]


def _pieces(batch: PackedBatch) -> list[Tensor]:
    pieces = batch.tokens.flatten().split(list(batch.lengths))
    return [piece[None] for piece, padding in zip(pieces, batch.padding, strict=True) if not padding]


def _logits(output: Any) -> Sequence[Tensor]:
    return [output.logits]


def _our_losses(names: Sequence[str], num_steps: int) -> dict[tuple[str, int], list[float]]:
    """On one rank of a group: those of each objective at each stage."""
    from llmcore.tokens.order import share
    from llmcore.train.deepspeed_config import num_micro_batches
    from llmcore.train.engine import Engine

    rank, world_size = distributed.get_rank(), distributed.get_world_size()
    part = share(GLOBAL_BATCH, world_size, rank)
    found = {}
    for name in names:
        objective = _objective(name)
        for stage in STAGES[name]:
            settings = _settings(stage, num_steps)
            engine = Engine(
                _model(name),
                objective,
                settings,
                num_steps=num_steps,
                precision="fp32",
                device=torch.device("cpu"),
            )
            losses = []
            for step in range(num_steps):
                first = step * GLOBAL_BATCH
                rows = _rows(range(first + part.start, first + part.stop))
                micro = objective.micro_batches(
                    rows, num_micro_batches(settings, world_size), settings.micro_batch_size
                )
                losses.append(engine.step(step, micro).loss)
            found[name, stage] = losses
    return found


def _check(num_steps: int, within: float, folder: Path) -> None:
    """All losses, at every world size and stage, are those of the plain loop."""
    torch.set_num_threads(1)
    plain = {
        name: plain_losses(
            _plain(name),
            _settings(0, num_steps),
            lambda step, name=name: _documents(name, _objective(name), step),  # type: ignore[misc]
            _logits,
            num_steps,
        )
        for name in FAMILIES
    }
    for world_size in WORLD_SIZES:
        ranks = run_ranks(world_size, _our_losses, list(FAMILIES), num_steps, out=folder / str(world_size))
        assert all(rank == ranks[0] for rank in ranks), "every rank tells the same loss"
        for (name, stage), losses in ranks[0].items():
            assert losses == pytest.approx(plain[name], rel=within), (name, stage, world_size)
    for name, losses in plain.items():
        assert losses[-1] < losses[0] - 0.002 * num_steps, f"{name} learns, or nothing would be compared"


def test_losses_equal_those_of_a_plain_loop(tmp_path: Path) -> None:
    _check(NUM_STEPS, 1e-5, tmp_path)


@pytest.mark.proof
@pytest.mark.proof_parity
def test_losses_equal_those_of_a_plain_loop_for_long(tmp_path: Path) -> None:
    _check(NUM_STEPS_OF_PROOF, 1e-4, tmp_path)


def test_ranks_hold_unequal_numbers_of_targets() -> None:
    from llmcore.tokens.order import share

    for name in FAMILIES:
        objective = _objective(name)
        parts = [share(GLOBAL_BATCH, 4, rank) for rank in range(4)]
        counts = {objective.num_targets(objective.micro_batches(_rows(part), 1, GLOBAL_BATCH)[0]) for part in parts}
        assert len(counts) > 2
