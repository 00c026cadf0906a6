"""What a search tries next, and what it found: points of a space, from what earlier ones were worth."""

from llmcore.search.front import pareto_front
from llmcore.search.proposals import Proposals, Told

__all__ = ["Proposals", "Told", "pareto_front"]
