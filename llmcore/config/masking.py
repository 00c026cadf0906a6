"""Which tokens a masked language model has to guess."""

from llmcore.config.base import Section, identity

__all__ = ["MaskingSettings"]


class MaskingSettings(Section):
    """Masks as BERT has them (Devlin et al., 2019, section 3.1): a share of the tokens is to be guessed."""

    share: float = identity(0.15, gt=0, lt=1, description="Share of the tokens that are targets.")
    replaced: float = identity(
        0.8, ge=0, le=1, description="Share of the targets that the model sees as the mask token."
    )
    random: float = identity(0.1, ge=0, le=1, description="Share of the targets that it sees as a random token.")
    whole_words: bool = identity(
        False, description="All tokens of a word are targets together: a part of it does not give the rest away."
    )
