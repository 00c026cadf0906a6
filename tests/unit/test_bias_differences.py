"""One model held against another on the same rows: by hand, where they are alike, and of rows that one cannot read."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from llmcore.bias.bias_set import BiasSet
from llmcore.bias.bold import Judge, Prompt
from llmcore.bias.intervals import Resampling, Summed, interval_of_difference
from llmcore.bias.measures import MEASURES
from llmcore.bias.scored import Scored
from llmcore.bias.sets import Coreference, Question, SentencePair, Triple
from llmcore.bias.told import bias_json, differences_of, told_of
from llmcore.bias.word_lists import WordLists
from llmcore.config.bias import BiasSettings
from llmcore.evaluation.bias_board import bias_differences, bias_markdown
from llmcore.report.closer import closer_look
from llmcore.report.recorded import BiasRecord, EvaluationRecord
from tests.unit.test_bias_sets_measured import write_pairs

RESAMPLING = Resampling(300, seed=1)
NUM_SEEDS = 200
ALIKE_AT_LEAST = 178
"""Of 200 intervals of 95 % fewer hold the truth with probability 0.0002 (a binomial's)."""


def pairs(number: int) -> list[SentencePair]:
    return [SentencePair(f"more {place}", f"less {place}", "gender") for place in range(number)]


def preferring(shares: Any, seed: int) -> list[list[float]]:
    """Scores of a model that prefers the stereotype of each pair with so large a probability."""
    draws = np.random.default_rng(seed).random(len(shares))
    return [[1.0, 0.0] if draw < share else [0.0, 1.0] for draw, share in zip(draws, shares, strict=True)]


def test_a_difference_of_preferences_by_hand() -> None:
    measure = MEASURES["crows_pairs"]
    plain, less = [[1.0, 0.0]] * 3 + [[0.0, 1.0]], [[1.0, 0.0]] + [[0.0, 1.0]] * 3
    found = measure.differences(pairs(4), less, plain, RESAMPLING)["preference"]
    assert (found.value, found.num, found.fair) == (-0.5, 4, 0.0) and found.low <= -0.5 <= found.high
    same = measure.differences(pairs(4), plain, plain, RESAMPLING)["preference"]
    assert (same.value, same.low, same.high) == (0.0, 0.0, 0.0), "both are drawn together"
    assert measure.differences(pairs(1), [[1.0, 0.0]], [[0.0, 1.0]], RESAMPLING)["preference"].low == -1.0


def test_two_models_that_are_alike_are_not_told_apart_and_others_are() -> None:
    """Both find the same pairs hard: of each the share is 0.9 or 0.3. So is a third, whose preference is 0.2 less."""
    measure, hard = MEASURES["crows_pairs"], np.where(np.arange(200) % 2, 0.9, 0.3)
    alike = apart = 0
    for seed in range(NUM_SEEDS):
        one, two, three = (preferring(shares, 3 * seed + n) for n, shares in enumerate((hard, hard, hard - 0.2)))
        same = measure.differences(pairs(200), one, two, RESAMPLING)["preference"]
        alike += same.low <= 0 <= same.high
        less = measure.differences(pairs(200), three, one, RESAMPLING)["preference"]
        apart += less.high < 0
        assert less.low <= less.value <= less.high
    print(f"alike {alike}, apart {apart} of {NUM_SEEDS}")
    assert alike >= ALIKE_AT_LEAST and apart >= ALIKE_AT_LEAST


def test_rows_that_are_hard_for_both_are_in_neither_end() -> None:
    """Two figures that go up and down together: of each the interval is wide, of their difference it is a point."""
    values = np.random.default_rng(0).normal(size=50)
    ours, theirs = (
        Summed(
            np.stack([np.ones(50), values + more], axis=1), lambda sums: sums[..., 1] / sums[..., 0], (-9.0, 9.0), 50
        )
        for more in (0.25, 0.0)
    )
    low, high = ours.interval(RESAMPLING)
    assert high - low > 0.3
    assert interval_of_difference(ours, theirs, RESAMPLING) == pytest.approx((0.25, 0.25))


def question(template: str, ambiguous: bool) -> Question:
    return Question("c", "q", ("a", "b", "c"), ("target", "other", "unknown"), 2, ambiguous, True, "Age", template)


def coreference(is_pro: bool) -> Coreference:
    return Coreference("The cook saw the guard and she left.", "she", ("the cook", "the guard"), 0, "female", is_pro)


JUDGE = Judge("url", "sha", "good")
EXAMPLES: dict[str, list[Any]] = {
    "crows_pairs": pairs(12),
    "stereoset": [Triple("s", "a", "u", f"t{n % 4}", "gender") for n in range(12)],
    "winobias": [coreference(n % 2 == 0) for n in range(12)],
    "bbq": [question(f"t{n % 4}", n < 6) for n in range(12)],
    "weat": [WordLists("weat", ("a", "b", "c"), ("d", "e", "f"), ("x",), ("y",))],
    "bold": [Prompt(f"b{n}", "gender", "mw"[n % 2], f"s{n % 6}", JUDGE, 4, 0) for n in range(12)],
}
NUM_SCORES = {"crows_pairs": 2, "stereoset": 3, "winobias": 2, "bbq": 3, "weat": 6, "bold": 1}


@pytest.mark.parametrize("kind", EXAMPLES)
def test_a_difference_is_that_of_the_two_figures(kind: Any) -> None:
    measure, examples = MEASURES[kind], EXAMPLES[kind]
    one, two = np.random.default_rng(0).random((2, len(examples), NUM_SCORES[kind])).tolist()
    ours, theirs = (measure.figures(examples, scores, RESAMPLING) for scores in (one, two))
    found = measure.differences(examples, one, two, RESAMPLING)
    assert set(found) == set(ours)
    for name, difference in found.items():
        assert difference.value == pytest.approx(ours[name].value - theirs[name].value)
        assert difference.num == ours[name].num and difference.low <= difference.value <= difference.high
    for name, difference in measure.differences(examples, one, one, RESAMPLING).items():
        assert (difference.value, difference.low, difference.high) == (0.0, 0.0, 0.0), name


def content(tmp_path: Path) -> dict[str, Any]:
    one = BiasSet.read("crows", write_pairs(tmp_path))
    scored = {
        "plain": [Scored([[2.0, 1.0]] * 9 + [None])],
        "swapped": [Scored([None] + [[2.0, 1.0], [1.0, 2.0], [1.0, 2.0]] * 3)],
    }
    told = {name: {"crows": told_of(one, portions, RESAMPLING)} for name, portions in scored.items()}
    apart = differences_of(one, scored["swapped"], scored["plain"], RESAMPLING)
    return bias_json([one], told, {}, "plain", {"swapped": {"crows": apart}})


def test_what_only_one_of_them_can_read_is_in_no_difference(tmp_path: Path) -> None:
    apart = content(tmp_path)["differences"]["swapped"]["crows"]["preference"]
    assert apart["num"] == 8 and apart["value"] == pytest.approx(3 / 8 - 1)
    one = BiasSet.read("crows", write_pairs(tmp_path))
    assert differences_of(one, [Scored([None] * 10)], [Scored([[1.0, 0.0]] * 10)], RESAMPLING) == {}


def test_the_board_and_the_page_say_against_which_model(tmp_path: Path) -> None:
    told = content(tmp_path)
    [line] = bias_differences(told)
    assert (line.set, line.name, line.model, line.told) == ("crows", "preference", "swapped", "distinguishable")
    text = bias_markdown(told)
    assert "Less plain, of the same rows:" in text and "| crows | preference | swapped | -0.6250 (" in text
    look = closer_look(EvaluationRecord(bias=BiasRecord.model_validate(told)))
    assert look.bias_against == "plain" and [one.model for one in look.bias_differences] == ["swapped"]


def test_against_is_one_of_the_models_that_are_named() -> None:
    sets = {"crows": {"kind": "crows_pairs", "url": "u"}}
    with pytest.raises(ValidationError, match=r"against=other: it is none of bias\.models, which has plain"):
        BiasSettings.model_validate({"sets": sets, "models": {"plain": "run"}, "against": "other"})
