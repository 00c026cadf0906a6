"""What vLLM is asked, and what its answers become; vLLM itself needs a GPU."""

import importlib.machinery
from typing import Any

import pytest

from jobs.runtime.vllm import chosen_engine, request, told
from llmcore.config.generation import GenerationSettings
from llmcore.errors import ConfigError
from tests.pieces import endings

SAMPLE = GenerationSettings(method="sample", top_p=0.9, temperature=0.7, stop=["\n"], max_new_tokens=5, seed=3)


def test_a_request_says_all_that_the_settings_say() -> None:
    asked = request([5, 6], SAMPLE, 7, 1)
    parameters = dict(asked["sampling_params"])
    seed = parameters.pop("seed")
    assert asked | {"sampling_params": None} == {
        "row": 7,
        "sample": 1,
        "tokenized_prompt": [5, 6],
        "sampling_params": None,
    }
    assert parameters == {
        "max_tokens": 5,
        "temperature": 0.7,
        "top_p": 0.9,
        "repetition_penalty": 1.0,
        "stop": ["\n"],
        "skip_special_tokens": False,
        "logprobs": 0,
    }
    assert seed == request([9], SAMPLE, 7, 1)["sampling_params"]["seed"]
    others = {request([5, 6], SAMPLE, row, sample)["sampling_params"]["seed"] for row, sample in [(7, 0), (6, 1)]}
    assert len({seed, *others}) == 3
    assert request([5], GenerationSettings(), 0, 0)["sampling_params"]["temperature"] == 0.0


def test_an_answer_is_cut_as_everywhere() -> None:
    row = {"row": 7, "sample": 1, "generated_tokens": [1, 2, 1], "sampling_params": {}}
    row["logprobs"] = [{token: {"logprob": -0.5 * place}} for place, token in enumerate([1, 2, 1])]
    assert told(endings("b"), row) == {
        "row": 7,
        "sample": 1,
        "text": "a",
        "tokens": [1, 2],
        "reason": "stop",
        "log_likelihood": -0.5,
    }


def test_vllm_is_taken_where_it_is_and_can(monkeypatch: pytest.MonkeyPatch) -> None:
    greedy = GenerationSettings()
    assert chosen_engine("auto", greedy, encodes=False) == "transformers"
    with pytest.raises(ConfigError, match=r"pip install 'llmcore\[vllm\]'; there is no GPU; or take"):
        chosen_engine("vllm", greedy, encodes=False)
    found: Any = importlib.machinery.ModuleSpec("vllm", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: found)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert chosen_engine("auto", greedy, encodes=False) == "vllm"
    assert chosen_engine("transformers", greedy, encodes=False) == "transformers"
    assert chosen_engine("auto", greedy, encodes=True) == "transformers"
    with pytest.raises(ConfigError, match="it has no beam search: set method=greedy or method=sample"):
        chosen_engine("vllm", GenerationSettings(method="beam"), encodes=False)


def test_ray_data_takes_the_stages_as_they_are_given() -> None:
    """Its configuration can be made without vLLM: a release of Ray that changes it fails here."""
    from ray.data.llm import vLLMEngineProcessorConfig

    stages = dict.fromkeys(("chat_template_stage", "tokenize_stage", "detokenize_stage"), False)
    config = vLLMEngineProcessorConfig(model_source="/model", batch_size=64, **stages)
    assert (config.model_source, config.tokenize_stage) == ("/model", False)
