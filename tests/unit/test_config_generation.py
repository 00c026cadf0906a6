"""Settings of generation: contradictions are told, and no file is needed."""

from typing import Any

import pytest

from llmcore.config.generation import GenerationSettings
from llmcore.config.loading import load_settings
from llmcore.errors import ConfigError


def test_overrides_alone_are_settings() -> None:
    settings = load_settings(GenerationSettings, ["method=sample", "top_p=0.9", 'stop=["\\n\\n", ";"]'])
    assert settings == GenerationSettings(method="sample", top_p=0.9, stop=["\n\n", ";"])
    assert load_settings(GenerationSettings, []) == GenerationSettings()


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["temperature=0.7"], "temperature=0.7 says nothing to method=greedy: set method=sample with it"),
        (["method=beam", "top_k=5"], "top_k=5 says nothing to method=beam: set method=sample with it"),
        (["method=sample", "num_beams=2"], "num_beams=2 says nothing to method=sample: set method=beam with it"),
        (["num_samples=3"], "num_samples=3 says nothing to method=greedy"),
        (["method=beam", "num_beams=1"], "command line: num_beams=1: got 1; expected at least 2"),
        (["method=sample", "top_p=1.5"], "expected at most 1"),
        (["method=sample", "temperature=0"], "expected more than 0"),
        (["max_new_tokens=many"], 'got "many"; expected an integer'),
        (["max_tokens=5"], "did you mean max_new_tokens?"),
    ],
)
def test_what_contradicts_is_told(overrides: list[str], words: str) -> None:
    with pytest.raises(ConfigError) as told:
        load_settings(GenerationSettings, overrides)
    assert words in str(told.value)


@pytest.mark.parametrize(
    ("changes", "beams", "samples"),
    [({}, 1, 1), ({"method": "beam"}, 4, 1), ({"method": "sample", "num_samples": 3}, 1, 3)],
)
def test_what_is_not_said_has_a_default(changes: dict[str, Any], beams: int, samples: int) -> None:
    settings = GenerationSettings(**changes)
    assert (settings.beams, settings.samples) == (beams, samples)
    assert GenerationSettings(**settings.model_dump()) == settings
