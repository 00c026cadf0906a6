"""What a dry run says of the model of a pre-training: how large it is."""

from llmcore.config.pretrain import PretrainConfig
from llmcore.models.foundation import find_foundation
from llmcore.storage import Folder

__all__ = ["model_line"]


def model_line(config: PretrainConfig, tokens: Folder | None) -> str:
    """The model's number of parameters, counted without memory for them; `tokens`: where they are, if they are there.

    Raises ConfigError for sizes that the architecture does not have.
    """
    if config.model.folder is not None:
        return f"The model begins with the weights in {find_foundation(config.model.folder).url}"
    from llmcore.models.size import TokenFacts, count_parameters, usual_facts

    if tokens is None:
        facts = usual_facts(config.model)
        of = f"usual vocabulary of a {config.model.family}, {facts.vocab_size:,} entries: the tokens are not there yet"
    else:
        from llmcore.objectives import objective_of
        from llmcore.tokens.shards import TokenShards

        shards = TokenShards.open(tokens)
        special = shards.about["special_ids"]
        length = shards.sequence_length + objective_of(config, shards).num_extra_positions
        facts = TokenFacts(shards.vocab_size, length, special["end"], special["pad"])
        of = f"tokens' vocabulary of {facts.vocab_size:,} entries"
    num_parameters = count_parameters(config.objective, config.model, facts)
    return f"The model has {num_parameters:,} parameters, with the {of}"
