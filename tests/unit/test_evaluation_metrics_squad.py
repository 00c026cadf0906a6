"""SQuAD's rules, corner for corner: the figures beside each case are what the official scripts print."""

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmcore.config.judging import JUDGING
from llmcore.errors import CorpusError
from llmcore.evaluation.figures import figures_json
from llmcore.evaluation.kinds import Subject
from llmcore.evaluation.metrics.squad import best_threshold
from llmcore.evaluation.metrics.squad_rules import AnswerScore, normalize_answer, score_squad1, score_squad2
from tests.predictions import rows_of, value, values

SUBJECT = Subject("question_answering")


@pytest.mark.parametrize(
    "text, normal",
    [
        ("The  Cat,\tsat.", "cat sat"),
        ("an A the", ""),
        ("theory of a man", "theory of man"),
        ("U.S.A.", "usa"),
        ("a.m.", "am"),  # punctuation goes first: no article is left behind
        ("re-the-do", "rethedo"),
        ("«Über» – das", "«über» – das"),  # only ASCII punctuation
        ("100%", "100"),
        ("", ""),
    ],
)
def test_an_answer_is_normalized_as_by_the_official_scripts(text: str, normal: str) -> None:
    assert normalize_answer(text) == normal


CASES = [
    # prediction, answers, SQuAD 1.1, SQuAD 2.0
    ("the cat", ["A cat!"], (1.0, 1.0), (1.0, 1.0)),
    ("black cat", ["cat"], (0.0, 2 / 3), (0.0, 2 / 3)),
    ("black cat", ["cat", "the black dog", "Black cat."], (1.0, 1.0), (1.0, 1.0)),
    ("dog", ["cat"], (0.0, 0.0), (0.0, 0.0)),
    ("to be or not to be", ["to be"], (0.0, 0.5), (0.0, 0.5)),  # a word counts as often as it is in both
    ("", ["cat"], (0.0, 0.0), (0.0, 0.0)),
    ("the", ["cat"], (0.0, 0.0), (0.0, 0.0)),
    # Where they differ: nothing is left of an answer.
    ("The", ["a"], (1.0, 0.0), (1.0, 1.0)),
    ("", ["!"], (1.0, 0.0), (1.0, 1.0)),
    ("", ["cat", "the"], (1.0, 0.0), (0.0, 0.0)),
    ("cat", ["the"], (0.0, 0.0), (0.0, 0.0)),
]


@pytest.mark.parametrize("prediction, answers, first, second", CASES)
def test_one_answer_is_scored_by_the_rules_of_each_version(
    prediction: str, answers: list[str], first: tuple[float, float], second: tuple[float, float]
) -> None:
    assert score_squad1(prediction, answers) == pytest.approx(first)
    assert score_squad2(prediction, answers) == pytest.approx(second)


def test_without_an_answer_only_saying_nothing_is_right() -> None:
    assert score_squad2("", []) == score_squad2("The", []) == AnswerScore(1.0, 1.0)
    assert score_squad2("cat", []) == AnswerScore(0.0, 0.0)


def predictions(answers: list[list[str]], written: list[str], **columns: list[float]) -> pa.Table:
    kind = pa.list_(pa.struct([("text", pa.string()), ("start", pa.int32())]))
    structs = pa.array([[{"text": text, "start": 0} for text in one] for one in answers], kind)
    rows = rows_of(prediction=written, **columns)
    return rows.append_column("answers", structs)


def test_a_table_has_the_means_of_all_of_those_with_an_answer_and_of_those_without() -> None:
    rows = predictions([["cat"], ["black cat"], [], [], []], ["the cat", "cat", "", "dog", ""])
    names = [name for name in JUDGING["question_answering"].metrics if name.startswith("squad2") and "best" not in name]
    assert values(SUBJECT, names, rows) == pytest.approx(
        {
            "squad2_exact_match": 3 / 5,
            "squad2_f1": (1 + 2 / 3 + 2) / 5,
            "squad2_has_answer_exact_match": 1 / 2,
            "squad2_has_answer_f1": (1 + 2 / 3) / 2,
            "squad2_no_answer_exact_match": 2 / 3,
        }
    )
    answered = rows.slice(0, 2)
    assert value(SUBJECT, "squad_f1", answered) == pytest.approx((1 + 2 / 3) / 2)
    assert value(SUBJECT, "squad_exact_match", answered) == 0.5
    assert np.isnan(value(SUBJECT, "squad2_no_answer_exact_match", answered))


def test_the_first_version_has_no_rule_for_a_question_without_an_answer() -> None:
    with pytest.raises(CorpusError, match=r"row '1' has no answer, for which SQuAD 1\.1 has no rule"):
        value(SUBJECT, "squad_f1", predictions([["cat"], []], ["cat", ""]))


WORDS = st.sampled_from(["", "the", "cat", "a cat", "black cat", "dog"])
QUESTIONS = st.lists(
    st.tuples(st.lists(WORDS.filter(bool), max_size=2), WORDS, st.integers(-3, 3)), min_size=1, max_size=12
)


@pytest.mark.parametrize("part", AnswerScore._fields)
@given(questions=QUESTIONS)
def test_the_best_threshold_is_the_best_of_all(part: str, questions: list[tuple[list[str], str, int]]) -> None:
    """Each row has a threshold of its own here: rows of equal scores are told apart, as the official script does."""
    questions = [(answers, said, row + 100 * score) for row, (answers, said, score) in enumerate(questions)]
    answers, said, scores = map(list, zip(*questions, strict=True))
    rows = predictions(answers, said, no_answer_score=[float(one) for one in scores])

    def at(threshold: float) -> float:
        """With an empty answer where the model is surer than the threshold that there is none."""
        one_by_one = []
        for true, text, score in questions:
            if score > threshold:
                one_by_one.append(float(not true))
            elif true:
                one_by_one.append(float(getattr(score_squad2(text, true), part)))
            else:
                one_by_one.append(float(not text))
        return float(np.mean(one_by_one))

    best = max(at(threshold) for threshold in [float("-inf"), *scores])
    assert value(SUBJECT, f"squad2_best_{part}", rows) == pytest.approx(best)
    threshold = best_threshold(rows, part)
    assert at(float("-inf") if threshold is None else threshold) == pytest.approx(best)
    assert figures_json(SUBJECT, rows)["no_answer_threshold"][part] == threshold


@pytest.mark.parametrize("score", [score_squad1, score_squad2])
@given(answers=st.lists(st.text(alphabet="aThe cat.,!", min_size=1), min_size=1, max_size=3))
def test_a_reference_is_a_full_mark(score: Callable[[str, list[str]], AnswerScore], answers: list[str]) -> None:
    said = next((one for one in answers if normalize_answer(one)), answers[0])
    assert score(said, answers).exact_match == 1.0
    assert score(said, answers).f1 == 1.0 or (score is score_squad1 and not normalize_answer(said))
