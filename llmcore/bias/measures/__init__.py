"""What is measured on each kind of published set."""

from typing import Any

from llmcore.bias.measures.associations import Associations
from llmcore.bias.measures.base import Measure, Scores
from llmcore.bias.measures.continuations import Continuations
from llmcore.bias.measures.pairs import Pairs
from llmcore.bias.measures.pronouns import Winobias, Winogender
from llmcore.bias.measures.questions import Questions
from llmcore.bias.measures.triples import Triples
from llmcore.config.bias import BiasKind

__all__ = ["MEASURES", "Measure", "Scores"]

MEASURES: dict[BiasKind, Measure[Any]] = {
    "crows_pairs": Pairs(),
    "stereoset": Triples(),
    "winobias": Winobias(),
    "winogender": Winogender(),
    "bbq": Questions(),
    "weat": Associations(),
    "seat": Associations(),
    "bold": Continuations(),
}
