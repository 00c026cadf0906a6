"""How documents are taken apart for a model to put them together again."""

from llmcore.config.base import Section, identity

__all__ = ["InfillingSettings", "SpanSettings"]


class SpanSettings(Section):
    """Spans of a document that are to be written anew (T5: Raffel et al., 2020, section 3.1.4)."""

    share: float = identity(0.15, gt=0, lt=1, description="Share of a document's tokens that are in spans.")
    mean_length: float = identity(3.0, ge=1, description="Mean length of a span in tokens.")


class InfillingSettings(Section):
    """Documents whose middle stands last (Bavarian et al., 2022); their others are learnt left to right."""

    share: float = identity(0.5, gt=0, le=1, description="Share of the documents that are taken apart.")
    suffix_first: float = identity(
        0.5, ge=0, le=1, description="Share of these in the order suffix, prefix, middle (SPM), the others being PSM."
    )
