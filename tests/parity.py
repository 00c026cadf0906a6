"""The validation loss of an exported model, by plain transformers: nothing of ours but the reading of the rows."""

from pathlib import Path

import torch
from torch.nn import functional
from transformers import AutoModelForCausalLM

from llmcore.tokens.shards import TokenShards

__all__ = ["plain_validation_loss"]


def plain_validation_loss(model_folder: Path, shards: TokenShards, num_rows: int, batch_rows: int = 16) -> float:
    """Mean loss per target token in fp32: a block-diagonal causal mask, and positions that start in each document."""
    model = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32, attn_implementation="sdpa").eval()
    wanted = shards.sample("validation", num_rows)
    total, num_targets = 0.0, 0
    with torch.inference_mode():
        for first in range(0, num_rows, batch_rows):
            table = shards.rows("validation", wanted[first : first + batch_rows])
            tokens = torch.tensor(table["tokens"].to_pylist())
            length = tokens.shape[1]
            document = torch.full_like(tokens, -1)
            position = torch.zeros_like(tokens)
            for row, lengths in enumerate(table["document_lengths"].to_pylist()):
                start = 0
                for index, size in enumerate(lengths):
                    document[row, start : start + size] = index
                    position[row, start : start + size] = torch.arange(size)
                    start += size
            same = document[:, :, None] == document[:, None, :]
            causal = torch.ones(length, length, dtype=torch.bool).tril()
            mask = (same & causal)[:, None]  # True: may be seen
            logits = model(input_ids=tokens, position_ids=position, attention_mask=mask, use_cache=False).logits
            is_target = (position[:, 1:] > 0) & (document[:, 1:] >= 0)
            losses = functional.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten(), reduction="none")
            total += float(losses[is_target.flatten()].sum())
            num_targets += int(is_target.sum())
    return total / num_targets
