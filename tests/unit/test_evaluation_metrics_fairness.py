"""How a model treats groups of people, by hand, by fairlearn, and on models made fair and biased."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from fairlearn.metrics import (
    MetricFrame,
    demographic_parity_difference,
    false_positive_rate,
    selection_rate,
    true_positive_rate,
)
from pydantic import ValidationError

from llmcore.config.counterfactual import WordPairs
from llmcore.config.fairness import FairnessChecks
from llmcore.errors import ConfigError
from llmcore.evaluation.bootstrap import Interval, Measured, Resampling
from llmcore.evaluation.kinds import Subject
from llmcore.evaluation.metrics import fairness_metrics
from llmcore.tasks.counterfactual import Counterfactuals

TWO = Subject("text_classification", ("no", "yes"))
BY_GENDER = FairnessChecks(counterfactuals=None, groups=["gender"])


def table(labels: Any, predictions: Any, groups: Any, probability: Any = None) -> pa.Table:
    """Predictions of two classes; `probability` is the second one's."""
    second = np.asarray(predictions, float) if probability is None else np.asarray(probability, float)
    ids = [str(number) for number in range(len(labels))]
    return pa.table(
        {
            "id": ids,
            "group": ids,
            "label": pa.array(labels, pa.int32()),
            "prediction": pa.array(predictions, pa.int32()),
            "gender": pa.array(groups, pa.string()),
            "probabilities": [[1 - one, one] for one in second.tolist()],
        }
    )


def values(rows: pa.Table, subject: Subject = TWO) -> dict[str, float]:
    return Measured.of(fairness_metrics(subject, BY_GENDER), rows).values()


def test_gaps_by_hand() -> None:
    """Women: 3 of 4 are said to be `yes`, of 2 who are both; of 2 who are not, 1. Men: 1 of 4; 1 of 2; none of 2."""
    labels, predictions = [1, 1, 0, 0, 1, 1, 0, 0], [1, 1, 1, 0, 1, 0, 0, 0]
    groups = ["f"] * 4 + ["m"] * 4
    found = values(table(labels, predictions, groups, [0.9, 0.8, 0.7, 0.2, 0.6, 0.4, 0.3, 0.1]))
    assert found == pytest.approx(
        {
            "selection_rate_gap[gender]": 0.75 - 0.25,
            "true_positive_rate_gap[gender]": 1.0 - 0.5,
            "false_positive_rate_gap[gender]": 0.5 - 0.0,
            "calibration_gap[gender]": (2.6 / 4 - 0.5) - (1.4 / 4 - 0.5),
        }
    )
    turned = values(table(labels[::-1], predictions[::-1], groups))
    assert turned["selection_rate_gap[gender]"] == -0.5, "the first group by name, less the second"


def test_rows_of_no_group_and_rates_without_rows_are_left_out() -> None:
    found = values(table([1, 1, 0, 0, 1], [1, 0, 0, 0, 1], ["f", "f", "m", "m", None]))
    assert found["selection_rate_gap[gender]"] == 0.5
    assert np.isnan(found["true_positive_rate_gap[gender]"]), "of men none is `yes`"
    nobody = values(table([1, 0], [1, 0], [None, None]))
    assert all(map(np.isnan, nobody.values()))


@pytest.mark.parametrize("num_groups", [2, 4])
def test_gaps_are_those_of_fairlearn(num_groups: int) -> None:
    generator = np.random.default_rng(num_groups)
    labels, predictions = generator.integers(0, 2, (2, 500))
    groups = [f"g{one}" for one in generator.integers(0, num_groups, 500)]
    found = values(table(labels, predictions, groups))
    frame = MetricFrame(
        metrics={"true": true_positive_rate, "false": false_positive_rate, "selected": selection_rate},
        y_true=labels,
        y_pred=predictions,
        sensitive_features=groups,
    ).difference(method="between_groups")
    assert abs(found["selection_rate_gap[gender]"]) == pytest.approx(
        demographic_parity_difference(labels, predictions, sensitive_features=groups)
    )
    assert abs(found["selection_rate_gap[gender]"]) == pytest.approx(frame["selected"])
    assert abs(found["true_positive_rate_gap[gender]"]) == pytest.approx(frame["true"])
    assert abs(found["false_positive_rate_gap[gender]"]) == pytest.approx(frame["false"])


def test_of_three_classes_the_largest_difference_counts() -> None:
    subject = Subject("text_classification", ("a", "b", "c"))
    rows = table([0, 1, 2, 0, 1, 2], [0, 0, 2, 1, 1, 2], ["f"] * 3 + ["m"] * 3)
    rows = rows.set_column(5, "probabilities", pa.array([[1 / 3] * 3] * 6))
    found = values(rows, subject)
    assert found["selection_rate_gap[gender]"] == pytest.approx(2 / 3)
    assert found["calibration_gap[gender]"] == pytest.approx(0, abs=1e-12)


