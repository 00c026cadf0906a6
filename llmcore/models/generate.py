"""A first look at what a causal model says."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Generator, Tensor

__all__ = ["continue_prompts", "continue_together", "drawn_from_nucleus"]

_NUCLEUS = 0.9


def continue_prompts(
    folder: Path, prompts: Sequence[str], *, num_tokens: int = 40, seed: int = 0
) -> list[dict[str, str]]:
    """Each prompt continued by nucleus sampling (p = 0.9), as `{"prompt", "text"}`; the same for a seed."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    samples = []
    with torch.random.fork_rng(devices=[]), torch.inference_mode():
        torch.manual_seed(seed)
        for prompt in prompts:
            inputs = tokenizer(prompt, return_tensors="pt", add_special_tokens=False)
            longest = min(num_tokens, model.config.max_position_embeddings - inputs["input_ids"].shape[1])
            output = model.generate(
                **inputs, do_sample=True, top_p=_NUCLEUS, max_new_tokens=longest, pad_token_id=tokenizer.pad_token_id
            )[0, inputs["input_ids"].shape[1] :]
            samples.append({"prompt": prompt, "text": tokenizer.decode(output, skip_special_tokens=True)})
    return samples


def continue_together(
    draw: Callable[[list[list[int]]], Sequence[float]], prompts: Sequence[Sequence[int]], num_tokens: int, longest: int
) -> list[list[int]]:
    """Each prompt's tokens with up to `num_tokens` more, none longer than `longest`.

    `draw` is called for all of them together and gives the next token of each, so that a model which is spread over
    ranks can be asked by all ranks at once.
    """
    texts = [list(prompt) for prompt in prompts]
    for _ in range(min(num_tokens, longest - max(map(len, texts), default=longest))):
        for text, token in zip(texts, draw(texts), strict=True):
            text.append(int(token))
    return texts


def drawn_from_nucleus(logits: "Tensor", generator: "Generator") -> "Tensor":
    """A token for each row of logits [rows, vocabulary], from the fewest that have 0.9 of the probability: [rows].

    Nucleus sampling, Holtzman et al. 2020 (arXiv 1904.09751), section 3.1.
    """
    import torch

    probabilities, tokens = logits.float().cpu().softmax(-1).sort(-1, descending=True)
    probabilities[probabilities.cumsum(-1) - probabilities > _NUCLEUS] = 0.0
    return tokens.gather(-1, torch.multinomial(probabilities, 1, generator=generator)).squeeze(-1)
