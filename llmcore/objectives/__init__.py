"""What a model learns to predict from packed rows."""

from pathlib import Path

from llmcore.config.pretrain import PretrainSettings
from llmcore.objectives.base import LanguageObjective
from llmcore.objectives.causal_lm import CausalLM
from llmcore.objectives.masked_lm import MaskedLM
from llmcore.tokens.vocabulary import Vocabulary

__all__ = ["objective_of"]


def objective_of(config: PretrainSettings, tokenizer: Path) -> LanguageObjective:
    """The objective of a configuration. Raises ConfigError where the tokenizer, a folder, lacks what it needs."""
    if config.objective == "masked_lm":
        return MaskedLM(config.masking, Vocabulary.of(tokenizer), config.train.seed)
    return CausalLM()
