"""Answers by vLLM through Ray Data, where the extra `vllm` is installed and there is a GPU.

What comes back is cut as everywhere (`Endings`). vLLM draws by generators of its own, and computes as the GPU likes it
best: with the same seed another text may be drawn than by transformers.
"""

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from llmcore.config.generation import GenerationSettings
from llmcore.errors import ConfigError, RunError

__all__ = ["Engine", "answers_by_vllm", "chosen_engine", "request", "told"]

Engine = Literal["auto", "transformers", "vllm"]
_BATCH = 64


def chosen_engine(wanted: Engine, settings: GenerationSettings, *, encodes: bool) -> Literal["transformers", "vllm"]:
    """Which engine answers. Raises ConfigError where vLLM is wanted, and cannot."""
    import torch

    reasons = []
    if importlib.util.find_spec("vllm") is None:
        reasons.append("the extra is not installed: pip install 'llmcore[vllm]'")
    if not torch.cuda.is_available():
        reasons.append("there is no GPU")
    if settings.method == "beam":
        reasons.append("it has no beam search: set method=greedy or method=sample")
    if encodes:
        reasons.append("it runs no encoder-decoder of ours")
    if wanted == "vllm" and reasons:
        raise ConfigError(f"engine=vllm cannot answer: {'; '.join(reasons)}; or take engine=transformers")
    return "vllm" if wanted != "transformers" and not reasons else "transformers"


def request(prompt: Sequence[int], settings: GenerationSettings, row: int, sample: int) -> dict[str, Any]:
    """A row of Ray Data for vLLM's stage: where the answer belongs, the prompt's ids, and vLLM's SamplingParams."""
    parameters: dict[str, Any] = {
        "max_tokens": settings.max_new_tokens,
        "temperature": 0.0 if settings.method == "greedy" else settings.temperature or 1.0,
        "repetition_penalty": settings.repetition_penalty,
        "seed": int(np.random.SeedSequence((settings.seed, row, sample)).generate_state(1)[0]),
        "skip_special_tokens": False,  # A stop text may be one.
        "logprobs": 0,  # Of the tokens that were taken.
    }
    if settings.stop:
        parameters["stop"] = list(settings.stop)
    if settings.method == "sample":
        parameters |= {name: value for name in ("top_p", "top_k") if (value := getattr(settings, name)) is not None}
    return {"row": row, "sample": sample, "tokenized_prompt": list(prompt), "sampling_params": parameters}


def answers_by_vllm(
    folder: Path, prompts: Sequence[Sequence[int]], settings: GenerationSettings, endings: Any
) -> list[list[Any]]:
    """Answers to prompts that fit into the model of a folder; Ray is connected. Raises RunError if one is missing."""
    import ray
    from ray.data.llm import build_processor, vLLMEngineProcessorConfig

    asked = [
        request(prompt, settings, row, sample)
        for row, prompt in enumerate(prompts)
        for sample in range(settings.samples)
    ]
    stages = dict.fromkeys(("chat_template_stage", "tokenize_stage", "detokenize_stage"), False)
    config = vLLMEngineProcessorConfig(model_source=str(folder), batch_size=_BATCH, **stages)
    processor = build_processor(config, postprocess=lambda row: told(endings, row))
    answered = processor(ray.data.from_items(asked)).take_all()
    by_place = {(row["row"], row["sample"]): row for row in answered}
    if len(by_place) != len(asked) or len(answered) != len(asked):
        raise RunError(f"vLLM gave {len(answered)} answers, {len(by_place)} of them different ones, to {len(asked)}")
    ordered = iter(_answer(by_place[one["row"], one["sample"]]) for one in asked)
    return [[next(ordered) for _ in range(settings.samples)] for _ in prompts]


def told(endings: Any, row: Mapping[str, Any]) -> dict[str, Any]:
    """What an answered row says: plain columns, `row` and `sample` among them."""
    ended = endings.cut([int(token) for token in row["generated_tokens"]])
    taken = zip(ended.tokens, row["logprobs"], strict=False)  # the rest was cut off
    likelihood = sum(float(by_token[token]["logprob"]) for token, by_token in taken)
    return {
        "row": row["row"],
        "sample": row["sample"],
        "text": ended.text,
        "tokens": ended.tokens,
        "reason": ended.reason,
        "log_likelihood": likelihood,
    }


def _answer(row: Mapping[str, Any]) -> Any:
    from llmcore.models.generation import Answer

    return Answer(row["text"], tuple(map(int, row["tokens"])), row["reason"], row["log_likelihood"])
