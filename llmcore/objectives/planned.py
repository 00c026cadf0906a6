"""Rows and an objective of tokens that are not there yet: full rows of one document, of a vocabulary by its size."""

import numpy as np
import pyarrow as pa

from llmcore.config.pretrain import PretrainSettings
from llmcore.objectives.base import LanguageObjective
from llmcore.objectives.causal_lm import CausalLM
from llmcore.objectives.infilling import FillInTheMiddle
from llmcore.objectives.masked_lm import MaskedLM
from llmcore.objectives.next_sentence import NextSentence
from llmcore.objectives.span_corruption import SpanCorruption
from llmcore.objectives.spans import most_spans
from llmcore.tokens.marks import InfillingMarks
from llmcore.tokens.schema import FOLLOWS, PackedRows, Second
from llmcore.tokens.tokenizer import SpecialIds
from llmcore.tokens.vocabulary import Vocabulary

__all__ = ["full_rows", "planned_objective"]

_END, _PAD, _MASK = 0, 1, 2
_MARKS = InfillingMarks(3, 4, 5)
_NUM_SPECIAL = 6


def planned_objective(config: PretrainSettings, *, vocab_size: int, sequence_length: int) -> LanguageObjective:
    """The objective of a configuration with such special tokens as a tokenizer for it would have."""
    seed, special = config.train.seed, SpecialIds(_END, _PAD)
    match config.objective:
        case "masked_lm":
            ids = np.arange(vocab_size)
            words = Vocabulary(_MASK, ids < _NUM_SPECIAL, np.ones(vocab_size, bool))
            masked = MaskedLM(config.masking, words, seed)
            return NextSentence(masked) if config.next_sentence else masked
        case "span_corruption":
            sentinels = np.arange(most_spans(sequence_length, config.spans)) % vocab_size
            return SpanCorruption(config.spans, sentinels.tolist(), special, sequence_length, seed)
        case "fill_in_the_middle":
            return FillInTheMiddle(config.infilling, _MARKS, special, seed)
        case "causal_lm":
            return CausalLM()


def full_rows(num_rows: int, *, vocab_size: int, sequence_length: int, pairs: bool) -> pa.Table:
    """Rows of one document each that leaves no padding, or of one pair of sentences, as token shards have them."""
    tokens = np.full((num_rows, sequence_length), min(_NUM_SPECIAL, vocab_size - 1), np.int32)
    seconds = [[Second(sequence_length // 2, FOLLOWS)]] * num_rows if pairs else None
    return PackedRows(tokens, [[sequence_length]] * num_rows, [[0]] * num_rows, seconds).to_table(vocab_size)
