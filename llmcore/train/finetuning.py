"""Fine-tuning: a pre-trained model, or its architecture alone, on a labelled set."""

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from torch import distributed, nn
from transformers import AutoTokenizer

from llmcore.config.finetune import FinetuneSettings
from llmcore.errors import CorpusError
from llmcore.evaluation.metrics import METRICS
from llmcore.models.initialize import Home
from llmcore.models.methods import apply_method
from llmcore.tasks import build_task
from llmcore.tasks.base import NO_TARGET, Example, Task, TaskBatch
from llmcore.tasks.evaluation_set import EvaluationSet
from llmcore.tokens.order import RowOrder
from llmcore.train.deepspeed_config import num_micro_batches
from llmcore.train.engine import Engine
from llmcore.train.lengths import num_steps
from llmcore.train.progress import Progress
from llmcore.train.rows import endless_steps, split_evenly, step_rows
from llmcore.train.validation import validate_classifier

__all__ = ["Finetuning"]


class Finetuning:
    """The recipe; `base` is a local model folder, also where only its architecture is taken."""

    exports_every_time = True

    def __init__(self, config: FinetuneSettings, base: Path, data: EvaluationSet, base_sha256: str) -> None:
        self.config = config
        self.settings = config.train
        self.tokenizer = base
        self._base_sha256 = base_sha256
        self._data = data
        self.task = build_task(config.task, data.label_names)
        self.objective = self.task
        self._train = self._examples("train")
        self.num_steps = num_steps(config.train, len(self._train))

    def _examples(self, split: Any) -> list[Example]:
        rows: pa.Table = self._data.rows(split)
        if not rows.num_rows:
            raise CorpusError(f"labelled set {self._data.name}: its {split} split is empty; nothing can be learnt")
        return self.task.features(AutoTokenizer.from_pretrained(self.tokenizer), rows).examples

    @cached_property
    def _validation(self) -> list[Example]:
        return sorted(self._examples("validation"), key=lambda example: len(example.tokens))

    def build_model(self, home: Home | None) -> nn.Module:
        """The base model under a new head, of which what the method trains has gradients."""
        random_weights, seed = self.config.weights == "random", self.settings.seed
        model = self.task.build_model(self.tokenizer, seed=seed, random_weights=random_weights, home=home)
        apply_method(model, self.config.method, seed=seed, home=home)
        return model

    def step_batches(self, first_step: int) -> Iterator[Sequence[TaskBatch]]:
        """This rank's micro batches of each step: rows by the run's order, each step's share split evenly."""
        order = RowOrder(len(self._train), self.settings.seed)
        rank, world_size = distributed.get_rank(), distributed.get_world_size()
        num_parts = num_micro_batches(self.settings, world_size)
        # A rank without rows runs the model all the same, as ZeRO's hooks need.
        placeholder = Example(self._train[0].tokens[-1:], NO_TARGET)

        def of_step(step: int) -> list[TaskBatch]:
            rows = step_rows(order, self.settings.global_batch_size, world_size, rank, step)
            # Neighbours of one length are one call of the attention.
            examples = sorted((self._train[row] for row in rows), key=lambda example: len(example.tokens))
            parts = split_evenly(examples, num_parts, self.settings.micro_batch_size)
            return [self.task.collate(part or [placeholder]) for part in parts]

        return endless_steps(of_step, first_step)

    def validate(self, engine: Engine) -> dict[str, float]:
        """Loss and the task's metrics on the whole validation split."""
        num_classes = len(self._data.label_names)
        return validate_classifier(engine, self.task, self._validation, 64, _metrics_of(self.task), num_classes)

    def probe_batch(self) -> TaskBatch:
        """The two shortest validation examples."""
        return self.task.collate(self._validation[:2])

    def longest_batch(self) -> TaskBatch:
        """The longest train examples."""
        by_length = sorted(self._train, key=lambda example: len(example.tokens))
        return self.task.collate(by_length[-self.settings.micro_batch_size :])

    def samples(self, engine: Engine) -> list[dict[str, str]]:
        """None: a classifier writes nothing."""
        return []

    def better(self, metrics: dict[str, float], best: float | None) -> float | None:
        """The task's validation metric, where it is higher."""
        value = metrics[f"validation_{self.task.validation_metric}"]
        return value if best is None or value > best else None

    def attended_tokens(self) -> float:
        """Over the train examples."""
        lengths = np.array([len(example.tokens) for example in self._train], dtype=np.float64)
        return float((lengths**2).sum() / lengths.sum())

    def describe(self, progress: Progress, metrics: dict[str, float]) -> tuple[dict[str, Any], str]:
        """What the manifest and the model card say."""
        about = {
            "task": self.task.about(),
            "data": {"name": self._data.name, "hash": self._data.hash},
            "base_sha256": self._base_sha256,
            "weights": self.config.weights,
            "method": self.config.method.model_dump(mode="json"),
            "step": progress.step,
            "metrics": metrics,
        }
        figures = "\n".join(f"| {name.replace('_', ' ')} | {value:.4f} |" for name, value in metrics.items())
        card = _CARD.format(
            labels=", ".join(f"`{label}`" for label in self._data.label_names),
            name=self._data.name,
            weights="a pre-trained model" if self.config.weights == "pretrained" else "random weights",
            step=progress.step,
            figures=figures,
            max_tokens=self.config.task.max_tokens,
        )
        return about, card


def _metrics_of(task: Task) -> Any:
    return lambda confusion: {name: float(METRICS[name].of_confusions(confusion)) for name in task.metrics}


_CARD = """---
library_name: transformers
pipeline_tag: text-classification
---
# A classifier of {name}

Fine-tuned from {weights} to tell {labels} apart, in {step} optimizer steps.

| on the validation split | |
| --- | --- |
{figures}

```python
from transformers import AutoTokenizer, pipeline

tokenizer = AutoTokenizer.from_pretrained(".")
classify = pipeline("text-classification", model=".", tokenizer=tokenizer)
print(classify("Return a new set with elements common to both." + tokenizer.eos_token))
```

The text is followed by the end-of-text token, where the class is read; longer texts were cut to {max_tokens} tokens.
"""
