"""Each name of a metric or a baseline has what it names, of each kind; references as predictions get full marks."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from llmcore.config.evaluate import JudgedSettings
from llmcore.config.judging import BASELINES, JUDGING
from llmcore.errors import ConfigError
from llmcore.evaluation.baselines import baseline_model
from llmcore.evaluation.bootstrap import Measured, Resampling
from llmcore.evaluation.kinds import Subject
from llmcore.evaluation.metrics import Metric, make_metric, make_metrics
from llmcore.evaluation.metrics.base import row_mean
from tests.predictions import rows_of

LIKELIHOOD = {"loss_sum": [0.0] * 4, "num_tokens": [3, 1, 2, 5], "num_bytes": [9, 4, 7, 12]}
TEXTS = ["A man walks his dog.", "Two dogs run, fast!", "“Hello” there, it is 3 o'clock", "x = [1, 2]\n"]
ANSWERS = [["the cat", "cat"], ["a dog!"], [], ["in 1492"]]


def text_rows(**columns: Any) -> pa.Table:
    return rows_of(["g0", "g0", "g1", "g2"], prediction=TEXTS, **columns, **LIKELIHOOD)


def perfect(kind: str) -> list[tuple[Subject, pa.Table]]:
    """Predictions that are the references."""
    labels, several = [0, 1, 2, 1], [[0, 2], [1], [], [1]]
    match kind:
        case "text_classification":
            names = ("a", "b", "c")
            member = [[float(index in row) for index in range(3)] for row in several]
            one = rows_of(list("aabc"), label=labels, prediction=labels, probabilities=np.eye(3)[labels])
            many = rows_of(list("aabc"), labels=several, prediction=several, probabilities=member)
            return [(Subject(kind, names), one), (Subject(kind, names, multi_label=True), many)]
        case "question_answering":
            structs = [[{"text": text, "start": 0} for text in answers] for answers in ANSWERS]
            said = [answers[0] if answers else "" for answers in ANSWERS]
            scores = [-1.0 if answers else 1.0 for answers in ANSWERS]
            return [(Subject(kind), rows_of(list("aabc"), answers=structs, prediction=said, no_answer_score=scores))]
        case "chat":
            turns = [[{"role": "user", "content": "?"}, {"role": "assistant", "content": text}] for text in TEXTS]
            return [(Subject(kind), text_rows(messages=turns))]
        case "code_generation":
            counts = {"num_samples": [100] * 4, "num_correct": [100] * 4}
            return [(Subject(kind), text_rows(solution=TEXTS, tests=[["assert x"]] * 4, **counts))]
        case _:
            return [(Subject(kind), text_rows(**{Subject(kind).references[0]: TEXTS}))]


FULL_MARKS = {"bleu": 100.0, "chrf": 100.0, "perplexity": 1.0, "bits_per_byte": 0.0, "calibration_error": 0.0}


@pytest.mark.parametrize("kind", sorted(JUDGING))
def test_references_as_predictions_get_full_marks_by_every_metric_of_the_kind(kind: str) -> None:
    judged = set()
    for subject, rows in perfect(kind):
        for name in JUDGING[kind].metrics:
            one_label = name == "matthews"
            if (one_label and subject.multi_label) or (name == "example_roc_auc" and not subject.multi_label):
                continue
            if name.startswith("squad_"):  # of 1.1, for which each question has an answer
                rows_ = rows.filter(pa.array([bool(answers) for answers in ANSWERS]))
            else:
                rows_ = rows
            metrics = make_metrics(subject, [name])
            found = Measured.of(metrics, rows_).intervals(Resampling(100, 0))
            assert set(found) == {metric.name for metric in metrics}
            for interval in found.values():
                assert interval.value == pytest.approx(FULL_MARKS.get(name, 1.0)), name
            judged.add(name)
    assert judged == set(JUDGING[kind].metrics)


def test_defaults_are_of_the_kind_and_choose_by_one_number() -> None:
    for kind, judging in JUDGING.items():
        assert {*judging.default, judging.choose_by} <= set(judging.metrics)
        assert make_metric(Subject(kind, ("a", "b")), judging.choose_by).name == judging.choose_by
        assert JudgedSettings().judged_by(kind) == (judging.default, judging.choose_by, judging.baselines)


def test_metrics_of_another_kind_are_refused_with_those_there_are() -> None:
    with pytest.raises(ConfigError, match=r"'bleu' is no metric of text_classification: there are accuracy, macro_f1,"):
        make_metrics(Subject("text_classification", ("a", "b")), ["bleu"])
    with pytest.raises(ConfigError, match="f1_by_class is one number a class"):
        make_metric(Subject("text_classification", ("a", "b")), "f1_by_class")
    with pytest.raises(ConfigError, match="matthews is defined for one label a row; the labelled set has several"):
        make_metrics(Subject("text_classification", ("a", "b"), multi_label=True), ["matthews"])
    with pytest.raises(ConfigError, match="example_roc_auc is defined for several labels a row"):
        make_metrics(Subject("text_classification", ("a", "b")), ["example_roc_auc"])


def length_ratio(subject: Subject) -> Metric:
    """A metric of the user's own: characters of a prediction by those of its reference."""

    def scores(rows: pa.Table) -> np.ndarray:
        pairs = zip(rows["prediction"].to_pylist(), subject.reference_texts(rows), strict=True)
        return np.array([len(one) / len(other) for one, other in pairs])

    return row_mean("length_ratio", ("target", "prediction"), scores)


def test_a_metric_of_the_users_own_is_named_by_module_and_object() -> None:
    rows = rows_of(target=["ab", "abcd"], prediction=["a", "abc"])
    metrics = make_metrics(Subject("translation"), ["tests.unit.test_evaluation_registry:length_ratio", "bleu"])
    assert [metric.name for metric in metrics] == ["length_ratio", "bleu"]
    assert Measured.of(metrics, rows).values()["length_ratio"] == pytest.approx((0.5 + 0.75) / 2)
    with pytest.raises(ConfigError, match=r"metric 'no\.such:thing' cannot be imported"):
        make_metrics(Subject("translation"), ["no.such:thing"])


def test_a_kind_of_the_users_own_has_every_metric_that_its_columns_allow() -> None:
    settings = JudgedSettings(metrics=["squad2_f1"], choose_by="squad2_f1")
    assert settings.judged_by("haiku") == (("squad2_f1",), "squad2_f1", ("random_weights",))
    assert make_metric(Subject("haiku"), "perplexity").name == "perplexity"
    with pytest.raises(ValueError, match="kind 'haiku' has no metrics of its own: give `metrics` and `choose_by`"):
        JudgedSettings().judged_by("haiku")


@pytest.mark.parametrize(
    "given, said",
    [
        ({"metrics": ["acuracy"]}, "'acuracy' is no metric: there are accuracy, "),
        ({"choose_by": "loss"}, "'loss' is no metric"),
        ({"metrics": []}, "at least 1 item"),
    ],
)
def test_names_are_checked_with_the_configuration(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        JudgedSettings.model_validate(given)


def test_baselines_of_another_kind_are_refused_with_those_there_are() -> None:
    with pytest.raises(ValueError, match="'majority' is no baseline of translation: there is copy_source, random_we"):
        JudgedSettings(baselines=["majority"]).judged_by("translation")
    assert JudgedSettings(baselines=[]).judged_by("translation").baselines == ()
    with pytest.raises(ValueError, match="'random_weights' is no baseline without training"):
        baseline_model("random_weights", None, None)  # type: ignore[arg-type]
    assert set(BASELINES) == {"majority", "copy_source", "lead_3", "random_weights", "runner_up", "config"}
