"""Fine-tuning: a pre-trained model, or its architecture alone, on a labelled set."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import distributed, nn

from llmcore.config.fairness import FAIRNESS
from llmcore.config.finetune import FinetuneSettings
from llmcore.cost.flops import Work
from llmcore.errors import CorpusError
from llmcore.evaluation.compared import Compared, validation_metrics
from llmcore.evaluation.kinds import Subject
from llmcore.evaluation.metrics import Additive
from llmcore.models.initialize import Home
from llmcore.models.methods import apply_method
from llmcore.tasks import build_task, facts_of
from llmcore.tasks.base import Features, Reader
from llmcore.tasks.compact import compact_features
from llmcore.tasks.counterfactual import Counterfactuals
from llmcore.tasks.evaluation_set import EvaluationSet, Split
from llmcore.tasks.example_lengths import ExampleLengths
from llmcore.tasks.mitigation import learnt
from llmcore.tokens.order import RowOrder
from llmcore.train.bias_card import bias_section
from llmcore.train.deepspeed_config import num_micro_batches
from llmcore.train.engine import Engine
from llmcore.train.lengths import num_steps
from llmcore.train.progress import Progress
from llmcore.train.rows import endless_steps, split_evenly, step_rows
from llmcore.train.validation import Pairs, judge_rows, validate_task

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Finetuning"]

_VALIDATED_TOKENS = 16_384
"""Of examples that go through the model at once at a validation; a longer example goes alone."""


class Finetuning:
    """The recipe; `base` is a local model folder, also where only its architecture is taken."""

    exports_every_time = True

    def __init__(self, config: FinetuneSettings, base: Path, data: EvaluationSet, base_sha256: str) -> None:
        self.config = config
        self.settings = config.train
        self._base, self._scratch = base, TemporaryDirectory()
        self._base_sha256 = base_sha256
        self._data = data
        self._subject = Subject.of(data)
        self.task = build_task(config.task, facts_of(data))
        self.compared = Compared.of(config.task, self._subject)
        rows = self._rows("train")
        self.objective, self._train, num_truncated, num_rows = learnt(self.task, Reader.of(base), rows, config.fairness)
        self._lengths = ExampleLengths.of(Features(self._train, num_truncated), num_rows)
        self._read, self._places = 0, 0
        # Copies make no epoch longer: what is done about bias is compared at the same cost.
        self.num_steps = num_steps(config.train, len(self._train) - (num_rows - rows.num_rows))

    @cached_property
    def tokenizer(self) -> Path:
        """Files of the tokenizer, by which plain transformers reads the export as the task does."""
        folder = Path(self._scratch.name)
        self.task.tokenizer(Reader.of(self._base)).save_pretrained(folder)
        return folder

    def _rows(self, split: Split) -> Any:
        rows = self._data.rows(split)
        if not rows.num_rows:
            raise CorpusError(f"labelled set {self._data.name}: its {split} split is empty; nothing can be learnt")
        return rows

    @cached_property
    def _validation(self) -> tuple[list[Any], ExampleLengths, list[int]]:
        """Examples by length, how long they are, and which row of the split each is."""
        rows = self._rows("validation")
        features = compact_features(self.task.judged, Reader.of(self._base), rows)
        order = sorted(range(len(features.examples)), key=lambda index: features.examples[index].num_tokens)
        return [features.examples[index] for index in order], ExampleLengths.of(features, rows.num_rows), order

    @cached_property
    def _metrics(self) -> list[Additive]:
        return validation_metrics(self.task, self._subject)

    def build_model(self, home: Home | None) -> nn.Module:
        """The base model under a new head, of which what the method trains has gradients."""
        random_weights, seed = self.config.weights == "random", self.settings.seed
        model = self.task.build_model(self._base, seed=seed, random_weights=random_weights, home=home)
        apply_method(model, self.config.method, seed=seed, home=home)
        return model

    def step_batches(self, first_step: int) -> Iterator[Sequence[Any]]:
        """This rank's micro batches of each step: rows by the run's order, each step's share split evenly."""
        order = RowOrder(len(self._train), self.settings.seed)
        rank, world_size = distributed.get_rank(), distributed.get_world_size()
        num_parts = num_micro_batches(self.settings, world_size)
        # A rank without rows runs the model all the same, as ZeRO's hooks need.
        placeholder = self.objective.without_target(self._train[0])

        def of_step(step: int) -> list[Any]:
            rows = step_rows(order, self.settings.global_batch_size, world_size, rank, step)
            # Neighbours of one length are one call of the attention.
            examples = sorted((self._train[row] for row in rows), key=lambda example: example.num_tokens)
            parts = split_evenly(examples, num_parts, self.settings.micro_batch_size)
            batches = [self.objective.collate(part or [placeholder]) for part in parts]
            self._read += sum(map(self.objective.num_tokens, batches))
            self._places += sum(batch.num_places for batch in batches)
            return batches

        return endless_steps(of_step, first_step)

    def validate(self, engine: Engine) -> dict[str, float]:
        """Loss and the task's metrics on the whole validation split."""
        examples = self._validation[0]
        return validate_task(engine, self.task, examples, _VALIDATED_TOKENS, self._metrics, self._pairs)

    @cached_property
    def _pairs(self) -> Pairs | None:
        """Of rows that name somebody, their places in `_validation`, and counterfactuals; None where nobody asks."""
        if self.config.fairness is None or self.task.kind != "text_classification":
            return None  # what other tasks write is for the evaluation to compare
        made, rows, reader = (
            Counterfactuals(self.config.fairness.words),
            self._rows("validation"),
            Reader.of(self._base),
        )
        swapped, of_rows = made.of(rows, self._subject.inputs(rows))
        after = compact_features(self.task.judged, reader, swapped).examples
        places = np.argsort(self._validation[2])[of_rows]
        order = np.argsort(places).tolist()
        return Pairs(made, places[order].tolist(), [after[one] for one in order])

    def judge(self, engine: Engine) -> tuple[float, "pa.Table"]:
        """Loss on the whole validation split, and of each of its rows, in their order, what the task's metrics read.

        The table has their `id` and `group` as well. A collective.
        """
        loss, judged = judge_rows(engine, self.task, self._validation[0], _VALIDATED_TOKENS)
        table = self._rows("validation").select(["id", "group"])
        for name, column in zip(judged.column_names, judged.take(np.argsort(self._validation[2])).columns, strict=True):
            table = table.append_column(name, column)
        return loss, table

    def probe_batch(self) -> Any:
        """The two shortest train examples."""
        return self.objective.collate(self._by_length[:2])

    def longest_batch(self) -> Any:
        """The longest train examples."""
        return self.objective.collate(self._by_length[-self.settings.micro_batch_size :])

    @cached_property
    def _by_length(self) -> list[Any]:
        return sorted(self._train, key=lambda example: example.num_tokens)

    def samples(self, engine: Engine) -> list[dict[str, str]]:
        """None: what a fine-tuned model says is judged, not looked at."""
        return []

    def told(self) -> dict[str, Any]:
        """How long examples are, and how many rows were cut; of what this rank's model read, what was padding."""
        examples = {"train": asdict(self._lengths), "validation": asdict(self._validation[1])}
        return {"examples": examples, "padding_share": 1 - self._read / self._places if self._places else None}

    def work_per_token(self) -> Work:
        """Measured on about 1,000 train examples, from all over them."""
        batch = self.objective.collate(self._train[:: -(-len(self._train) // 1000)])
        work: Work = self.objective.work(batch)
        return work.per(self.objective.num_tokens(batch))

    def describe(self, progress: Progress, metrics: dict[str, float]) -> tuple[dict[str, Any], str]:
        """What the manifest and the model card say."""
        about = {
            "task": self.task.about(),
            "data": {"name": self._data.name, "hash": self._data.hash},
            "base_sha256": self._base_sha256,
            "weights": self.config.weights,
            "method": self.config.method.model_dump(mode="json"),
            **({"fairness": self.config.fairness.model_dump(mode="json")} if self.config.fairness else {}),
            "step": progress.step,
            "metrics": metrics,
        }
        of_bias = {name: value for name, value in metrics.items() if name.removeprefix("validation_") in FAIRNESS}
        figures = "\n".join(
            f"| {name.replace('_', ' ')} | {value:.4f} |" for name, value in metrics.items() if name not in of_bias
        )
        card = _CARD.format(
            kind=self.task.kind.replace("_", " "),
            pipeline=self.task.pipeline_tag,
            name=self._data.name,
            weights="a pre-trained model" if self.config.weights == "pretrained" else "random weights",
            step=progress.step,
            figures=figures,
            example=self.task.example(Reader.of(self._base)),
            limits=f"{self.task.told()} Longer rows were cut to {self.task.max_tokens} tokens.",
            bias=bias_section(of_bias, self.config.fairness),
        )
        return about, card


_CARD = """---
library_name: transformers
pipeline_tag: {pipeline}
---
# {kind}: {name}

Fine-tuned from {weights} in {step} optimizer steps.

| on the validation split | |
| --- | --- |
{figures}

```python
{example}
```

{limits}
{bias}"""
