"""What a model learns to predict from packed rows."""

from llmcore.config.pretrain import PretrainSettings
from llmcore.objectives.base import LanguageObjective
from llmcore.objectives.causal_lm import CausalLM
from llmcore.objectives.infilling import FillInTheMiddle
from llmcore.objectives.masked_lm import MaskedLM
from llmcore.objectives.next_sentence import NextSentence
from llmcore.objectives.span_corruption import SpanCorruption
from llmcore.tokens.marks import infilling_marks, sentinels
from llmcore.tokens.shards import TokenShards
from llmcore.tokens.tokenizer import SpecialIds
from llmcore.tokens.vocabulary import Vocabulary

__all__ = ["objective_of"]


def objective_of(config: PretrainSettings, shards: TokenShards) -> LanguageObjective:
    """The objective of a configuration. Raises ConfigError where the tokenizer of the tokens lacks what it needs."""
    seed, tokenizer = config.train.seed, shards.tokenizer_path()
    special = SpecialIds(**shards.about["special_ids"])
    match config.objective:
        case "masked_lm":
            masked = MaskedLM(config.masking, Vocabulary.of(tokenizer), seed)
            return NextSentence(masked) if config.next_sentence else masked
        case "span_corruption":
            return SpanCorruption(config.spans, sentinels(tokenizer), special, shards.sequence_length, seed)
        case "fill_in_the_middle":
            return FillInTheMiddle(config.infilling, infilling_marks(tokenizer), special, seed)
        case "causal_lm":
            return CausalLM()
