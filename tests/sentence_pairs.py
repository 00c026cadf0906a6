"""Rows of sentence pairs, a BERT for them, and what plain transformers makes of them, piece by piece."""

import json
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor, nn

from llmcore.config.masking import MaskingSettings
from llmcore.config.model import ModelSettings
from llmcore.models.build import build_language_model, model_config
from llmcore.objectives.masked_lm import MaskedLM
from llmcore.objectives.next_sentence import NextSentence, PairBatch
from llmcore.tokens.schema import ALONE, FOLLOWS, RANDOM, PackedRows, Second
from llmcore.tokens.vocabulary import Vocabulary
from tests.tiny import AREAS

__all__ = [
    "CLS",
    "LENGTH",
    "PIECES",
    "SIZES",
    "VOCABULARY",
    "VOCAB_SIZE",
    "bert",
    "objective_of",
    "plain_losses",
    "rows_of",
    "write_corpus",
]

LENGTH, VOCAB_SIZE, MASK, CLS, SEP, PAD = 16, 60, 3, 4, 0, 1
VOCABULARY = Vocabulary(MASK, np.arange(VOCAB_SIZE) < 5, np.arange(VOCAB_SIZE) % 3 != 0)
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
PIECES = [
    [(16, Second(9, FOLLOWS))],
    [(6, Second(3, RANDOM)), (5, Second()), (5, Second(3, FOLLOWS))],
    [(9, Second(4, RANDOM))],
    [(4, Second())],
]
"""Length and second segment of each piece of each row."""


def rows_of(first_position: int = 0) -> pa.Table:
    tokens = np.random.default_rng(0).integers(5, VOCAB_SIZE, (len(PIECES), LENGTH), dtype=np.int32)
    for row, pieces in zip(tokens, PIECES, strict=True):
        end = 0
        for length, second in pieces:
            start, end = end, end + length
            row[[start, end - 1]] = CLS, SEP
            if second.start:
                row[start + second.start - 1] = SEP
        row[end:] = PAD
    lengths = [[length for length, _ in pieces] for pieces in PIECES]
    seconds = [[second for _, second in pieces] for pieces in PIECES]
    sources = [[0] * len(pieces) for pieces in PIECES]
    return PackedRows(tokens, lengths, sources, seconds).to_table(VOCAB_SIZE, first_position)


def objective_of(**changes: object) -> NextSentence:
    return NextSentence(MaskedLM(MaskingSettings.model_validate(changes), VOCABULARY, seed=2))


def bert() -> nn.Module:
    settings = ModelSettings(family="bert", sizes=SIZES)
    config = model_config(settings, vocab_size=VOCAB_SIZE, sequence_length=LENGTH, eos_id=SEP, pad_id=PAD)
    return build_language_model("next_sentence", config, seed=3)


def plain_losses(
    plain: nn.Module, batch: PairBatch, original: Tensor, rows: list[int]
) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Of each piece: what a plain BERT says of its tokens, what they were (-100: no target), and the same of the pair.

    `rows` are those of `PIECES` that the batch has, `original` their tokens.
    """
    places = set(batch.masked.places.tolist())
    for place, row in enumerate(rows):
        end = 0
        for length, second in PIECES[row]:
            start, end = end, end + length
            types = torch.tensor([[int(0 < second.start <= at) for at in range(length)]])
            labels = torch.full((length,), -100)
            here = [at for at in range(length) if place * LENGTH + start + at in places]
            labels[here] = original[place, start:end][here]
            label = torch.tensor([second.label if second.label != ALONE else -100])
            out = plain(input_ids=batch.masked.seen.tokens[place : place + 1, start:end], token_type_ids=types)
            yield out.prediction_logits[0], labels, out.seq_relationship_logits, label


def write_corpus(folder: Path) -> Path:
    """Documents of up to a dozen sentences, each about a few words of its own, as shards of JSON Lines."""
    rng = random.Random(0)
    for number in range(4):
        lines = []
        for document in range(30):
            words = rng.sample(" ".join(AREAS.values()).split(), 6)
            told = [f"It can {' '.join(rng.choices(words, k=rng.randint(1, 6)))}." for _ in range(rng.randint(2, 12))]
            lines.append(json.dumps({"text": f"Part {number} {document}. " + " ".join(told)}) + "\n")
        (folder / f"part-{number}.jsonl").write_text("".join(lines))
    return folder