def _selection(seed: int, share_of_women: float, share_of_men: float) -> Interval:
    """What is found of 400 people of whom so large shares are said to be `yes`."""
    groups = ["f", "m"] * 200
    said = np.random.default_rng(seed).random(400) < np.where(np.array(groups) == "f", share_of_women, share_of_men)
    measured = Measured.of(fairness_metrics(TWO, BY_GENDER)[:1], table([0] * 400, said.astype(int), groups))
    return measured.intervals(Resampling(200, seed))["selection_rate_gap[gender]"]


def test_no_difference_is_found_where_there_is_none() -> None:
    fair = sum(not _selection(seed, 0.5, 0.5).excludes_zero for seed in range(1000))
    print(f"fair {fair} of 1,000")
    assert fair >= 930


def test_a_planted_difference_is_recovered() -> None:
    found = [_selection(seed, 0.6, 0.4) for seed in range(100)]
    assert sum(one.low <= 0.2 <= one.high for one in found) >= 90
    assert sum(one.excludes_zero for one in found) >= 90


def test_moves_by_hand() -> None:
    made = Counterfactuals(WordPairs())
    before = {"prediction": [0, 0, 1, 0], "probabilities": [[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.5, 0.5]]}
    after = {"prediction": [0, 1, 1, 1], "probabilities": [[0.9, 0.1], [0.3, 0.7], [0.1, 0.9], [0.4, 0.6]]}
    moves = made.moves(before, after)
    assert moves.flips.tolist() == [0, 1, 0, 1]
    assert moves.shifts == pytest.approx([0, 0.3, 0.1, 0.1])
    several = made.moves(
        {"prediction": [[0], [0, 1]], "probabilities": [[0.9, 0.1], [0.9, 0.9]]},
        {"prediction": [[0], [1]], "probabilities": [[0.8, 0.2], [0.4, 0.9]]},
    )
    assert several.flips.tolist() == [0, 1] and several.shifts == pytest.approx([0.1, 0.25])


def test_a_text_moves_where_it_says_something_else_of_the_other_group() -> None:
    moves = Counterfactuals(WordPairs()).moves(
        {"prediction": ["He is a nurse.", "She left."]}, {"prediction": ["She is a nurse.", "He stayed."]}
    )
    assert moves.flips.tolist() == moves.shifts.tolist() == [0, 1]


def test_the_share_of_flips_that_was_planted_is_recovered() -> None:
    made, metrics, within = Counterfactuals(WordPairs()), fairness_metrics(TWO, FairnessChecks()), 0
    names = [str(number) for number in range(300)]
    for seed in range(100):
        generator = np.random.default_rng(seed)
        before = generator.uniform(0.55, 0.95, 300)
        after = np.where(generator.random(300) < 0.1, 1 - before, before)
        said = [
            {"prediction": (side > 0.5).astype(int).tolist(), "probabilities": np.stack([1 - side, side], axis=1)}
            for side in (before, after)
        ]
        moves = made.moves(*said)
        rows = {"id": names, "group": names, "counterfactual_flip": moves.flips, "counterfactual_shift": moves.shifts}
        found = Measured.of(metrics, pa.table(rows)).intervals(Resampling(200, seed))
        within += found["counterfactual_flips"].low <= 0.1 <= found["counterfactual_flips"].high
        assert found["counterfactual_gap"].value == pytest.approx(np.abs(before - after).mean())
    assert within >= 90


def test_what_names_nobody_defines_no_gap() -> None:
    rows = pa.table({"id": ["a", "b"], "group": ["a", "b"]})
    for name in ("counterfactual_flip", "counterfactual_shift"):
        rows = rows.append_column(name, pa.array([None, None], pa.float64()))
    measured = Measured.of(fairness_metrics(TWO, FairnessChecks()), rows)
    assert measured.intervals(Resampling(100, 0)) == {} and all(map(np.isnan, measured.values().values()))


def test_groups_of_answers_that_are_no_classes_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"fairness.groups compares classifications, and these are answers of trans"):
        fairness_metrics(Subject("translation"), BY_GENDER)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"counterfactuals": None}, "nothing is measured"),
        ({"counterfactuals": None, "groups": ["a"], "max_counterfactual_gap": 0.1}, "does not measure"),
        ({"max_counterfactual_gap": 1.5}, "less than or equal to 1"),
    ],
)
def test_checks_that_cannot_be(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        FairnessChecks(**given)
