"""What a pre-training needs of its tokens and its model, checked before a worker starts. Needs no DeepSpeed."""

from llmcore.config.pretrain import PretrainSettings
from llmcore.models.foundation import check_foundation
from llmcore.objectives import objective_of
from llmcore.storage import Folder
from llmcore.tokens.shards import TokenShards

__all__ = ["check_pretraining"]


def check_pretraining(config: PretrainSettings, tokens: Folder, foundation: Folder | None) -> None:
    """Raises ConfigError where objective, tokens, and the model that the training begins with, do not go together."""
    shards = TokenShards.open(tokens)
    needed = shards.sequence_length + objective_of(config, shards).num_extra_positions
    if foundation is not None:
        check_foundation(foundation, config.learnt, shards.tokenizer_folder(), needed)
