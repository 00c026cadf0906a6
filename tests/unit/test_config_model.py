"""Which model: a family, a preset, or a folder; and what an objective trains."""

from typing import Any

import pytest
from pydantic import ValidationError

from llmcore.config.model import ModelSettings
from llmcore.config.presets import PRESETS
from llmcore.config.pretrain import FAMILIES, PretrainConfig


def pretrain(**given: Any) -> PretrainConfig:
    return PretrainConfig.model_validate({"name": "a", "tokens": "b", "train": {"num_steps": 1}, **given})


@pytest.mark.parametrize(
    ("given", "family"),
    [({}, "gpt2"), ({"family": "bert"}, "bert"), ({"preset": "t5-base"}, "t5"), ({"folder": "/model"}, None)],
)
def test_the_family_is_what_is_given_or_that_of_the_preset(given: dict[str, Any], family: str | None) -> None:
    settings = ModelSettings.model_validate(given)
    assert settings.family == family
    assert ModelSettings.model_validate_json(settings.model_dump_json()) == settings


def test_single_sizes_of_a_preset_can_be_changed() -> None:
    settings = ModelSettings(preset="gpt2-124m", sizes={"n_layer": 3})
    assert settings.all_sizes() == PRESETS["gpt2-124m"].sizes | {"n_layer": 3}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"preset": "t5-base", "family": "gpt2"}, "preset=t5-base is a t5"),
        ({"folder": "/model", "family": "gpt2"}, "leave family out"),
        ({"folder": "/model", "sizes": {"n_layer": 1}, "preset": "bert-base"}, "leave preset, sizes out"),
        ({"preset": "gpt3"}, "Input should be 'gpt2-124m'"),
    ],
)
def test_what_contradicts_itself_is_refused(given: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        ModelSettings.model_validate(given)


@pytest.mark.parametrize("learnt", sorted(FAMILIES))
def test_each_objective_trains_its_families_and_no_others(learnt: str) -> None:
    asked: dict[str, Any] = {"objective": learnt}
    if learnt == "next_sentence":
        asked = {"objective": "masked_lm", "next_sentence": True}
    families = {family for of_objective in FAMILIES.values() for family in of_objective}
    for family in sorted(families):
        if family in FAMILIES[learnt]:  # type: ignore[index]
            config = pretrain(**asked, model={"family": family})
            assert config.model.family == family and config.learnt == learnt
        else:
            with pytest.raises(ValidationError, match=f"objective={asked['objective']} .*trains .* not {family}"):
                pretrain(**asked, model={"family": family})


@pytest.mark.parametrize(("objective", "family"), [("masked_lm", "bert"), ("span_corruption", "t5")])
def test_prompts_are_for_models_that_continue(objective: str, family: str) -> None:
    with pytest.raises(ValidationError, match="sample_prompts= are continued"):
        pretrain(objective=objective, model={"family": family}, sample_prompts=["a"])
    assert pretrain(objective="fill_in_the_middle", sample_prompts=["a"]).sample_prompts == ["a"]
