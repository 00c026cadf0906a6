"""How long the examples of a split are, and what did not fit."""

from dataclasses import dataclass
from typing import Any

from llmcore.tasks.base import Features

__all__ = ["ExampleLengths", "lengths_line"]


@dataclass(frozen=True)
class ExampleLengths:
    """Of one split.

    Attributes:
        num_rows: Rows of the labelled set.
        num_truncated: Those of them that were cut.
        num_examples: What they became: a row may have several windows.
        mean_tokens: Mean tokens of an example.
        longest_tokens: Most tokens of an example.
    """

    num_rows: int
    num_truncated: int
    num_examples: int
    mean_tokens: float
    longest_tokens: int

    @classmethod
    def of(cls, features: Features, num_rows: int) -> "ExampleLengths":
        """Those of the examples that so many rows became."""
        lengths = [example.num_tokens for example in features.examples]
        return cls(num_rows, features.num_truncated, len(lengths), sum(lengths) / len(lengths), max(lengths))


def lengths_line(split: str, about: dict[str, Any], max_tokens: int) -> str:
    """The JSON of a split's lengths (`asdict`), for a person."""
    examples = f" in {about['num_examples']:,} examples" if about["num_examples"] != about["num_rows"] else ""
    return (
        f"{split}: {about['num_rows']:,} rows{examples}, {about['mean_tokens']:.1f} tokens on average, at most "
        f"{about['longest_tokens']:,}; {about['num_truncated']:,} cut to fit {max_tokens:,}"
    )
