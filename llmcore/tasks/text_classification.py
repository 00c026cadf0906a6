"""Which of the classes a text belongs to: read at its last token, the end of the text; by encoders, at its first."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmcore.errors import CheckpointError, ConfigError
from llmcore.tasks.base import NO_TARGET, Example, Features, TaskBatch

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    import torch
    from torch import nn

    from llmcore.models.initialize import Home

__all__ = ["TextClassification"]

_FRAME = 2
"""Special tokens that a tokenizer adds which frames texts: one before, and one after."""


@dataclass(frozen=True)
class TextClassification:
    """A text is its tokens and the end-of-text token, as in pre-training, whose state a linear head reads.

    Where the tokenizer frames texts, as BERT's does, it is its class token, its tokens and the end; an encoder's head
    reads the first.

    Attributes:
        label_names: The classes; targets are indices into them.
        max_tokens: Longest example, its end-of-text token included.
        validation_metric: The metric that trials are compared by.
    """

    label_names: tuple[str, ...]
    max_tokens: int
    validation_metric: str = "macro_f1"
    kind: str = "text_classification"
    columns: tuple[str, ...] = ("text", "label")
    metrics: tuple[str, ...] = ("accuracy", "macro_f1")

    def __post_init__(self) -> None:
        if self.validation_metric not in self.metrics:
            raise ConfigError(
                f"validation_metric={self.validation_metric!r} is no metric of {self.kind}: give one of "
                f"{list(self.metrics)}"
            )

    def build_model(self, folder: Path, *, seed: int, random_weights: bool, home: "Home | None" = None) -> "nn.Module":
        """A base model's architecture, with its weights or random ones, under a new head of `seed`.

        Raises:
            ConfigError: The base model has no padding token of its own, from which plain transformers, reading the
                exported folder, finds each text's last token; or it is read by the mean of its tokens.
        """
        from llmcore.models.build import build_classifier

        names = list(self.label_names)
        model = build_classifier(folder, label_names=names, seed=seed, random_weights=random_weights, home=home)
        if getattr(model.config, "classifier_pooling", "cls") != "cls":
            raise ConfigError(
                f"{folder}/config.json has another classifier_pooling than `cls`: no head here reads that"
            )
        pad, eos = model.config.pad_token_id, model.config.eos_token_id  # type: ignore[union-attr]
        if pad is None or pad == eos:
            raise ConfigError(
                f"{folder}/config.json has pad_token_id={pad} and eos_token_id={eos}: a classifier needs two different "
                "ones to find where a padded text ends"
            )
        return model

    def load_model(self, folder: Path) -> "nn.Module":
        """A trained model from its exported folder, head and all, in fp32.

        Raises:
            CheckpointError: A weight is missing from the folder, or the classes are others.
        """
        import torch
        from transformers import AutoModelForSequenceClassification

        from llmcore.models.attention import ATTENTION

        model, info = AutoModelForSequenceClassification.from_pretrained(
            folder, attn_implementation=ATTENTION, dtype=torch.float32, output_loading_info=True
        )
        names = tuple(model.config.id2label[index] for index in sorted(model.config.id2label))
        if info["missing_keys"] or names != self.label_names:
            raise CheckpointError(
                f"{folder} is no {self.kind} model of {list(self.label_names)}: its classes are {list(names)}, and "
                f"weights {sorted(info['missing_keys'])} are missing"
            )
        return model  # type: ignore[no-any-return]

    def about(self) -> dict[str, Any]:
        """What the model's manifest says of the task."""
        return {
            "kind": self.kind,
            "label_names": list(self.label_names),
            "max_tokens": self.max_tokens,
            "validation_metric": self.validation_metric,
        }

    def features(self, tokenizer: Any, rows: "pa.Table") -> Features:
        """Tokens of each text, cut so that with the end-of-text token, and a class token, they are `max_tokens`.

        A special token written out in a text stays text. A table without labels gives `NO_TARGET`.
        """
        texts = rows["text"].to_pylist()
        labels = rows["label"].to_pylist() if "label" in rows.column_names else [NO_TARGET] * len(texts)
        if not texts:
            return Features([], 0)
        encoded = tokenizer(
            texts, add_special_tokens=False, split_special_tokens=True, truncation=False, verbose=False
        )["input_ids"]
        end = tokenizer.eos_token_id if tokenizer.eos_token_id is not None else tokenizer.sep_token_id
        begin = [tokenizer.cls_token_id] if tokenizer.num_special_tokens_to_add() == _FRAME else []
        kept = self.max_tokens - 1 - len(begin)
        examples = [
            Example([*begin, *tokens[:kept], end], label) for tokens, label in zip(encoded, labels, strict=True)
        ]
        return Features(examples, sum(len(tokens) > kept for tokens in encoded))

    def collate(self, examples: Sequence[Example]) -> TaskBatch:
        """All examples as the documents of one packed row [1, sum of lengths]: no padding, attention inside each."""
        import torch

        from llmcore.models.packed import PackedBatch

        targets = [example.target for example in examples]
        packed = PackedBatch.of_documents([example.tokens for example in examples])
        num_targets = sum(target != NO_TARGET for target in targets)
        return TaskBatch(packed, torch.tensor(targets, dtype=torch.long), num_targets)

    def logits(self, model: Any, batch: TaskBatch) -> "torch.Tensor":
        """Scores [num_examples, num_classes] in fp32."""
        from llmcore.models.packed import classifier_logits

        return classifier_logits(model, batch.packed).float()

    def num_targets(self, batch: TaskBatch) -> tuple[int]:
        """Examples that have a target."""
        return (batch.num_targets,)

    def num_tokens(self, batch: TaskBatch) -> int:
        """Tokens of the examples; there is no padding."""
        return sum(batch.packed.lengths)

    def loss_sums(self, model: Any, batch: TaskBatch) -> "torch.Tensor":
        """Sum of the cross-entropies (nats) of the examples that have a target, [1]."""
        from torch.nn.functional import cross_entropy

        logits = self.logits(model, batch)
        return cross_entropy(logits, batch.targets, reduction="sum", ignore_index=NO_TARGET)[None]

    def predict(self, model: Any, batch: TaskBatch) -> "np.ndarray[Any, Any]":
        """Probabilities [num_examples, num_classes]."""
        import torch

        with torch.inference_mode():
            return self.logits(model, batch).softmax(dim=-1).cpu().numpy()

    def decode(self, outputs: "np.ndarray[Any, Any]") -> Mapping[str, "np.ndarray[Any, Any]"]:
        """`prediction`: the most probable class (int32); `probabilities` [num_examples, num_classes]."""
        return {"prediction": outputs.argmax(axis=1).astype("int32"), "probabilities": outputs}
