"""Sentences claim what the intervals allow, and no more; numbers keep their sign and their size."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmcore.evaluation.bootstrap import Interval
from llmcore.report import words
from llmcore.report.model import EvaluationReport, JudgedModel, PipelineReport, StageReport

DONE = tuple(
    StageReport(stage, f"p.{stage}", "succeeded", stage) for stage in ("prepare", "pretrain", "tune", "evaluate")
)


def _report(**gains: tuple[float, float, float]) -> PipelineReport:
    chosen = JudgedModel("a1", "chosen", test={"macro_f1": Interval(0.5, 0.45, 0.55)})
    differences = {f"chosen - {name}": {"macro_f1": Interval(*ends)} for name, ends in gains.items()}
    return PipelineReport(
        "p", DONE, evaluations=(EvaluationReport("evaluate", judged=(chosen,), differences=differences),)
    )


def _lower_is_better(report: PipelineReport) -> PipelineReport:
    [judged] = report.evaluations
    return replace(report, evaluations=(replace(judged, lower_is_better=("macro_f1",)),))


@pytest.mark.parametrize(
    ("ends", "says"),
    [
        ((0.1, 0.02, 0.2), "Pre-training helped"),
        ((-0.1, -0.2, -0.02), "Pre-training hurt"),
        ((0.1, -0.01, 0.2), "no distinguishable difference"),
        ((0.0, 0.0, 0.0), "no distinguishable difference"),
    ],
)
def test_what_pretraining_bought_follows_the_interval(ends: tuple[float, float, float], says: str) -> None:
    sentence = words.bought_by_pretraining(_report(random_weights=ends))
    assert says in sentence
    assert all(words.signed(value) in sentence for value in ends)


@given(st.floats(-1, 1), st.floats(0, 1), st.floats(0, 1))
def test_no_sentence_claims_a_side_that_the_interval_does_not_have(value: float, below: float, above: float) -> None:
    ends = (value, value - below, value + above)
    bought = words.bought_by_pretraining(_report(random_weights=ends))
    headline = words.headline(_report(majority=ends))
    assert ("helped" in bought) == ("above" in headline) == (ends[1] > 0)
    assert ("hurt" in bought) == ("below" in headline) == (ends[2] < 0 and not ends[1] > 0)


def test_of_several_sets_each_has_a_line() -> None:
    [one] = _report(majority=(0.1, 0.05, 0.2), random_weights=(0.1, 0.02, 0.2)).evaluations
    report = PipelineReport("p", DONE, evaluations=(replace(one, stage="judged.sst2"), replace(one, stage="judged.x")))
    said, bought = words.headline(report).splitlines(), words.bought_by_pretraining(report).splitlines()
    assert [line.partition(": ")[0] for line in said] == [line.partition(": ")[0] for line in bought]
    assert [line.partition(":")[0] for line in said] == ["judged.sst2", "judged.x"]
    assert all("0.100 above the majority baseline" in line for line in said)


def test_without_a_baseline_nothing_is_claimed() -> None:
    assert "not measured" in words.bought_by_pretraining(_report())
    assert "compared with no baseline that learns nothing" in words.headline(_report())


def test_the_untrained_baseline_is_the_one_of_the_kind_of_task() -> None:
    assert "0.100 above the copy-source baseline" in words.headline(_report(copy_source=(0.1, 0.05, 0.2)))
    assert "not distinguishable from the lead-3 baseline" in words.headline(_report(lead_3=(0.1, -0.05, 0.2)))


def test_where_lower_is_better_a_lower_value_is_what_helped() -> None:
    report = _lower_is_better(_report(random_weights=(-0.1, -0.2, -0.02)))
    assert "Pre-training helped" in words.bought_by_pretraining(report)
    report = _lower_is_better(_report(random_weights=(0.1, 0.02, 0.2)))
    assert "Pre-training hurt" in words.bought_by_pretraining(report)
    assert "(lower is better)" in words.headline(report)


@pytest.mark.parametrize(
    ("status", "says"), [("not run", "tune has not run"), ("failed", "tune stands at “failed”"), ("dead", "“dead”")]
)
def test_an_unfinished_pipeline_says_where_it_stands(status: str, says: str) -> None:
    stages = (DONE[0], DONE[1], StageReport("tune", "p.tune", status), StageReport("evaluate", "p.evaluate"))
    assert says in words.headline(PipelineReport("p", stages))


@given(st.floats(1e-3, 1e21))
def test_flops_keep_three_digits(value: float) -> None:
    number, unit = words.flops(value).split(" ")
    scale = {"FLOP": 1, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18}
    assert math.isclose(float(number) * scale[unit.removesuffix("FLOP") or "FLOP"], value, rel_tol=6e-3)


@given(st.floats(0, 1e6))
def test_durations_are_true_to_a_percent(seconds: float) -> None:
    parts = words.duration(seconds).split(" ")
    unit_s = {"s": 1, "min": 60, "h": 3600}
    told = sum(float(number) * unit_s[unit] for number, unit in zip(parts[::2], parts[1::2], strict=True))
    assert math.isclose(told, seconds, rel_tol=0.01, abs_tol=0.06)


def test_numbers_as_a_reader_wants_them() -> None:
    assert (words.count(1_474_560), words.count(None)) == ("1,474,560", words.DASH)
    assert (words.signed(0.1), words.signed(-0.1)) == ("+0.100", f"{words.MINUS}0.100")
    assert words.plain("chosen - random_weights") == f"chosen {words.MINUS} random weights"
    assert words.plain("num_steps") == "steps"
