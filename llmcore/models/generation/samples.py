"""A first look at what a causal model says, while it trains and when it is exported."""

from collections.abc import Callable, Sequence
from pathlib import Path

from llmcore.config.generation import GenerationSettings
from llmcore.models.generation.generator import Generator
from llmcore.models.generation.prompts import num_positions

__all__ = ["continue_prompts", "continue_together", "sampling"]


def sampling(num_tokens: int, seed: int) -> GenerationSettings:
    """Nucleus sampling, p = 0.9."""
    return GenerationSettings(method="sample", top_p=0.9, max_new_tokens=num_tokens, seed=seed)


def continue_prompts(
    folder: Path, prompts: Sequence[str], *, num_tokens: int = 40, seed: int = 0
) -> list[dict[str, str]]:
    """Each prompt with what an exported model goes on with, as `{"prompt", "text"}`; the same for a seed."""
    generator = Generator.load(folder)
    positions = num_positions(generator.model.config)
    longest = num_tokens if positions is None else min(num_tokens, positions // 2)
    ids = [generator.tokenizer(prompt, add_special_tokens=False)["input_ids"] for prompt in prompts]
    generated = generator.generate(ids, sampling(longest, seed))
    return [
        {"prompt": prompt, "text": answer.text} for prompt, [answer] in zip(prompts, generated.answers, strict=True)
    ]


def continue_together(
    draw: Callable[[list[list[int]]], Sequence[float]], prompts: Sequence[Sequence[int]], num_tokens: int, longest: int
) -> list[list[int]]:
    """Each prompt's tokens with up to `num_tokens` more, none longer than `longest`.

    `draw` is called for all of them together and gives the next token of each, so that a model which is spread over
    ranks can be asked by all ranks at once; it has no cache.
    """
    texts = [list(prompt) for prompt in prompts]
    for _ in range(min(num_tokens, longest - max(map(len, texts), default=longest))):
        for text, token in zip(texts, draw(texts), strict=True):
            text.append(int(token))
    return texts
