"""The windows of a question's context, and the best span of them by the scores of first and last tokens."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["NO_ANSWER", "NUM_BEST", "QuestionExample", "Span", "Window", "best_span"]

NUM_BEST = 20
"""First and last tokens that are considered, of each window, as in BERT's `run_squad.py`."""


NO_ANSWER = (0, 0)
"""The span of a window without the answer: its first token."""


class Window(NamedTuple):
    """A question and a part of its context.

    Attributes:
        tokens: The pair as the tokenizer frames it.
        types: 1 in the second segment, as the tokenizer says; empty where it says nothing.
        first: Place of the context's first token here.
        begins: For each token of the part, the first character of the whole context that it stands for.
        ends: The character behind the last one.
        span: First and last token of the answer here; `NO_ANSWER` where it has none; None: no target.
    """

    tokens: Sequence[int]
    types: Sequence[int]
    first: int
    begins: Sequence[int]
    ends: Sequence[int]
    span: tuple[int, int] | None = None

    @property
    def num_tokens(self) -> int:
        """Tokens of the pair."""
        return len(self.tokens)


class QuestionExample(NamedTuple):
    """A question with all the windows of its context, to be judged by."""

    windows: tuple[Window, ...]
    context: str
    answers: tuple[str, ...]

    @property
    def num_tokens(self) -> int:
        """Tokens of all windows."""
        return sum(window.num_tokens for window in self.windows)


class Span(NamedTuple):
    """An answer: its text, "" where there is none; the best span's score; how much higher that of no answer is."""

    text: str
    score: float
    no_answer_score: float


def best_span(
    example: QuestionExample,
    scores: "Sequence[NDArray[np.float32]]",
    *,
    max_tokens: int,
    null_threshold: float,
) -> Span:
    """The span of the highest sum of scores, over all windows; none where that of the first token is higher by more.

    Args:
        example: The question.
        scores: Of each window, both scores of each token: [tokens, 2].
        max_tokens: Longest span.
        null_threshold: How much higher.
    """
    best, text, null = float("-inf"), "", float("inf")
    for window, of_window in zip(example.windows, scores, strict=True):
        null = min(null, float(of_window[0].sum()))
        here = slice(window.first, window.first + len(window.begins))
        starts, stops = (_highest(of_window[here, side]) for side in (0, 1))
        for start in starts:
            for stop in stops:
                score = float(of_window[window.first + start, 0] + of_window[window.first + stop, 1])
                if 0 <= stop - start < max_tokens and score > best:
                    told = example.context[window.begins[start] : window.ends[stop]].strip()
                    best, text = (score, told) if told else (best, text)
    apart = null - best
    return Span("" if apart > null_threshold else text, best, apart)


def _highest(scores: "NDArray[np.float32]") -> list[int]:
    return [int(at) for at in (-scores).argsort(kind="stable")[:NUM_BEST]]
