"""What an evaluation's configuration refuses by itself, before anything is looked for."""

from typing import Any

import pytest
from pydantic import ValidationError

from llmcore.config.evaluate import EvaluateConfig
from llmcore.config.fingerprint import identity_of


def config(**given: Any) -> EvaluateConfig:
    return EvaluateConfig.model_validate({"name": "judged", "models": {"mine": "my.finetune"}} | given)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"models": {}}, "there is nothing to judge: give `searches`, or `models`, or both"),
        ({"models": {"lead_3": "my.finetune"}}, r"models\.lead_3: that is what a baseline is called"),
        ({"models": {"a/b": "my.finetune"}}, "should match pattern"),
        (
            {"metrics": ["pass_at_1", "pass_at_10"]},
            "pass_at_10 is of 10 answers to a row, and 1 would be written: give generation.method=sample and "
            "generation.num_samples=10 or more",
        ),
        (
            {"choose_by": "pass_at_5", "generation": {"method": "sample", "num_samples": 4}},
            "pass_at_5 is of 5 answers to a row, and 4 would be written",
        ),
        ({"generation": {"batch_tokens": 7}}, "`batch_tokens` of the evaluation says it"),
    ],
)
def test_what_cannot_be_judged_is_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        config(**given)


def test_as_many_samples_as_the_metrics_need_are_enough() -> None:
    drawn = {"method": "sample", "num_samples": 10}
    assert config(metrics=["pass_at_10"], generation=drawn).generation is not None
    again = EvaluateConfig.model_validate(config(generation=drawn).model_dump(mode="json"))
    assert again == config(generation=drawn), "what a run's config.yaml says may be given again"


def test_searches_models_data_and_how_is_written_make_the_run_and_how_many_score_does_not() -> None:
    identities = [
        identity_of(config(**given))
        for given in (
            {},
            {"searches": ["my.tune"]},
            {"models": {"other": "my.finetune"}},
            {"data": "my.prepare/areas"},
            {"data": {"train": "train.csv"}},
            {"generation": {"method": "beam"}},
        )
    ]
    assert all(one not in identities[:number] for number, one in enumerate(identities))
    assert identity_of(config(num_scorers=4, cpus=2.0, batch_tokens=9)) == identities[0]


CROWS = {"kind": "crows_pairs", "url": "data/crows_pairs"}


def bias(*, models: dict[str, str] | None = None, **changed: Any) -> dict[str, Any]:
    return {"sets": {"crows": CROWS | changed}} | ({} if models is None else {"models": models})


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"bias": {"sets": {}}}, "at least 1 item"),
        ({"bias": bias(kind="cows")}, "Input should be 'crows_pairs', 'stereoset'"),
        ({"bias": bias(categories=["Age"])}, "categories= is for bbq, and this is crows_pairs: leave it out"),
        ({"bias": bias(kind="bbq", types=[1])}, "types= is for winobias, and this is bbq"),
        ({"bias": bias(kind="seat", limit=5)}, "limit= is for crows_pairs, .*, and this is seat"),
        ({"bias": bias(kind="bbq", categories=["Age", "Age"])}, "names one twice"),
        ({"bias": bias(limit=0)}, "greater than or equal to 1"),
        ({"bias": bias(models={"mine": "b.run"})}, r"bias\.models\.mine: `models` has that name, too, and is measured"),
        ({"models": {}, "bias": bias()}, "there is nothing to judge: give .*; or `bias.models`"),
        ({"models": {}, "bias": bias(models={"a": "b"}), "metrics": ["accuracy"]}, "metrics= is said of models that"),
        ({"models": {}, "bias": bias(models={"a": "b"}), "harness": {"tasks": ["arc"]}}, "harness= is said of models"),
    ],
)
def test_what_cannot_be_measured_is_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        config(**given)


def test_bias_may_be_all_that_is_asked_for_and_its_sets_and_models_make_the_run() -> None:
    alone = config(models={}, bias=bias(models={"books": "my.pretrain"}))
    assert alone.measures_alone and list(alone.further_runs()) == []
    assert not config(bias=bias(models={"books": "my.pretrain"})).measures_alone
    again = EvaluateConfig.model_validate(alone.model_dump(mode="json"))
    assert again == alone, "what a run's config.yaml says may be given again, keys of other kinds of set included"
    identities = [
        identity_of(config(**given))
        for given in ({}, {"bias": bias()}, {"bias": bias(limit=5)}, {"bias": bias(models={"books": "my.pretrain"})})
    ]
    assert all(one not in identities[:number] for number, one in enumerate(identities))
