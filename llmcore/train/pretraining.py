"""Pre-training: a model from random weights, on packed rows of token shards."""

import json
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import nn

from llmcore.config.pretrain import PretrainSettings
from llmcore.errors import ConfigError
from llmcore.models.build import build_causal_lm, build_masked_lm, model_config
from llmcore.objectives import objective_of
from llmcore.tokens.shards import TokenShards
from llmcore.train.engine import Engine
from llmcore.train.lengths import num_steps
from llmcore.train.progress import Progress
from llmcore.train.validation import validate_language_model

__all__ = ["Pretraining"]

Stream = Callable[[int], Iterator[pa.Table]]


class Pretraining:
    """The recipe; `stream(first_step)` gives this rank's rows of each step, which become `num_parts` micro batches."""

    exports_every_time = False

    def __init__(self, config: PretrainSettings, shards: TokenShards, stream: Stream, num_parts: int) -> None:
        self.config = config
        self.settings = config.train
        self.shards = shards
        self.num_steps = num_steps(config.train, shards.num_rows("train"))
        self.tokenizer: Path = shards.folder.as_local("tokenizer/") / "tokenizer"
        self.objective = objective_of(config, self.tokenizer)
        self._stream = stream
        self._num_parts = num_parts

    def step_batches(self, first_step: int) -> Iterator[Sequence[Any]]:
        """This rank's micro batches of each step, from `first_step` on."""
        for rows in self._stream(first_step):
            yield self.objective.micro_batches(rows, self._num_parts, self.settings.micro_batch_size)

    def build_model(self) -> nn.Module:
        """Random weights, the same on every rank."""
        special: dict[str, int] = self.shards.about["special_ids"]
        config = model_config(
            self.config.model,
            vocab_size=self.shards.vocab_size,
            sequence_length=self.shards.sequence_length,
            eos_id=special["end"],
            pad_id=special["pad"],
        )
        build = build_masked_lm if self.config.objective == "masked_lm" else build_causal_lm
        return build(config, seed=self.settings.seed)

    @cached_property
    def _validation_rows(self) -> np.ndarray:
        """Rows of the validation split, int64: all of them, or a sample."""
        there = self.shards.num_rows("validation")
        if there == 0:
            raise ConfigError("the validation split has no rows: raise prepare.splits.validation")
        return self.shards.sample("validation", self.config.validation_rows or there)

    def _validation_batch(self, rows: range) -> Any:
        table = self.shards.rows("validation", self._validation_rows[rows.start : rows.stop])
        return self.objective.micro_batches(table, 1, len(rows))[0]

    def validate(self, engine: Engine) -> dict[str, float]:
        """Loss of the validation rows, and of the train unigrams on the same targets."""
        counts = torch.from_numpy(self.shards.unigram_counts().astype(np.float64))
        rows, batch_rows = len(self._validation_rows), self.settings.micro_batch_size
        return validate_language_model(engine, self.objective, rows, self._validation_batch, batch_rows, counts)

    def better(self, metrics: dict[str, float], best: float | None) -> float | None:
        """The validation loss, where it is lower."""
        loss = metrics["validation_loss"]
        return loss if best is None or loss < best else None

    def attended_tokens(self) -> float:
        """Measured on up to 256 validation rows."""
        rows = self._validation_rows[:256]
        lengths = np.concatenate(
            [
                np.array(row, dtype=np.float64)
                for row in self.shards.rows("validation", rows)["document_lengths"].to_pylist()
            ]
        )
        return float((lengths**2).sum() / lengths.sum())

    def describe(self, progress: Progress, metrics: dict[str, float]) -> tuple[dict[str, Any], str]:
        """What the manifest and the model card say."""
        about = {
            "objective": self.config.objective,
            "step": progress.step,
            "tokens_seen": progress.tokens_seen,
            "metrics": metrics,
            "num_validation_rows": len(self._validation_rows),
            "tokens_sha256": self.shards.manifest.sha256,
            "decontaminated": self.shards.about.get("decontaminated", []),
        }
        card = _CARD.format(
            **_CARDS[self.config.objective],
            family=self.config.model.family,
            sizes=json.dumps(self.config.model.sizes),
            tokens=progress.tokens_seen,
            sources=", ".join(self.shards.about["sources"]),
            loss=metrics["validation_loss"],
            unigram=metrics["unigram_loss"],
            step=progress.step,
            length=self.shards.sequence_length,
        )
        return about, card


_CARDS = {
    "causal_lm": {
        "tag": "text-generation",
        "target": "the next token",
        "use": 'print(pipeline("text-generation", model=".")("Return the", max_new_tokens=40)[0]["generated_text"])',
    },
    "masked_lm": {
        "tag": "fill-mask",
        "target": "masked tokens",
        "use": 'fill = pipeline("fill-mask", model=".")\nprint(fill(f"Return {fill.tokenizer.mask_token} value.")[0])',
    },
}

_CARD = """---
library_name: transformers
pipeline_tag: {tag}
---
# A pre-trained {family} model

Trained from random weights ({sizes}) to predict {target} on {tokens:,} tokens of {sources}.

| | |
| --- | --- |
| optimizer steps | {step} |
| validation loss (nats a token) | {loss:.4f} |
| … of the train unigrams on the same tokens | {unigram:.4f} |
| longest sequence (tokens) | {length} |

```python
from transformers import pipeline

{use}
```

Documents of the corpus end with `<|endoftext|>`; no document saw another in training. The model repeats what its corpus
holds, errors and biases included; it was not tested for any use but the measurements above.
"""
