"""What a dry run says of the model of a pre-training: how large it is."""

from typing import Any

from llmcore.config.pretrain import PretrainConfig
from llmcore.models.foundation import find_foundation, foundation_config
from llmcore.storage import Folder

__all__ = ["model_line"]


def model_line(config: PretrainConfig, tokens: Folder | None) -> str:
    """The model's number of parameters, counted without memory for them; `tokens`: where they are, if they are there.

    Raises ConfigError for sizes that the architecture does not have, and where tokens and model do not go together.
    """
    from llmcore.models.size import count_parameters, usual_config

    foundation = None if config.model.folder is None else find_foundation(config.model.folder)
    begins = "" if foundation is None else f", begins with the weights in {foundation.url}"
    if tokens is not None:
        architecture = _of_tokens(config, tokens, foundation)
        vocabulary = "vocabulary of the tokens"
    elif foundation is not None:
        architecture = foundation_config(foundation)
        vocabulary = "vocabulary it has: the tokens are not there yet"
    else:
        architecture = usual_config(config.model)
        vocabulary = f"vocabulary a {config.model.family} usually has: the tokens are not there yet"
    num_parameters, num_entries = count_parameters(config.learnt, architecture), architecture.vocab_size
    return f"The model has {num_parameters:,} parameters{begins}, with {num_entries:,} entries, the {vocabulary}"


def _of_tokens(config: PretrainConfig, tokens: Folder, foundation: Folder | None) -> Any:
    from llmcore.models.build import config_for_tokens
    from llmcore.objectives import objective_of
    from llmcore.tokens.shards import TokenShards
    from llmcore.train.checks import check_pretraining

    check_pretraining(config, tokens, foundation)
    shards = TokenShards.open(tokens)
    if foundation is None:
        return config_for_tokens(config.model, shards, objective_of(config, shards).num_extra_positions)
    architecture = foundation_config(foundation)
    architecture.vocab_size = max(architecture.vocab_size, shards.vocab_size)
    return architecture
