"""What pre-training has bought, in words that claim no more than what was measured; and its page."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from llmcore.config.transfer import Point
from llmcore.cost.transfer import Amount, BreakEven, BreakEvenBetween
from llmcore.report.transfer import render_transfer
from llmcore.report.transfer_words import amount, paid, paid_between, sentences
from tests.transfers import given_outcome

P10, P100, R10, R100 = (Point(one, labels, 1.0, 0) for one in ("pretrained", "random") for labels in (10, 100))
AHEAD = {P10: (34, 2.0), P100: (39, 20.0), R10: (20, 2.0), R100: (30, 20.0)}
ALIKE = {P10: (30, 2.0), P100: (32, 20.0), R10: (30, 2.0), R100: (32, 20.0)}
CROSSED = {P10: (30, 2.0), P100: (31, 40.0), R10: (20, 2.0), R100: (31, 20.0)}


def test_a_model_that_is_ahead_from_the_beginning(tmp_path: Path) -> None:
    told = "\n".join(sentences(given_outcome(tmp_path, AHEAD, pretraining=100.0)))
    assert "the pre-trained model is better at 2 of 2 budgets, worse at 0, and not distinguishable at 0" in told
    assert (
        "The best accuracy that both reach is 0.750: fine-tuning takes 2 device-seconds or less (2.00 kFLOP or" in told
    )
    assert "and 20 device-seconds (20.0 kFLOP) from random weights" in told
    assert "With 1 epoch both reach accuracy 0.750: the pre-trained model with 10 labels or less" in told
    assert "The best of the pre-trained model is 0.975; random weights did not reach it within the budgets" in told
    assert (
        "the pre-training (100 device-seconds, by the attempts of base) is paid for after at most 6 tasks (95 %" in told
    )


def test_no_difference_is_told_as_none(tmp_path: Path) -> None:
    told = "\n".join(sentences(given_outcome(tmp_path, ALIKE, pretraining=100.0)))
    assert "better at 0 of 2 budgets, worse at 0, and not distinguishable at 2" in told
    assert "is never paid for at these budgets, since a task saves nothing by it" in told
    assert "did not reach" not in told


def test_a_cost_that_nobody_knows_is_not_guessed(tmp_path: Path) -> None:
    told = "\n".join(sentences(given_outcome(tmp_path, CROSSED)))
    assert "cannot be told, since its cost is not known: base is no run" in told


def test_a_model_that_loses_at_the_end(tmp_path: Path) -> None:
    told = "\n".join(sentences(given_outcome(tmp_path, CROSSED, pretraining=1.0)))
    assert "is never paid for at these budgets" in told


@pytest.mark.parametrize(
    ("found", "told"),
    [
        (BreakEven("after", Amount(1.0)), "at once, by the first task"),
        (BreakEven("after", Amount(1.0, "at_most")), "at once, by the first task"),
        (BreakEven("after", Amount(1.0, "at_least")), "after at least one task"),
        (BreakEven("after", Amount(1234.0, "at_least")), "after at least 1,234 tasks"),
        (BreakEven("open"), "smaller ones were not measured"),
    ],
)
def test_when_it_is_paid_for(found: BreakEven, told: str) -> None:
    assert paid(found).endswith(told)


@pytest.mark.parametrize(
    ("found", "told"),
    [
        (None, ""),
        (BreakEvenBetween(4, 12, 0, 0), " (95 % of the draws of validation rows: 4 to 12 tasks)"),
        (BreakEvenBetween(4, float("inf"), 0.3, 0), "4 tasks or more, never in 30% of them)"),
        (BreakEvenBetween(1, float("inf"), 0, 0.25), "1 tasks or more, not to be told in 25% of them)"),
        (BreakEvenBetween(float("inf"), float("inf"), 1, 0), "rows: never)"),
    ],
)
def test_an_interval_of_tasks(found: BreakEvenBetween | None, told: str) -> None:
    assert paid_between(found).endswith(told)


def test_amounts_are_told_with_their_bounds() -> None:
    assert amount(Amount(12.34), "device_seconds") == "12.3 device-seconds"
    assert amount(Amount(4.12e13, "at_least"), "flops") == "41.2 TFLOP or more"
    assert amount(Amount(1500, "at_most"), "labels") == "1,500 labels or less"


def test_the_page_stands_by_itself(tmp_path: Path) -> None:
    diverged = (Point("random", 100, 1.0, 1),)
    outcome = given_outcome(tmp_path, AHEAD, pretraining=100.0, diverged=diverged, seeds=[0, 1])
    page = render_transfer(outcome)
    assert page == render_transfer(outcome), "the same each time"
    assert page.count("<svg") == 2
    assert not re.search(r'(src|href)="(?!#)', page) and "<script" not in page
    for text in (
        "labels: train rows",
        "device-seconds of the fine-tuning",
        "accuracy, validation",
        *sentences(outcome),
    ):
        assert text in page, text
    assert "the loss is nan" in page
    assert "0.975" in page


def test_energy_stands_beside_the_costs_where_it_is_told(tmp_path: Path) -> None:
    outcome = given_outcome(tmp_path, AHEAD)
    assert ">energy<" not in render_transfer(outcome) and outcome.cells[0].to_json()["energy_j"] is None
    told = tuple(replace(cell, energy_j=1000 * cell.device_seconds) for cell in outcome.cells)
    page = render_transfer(replace(outcome, cells=told))
    assert ">energy<" in page and "20.0 kJ, 20.0 kJ" in page


def test_what_is_in_the_records_is_escaped(tmp_path: Path) -> None:
    outcome = given_outcome(tmp_path, AHEAD)
    page = render_transfer(replace(outcome, about=dict(outcome.about) | {"base": "<b>bold</b>"}))
    assert "<b>bold" not in page and "&lt;b&gt;bold" in page
