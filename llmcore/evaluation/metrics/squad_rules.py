"""The rules of SQuAD 1.1 (Rajpurkar et al., 2016) and 2.0 (Rajpurkar et al., 2018) for one answer.

They are those of the official scripts, corner for corner: the two versions differ where an answer is empty, or is
nothing but articles and punctuation.
"""

import re
import string
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["AnswerScore", "normalize_answer", "score_squad1", "score_squad2"]

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


class AnswerScore(NamedTuple):
    """Of one prediction: whether it is an answer, and how many of the words are; both 0 … 1."""

    exact_match: float
    f1: float


def normalize_answer(text: str) -> str:
    """Lower case, without ASCII punctuation, then without English articles, white space as single spaces."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def score_squad1(prediction: str, answers: Sequence[str]) -> AnswerScore:
    """The best exact match and the best F1 over one or more answers, by the rules of 1.1: without a common word F1
    is 0, even where both are empty.
    """
    pairs = [(normalize_answer(prediction), normalize_answer(answer)) for answer in answers]
    return AnswerScore(
        max(float(one == other) for one, other in pairs),
        max(_word_f1(one.split(), other.split()) for one, other in pairs),
    )


def score_squad2(prediction: str, answers: Sequence[str]) -> AnswerScore:
    """The same by the rules of 2.0: answers that normalize to nothing do not count; without any, only an empty
    prediction is right.
    """
    words = normalize_answer(prediction)
    golden = [normal for answer in answers if (normal := normalize_answer(answer))] or [""]
    exact = max(float(words == one) for one in golden)
    if not words or golden == [""]:
        return AnswerScore(exact, exact)
    return AnswerScore(exact, max(_word_f1(words.split(), one.split()) for one in golden))


def _word_f1(prediction: list[str], answer: list[str]) -> float:
    """Twice the common words over all words, each as often as it stands in both."""
    common = sum((Counter(prediction) & Counter(answer)).values())
    return 2 * common / (len(prediction) + len(answer)) if common else 0.0
