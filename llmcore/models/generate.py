"""A first look at what a causal model says."""

from collections.abc import Sequence
from pathlib import Path

__all__ = ["continue_prompts"]


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
                **inputs, do_sample=True, top_p=0.9, max_new_tokens=longest, pad_token_id=tokenizer.pad_token_id
            )[0, inputs["input_ids"].shape[1] :]
            samples.append({"prompt": prompt, "text": tokenizer.decode(output, skip_special_tokens=True)})
    return samples
