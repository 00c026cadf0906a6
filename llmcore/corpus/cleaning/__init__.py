"""Cleaning documents, one after the other: what each step does to one, and what they did to all."""

from llmcore.corpus.cleaning.base import Draft, Step
from llmcore.corpus.cleaning.cleaner import Cleaner, steps_of
from llmcore.corpus.cleaning.tally import Example, StepTally, Tally

__all__ = ["Cleaner", "Draft", "Example", "Step", "StepTally", "Tally", "steps_of"]
