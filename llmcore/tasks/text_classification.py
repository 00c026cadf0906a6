"""Which of the classes a text, or a pair of texts, belongs to: one, or any number of them, read by a head."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from llmcore.errors import CheckpointError, ConfigError
from llmcore.tasks.base import NO_TARGET, Features, Judged, Reader, SetFacts, Task
from llmcore.tasks.columns import KINDS, SetKind
from llmcore.tasks.examples import classifier_example
from llmcore.tasks.framing import framed_texts, framing_tokenizer
from llmcore.tasks.heads import HeadPredictor, load_head

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    import torch
    from numpy.typing import NDArray
    from torch import nn

    from llmcore.config.task import TaskSettings
    from llmcore.models.initialize import Home
    from llmcore.models.packed import PackedBatch

__all__ = ["ClassBatch", "ClassExample", "TextClassification"]


class ClassExample(NamedTuple):
    """A text's tokens, where its second text begins (0: there is none), and its classes; no class is no target."""

    tokens: Sequence[int]
    second: int = 0
    classes: tuple[int, ...] | None = None

    @property
    def num_tokens(self) -> int:
        """Tokens of the text."""
        return len(self.tokens)


@dataclass(frozen=True)
class ClassBatch:
    """Examples that go through the model at once, without padding.

    Attributes:
        packed: The examples as the documents of packed rows.
        targets: float32 [num_examples, num_classes], 1 at the classes; all 0 where there is no target.
        is_target: bool [num_examples].
        num_targets: How many are, known without asking the device.
    """

    packed: "PackedBatch"
    targets: "torch.Tensor"
    is_target: "torch.Tensor"
    num_targets: int

    @property
    def num_places(self) -> int:
        """Tokens that go through the model, padding included."""
        return self.packed.num_places()

    def to(self, device: "torch.device") -> "ClassBatch":
        """The same batch on another device."""
        targets, is_target = (tensor.to(device, non_blocking=True) for tensor in (self.targets, self.is_target))
        return ClassBatch(self.packed.to(device), targets, is_target, self.num_targets)


@dataclass(frozen=True)
class TextClassification(Task[ClassExample, ClassBatch]):
    """A linear head reads the state of the last token, the end of the text; an encoder's head that of the first.

    Attributes:
        label_names: The classes; targets are indices into them.
        multi_label: Whether a row has any number of classes, each by itself likely or not.
        weights: What a row of each class weighs in the loss; empty where all weigh alike.
        has_pairs: Whether there is a second text beside each.
    """

    label_names: tuple[str, ...] = ()
    multi_label: bool = False
    weights: tuple[float, ...] = ()
    has_pairs: bool = False

    kind: ClassVar[str] = "text_classification"
    set_kind: ClassVar[SetKind] = KINDS[kind]
    metrics: ClassVar[tuple[str, ...]] = ("accuracy", "macro_f1")
    validation_metrics: ClassVar[tuple[str, ...]] = ("macro_f1", "micro_f1", "accuracy")
    settings: ClassVar[tuple[str, ...]] = ("answer", "class_weights")
    pipeline_tag: ClassVar[str] = "text-classification"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("label_names", "weights"):
            object.__setattr__(self, name, tuple(getattr(self, name)))

    @classmethod
    def from_data(cls, settings: "TaskSettings", data: SetFacts) -> dict[str, Any]:
        """The classes, and what each weighs."""
        return {
            "label_names": data.label_names,
            "multi_label": data.multi_label,
            "weights": _weights(settings, data),
            "has_pairs": "text_pair" in data.columns,
        }

    def check_family(self, family: str, *, encodes_and_decodes: bool) -> None:
        """Raises ConfigError for an encoder-decoder, of which no head here reads."""
        if encodes_and_decodes:
            raise ConfigError(
                f"base is a {family}, an encoder-decoder: task.kind={self.kind} takes an encoder or a decoder"
            )

    def build_model(self, folder: Path, *, seed: int, random_weights: bool, home: "Home | None" = None) -> "nn.Module":
        """A base model's architecture, with its weights or random ones, under a new head of `seed`.

        Raises:
            ConfigError: The base model has no padding token of its own, from which plain transformers, reading the
                exported folder, finds each text's last token; or it is read by the mean of its tokens.
        """
        from llmcore.models.build import build_classifier

        model = build_classifier(
            folder,
            label_names=list(self.label_names),
            multi_label=self.multi_label,
            seed=seed,
            random_weights=random_weights,
            home=home,
        )
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

    def features(self, reader: Reader, rows: "pa.Table") -> Features:
        """Texts, framed and cut (`framed_texts`); a table without labels gives examples without targets."""
        pairs = rows["text_pair"].to_pylist() if "text_pair" in rows.column_names else None
        framed, num_truncated = framed_texts(reader, rows["text"].to_pylist(), pairs, self.max_tokens)
        texts = zip(framed, _classes_of(rows), strict=True)
        return Features([ClassExample(*text, classes) for text, classes in texts], num_truncated)

    def without_target(self, example: ClassExample) -> ClassExample:
        """Its last token."""
        return ClassExample(example.tokens[-1:])

    def collate(self, examples: Sequence[ClassExample]) -> ClassBatch:
        """All examples as the documents of one packed row [1, sum of lengths]: no padding, attention inside each."""
        import torch

        from llmcore.models.packed import PackedBatch

        packed = PackedBatch.of_documents([example.tokens for example in examples])
        if any(example.second for example in examples):
            packed = packed.with_seconds(torch.tensor([example.second for example in examples]))
        targets = torch.zeros(len(examples), len(self.label_names))
        for row, example in enumerate(examples):
            targets[row, list(example.classes or ())] = 1
        is_target = torch.tensor([example.classes is not None for example in examples])
        return ClassBatch(packed, targets, is_target, int(is_target.sum()))

    def logits(self, model: Any, batch: ClassBatch) -> "torch.Tensor":
        """Scores [num_examples, num_classes] in fp32."""
        from llmcore.models.packed import classifier_logits

        return classifier_logits(model, batch.packed).float()

    def num_targets(self, batch: ClassBatch) -> tuple[int]:
        """Examples that have a target."""
        return (batch.num_targets,)

    def num_tokens(self, batch: ClassBatch) -> int:
        """Tokens of the examples; there is no padding."""
        return sum(batch.packed.lengths)

    def loss_sums(self, model: Any, batch: ClassBatch) -> "torch.Tensor":
        """Sum of the cross-entropies (nats) of the examples that have a target, each by its class's weight, [1].

        Of many labels, an example's loss is the mean over classes of the binary cross-entropies.
        """
        return self.losses(self.logits(model, batch), batch, self.weights).sum()[None]

    def losses(self, logits: "torch.Tensor", batch: ClassBatch, weights: Sequence[float]) -> "torch.Tensor":
        """Of each example, by what its class weighs; 0 where it has no target: [num_examples]."""
        import torch
        from torch.nn.functional import binary_cross_entropy_with_logits, log_softmax

        of_class = torch.tensor(weights, device=logits.device) if weights else torch.ones_like(logits[0])
        if self.multi_label:
            losses = binary_cross_entropy_with_logits(logits, batch.targets, pos_weight=of_class, reduction="none")
            return losses.mean(dim=-1) * batch.is_target
        return -(log_softmax(logits, dim=-1) * batch.targets * of_class).sum(dim=-1)

    def probabilities(self, logits: "torch.Tensor") -> "torch.Tensor":
        """Of each class, [num_examples, num_classes]: of one label they sum to 1."""
        return logits.sigmoid() if self.multi_label else logits.softmax(dim=-1)

    def decode(self, probabilities: "NDArray[np.float32]") -> Mapping[str, Sequence[Any]]:
        """`prediction`: the most probable class (int32), or the list of those over 1/2; and the `probabilities`."""
        import numpy as np

        if not self.multi_label:
            return {"prediction": [*probabilities.argmax(axis=1).astype("int32")], "probabilities": [*probabilities]}
        chosen = [np.flatnonzero(row > 0.5).astype("int32") for row in probabilities]
        return {"prediction": chosen, "probabilities": [*probabilities]}

    def judge(self, model: Any, examples: Sequence[ClassExample], device: "torch.device") -> Judged:
        """Loss, unweighted; of each example its class, or classes, and what was told."""
        import pyarrow as pa
        import torch

        batch = self.collate(examples).to(device)
        with torch.inference_mode():
            logits = self.logits(model, batch)
            loss = float(self.losses(logits, batch, ()).sum())
            told = self.decode(self.probabilities(logits).cpu().numpy())
        truth = [example.classes or () for example in examples]
        of_truth: dict[str, Sequence[Any]] = {"labels": truth} if self.multi_label else {"label": [c for (c,) in truth]}
        rows = pa.table({name: list(values) for name, values in {**of_truth, **told}.items()})
        return Judged(loss, batch.num_targets, rows)

    def answers(self, model: Any, examples: Sequence[ClassExample]) -> Mapping[str, Sequence[Any]]:
        """`prediction` and `probabilities` of each example."""
        logits = self.logits(model, self.collate(examples).to(model.device))
        return self.decode(self.probabilities(logits).cpu().numpy())

    def predictor(self, folder: Path) -> HeadPredictor:
        """A trained model from its exported folder, head and all, in fp32.

        Raises:
            CheckpointError: A weight is missing from the folder, or the classes are others.
        """
        from transformers import AutoModelForSequenceClassification

        model = load_head(AutoModelForSequenceClassification, folder, self.kind)
        names = tuple(model.config.id2label[index] for index in sorted(model.config.id2label))
        if names != self.label_names:
            raise CheckpointError(
                f"{folder} is no {self.kind} model of {list(self.label_names)}: its classes are {list(names)}"
            )
        return HeadPredictor(self, model, Reader.of(folder))

    def tokenizer(self, reader: Reader) -> Any:
        """One that ends texts, and so is read where the head looks."""
        return framing_tokenizer(reader)

    def told(self) -> str:
        """The classes."""
        how = "any number of" if self.multi_label else "one of"
        what = "A pair of texts" if self.has_pairs else "A text"
        return f"{what} has {how} the classes {', '.join(self.label_names)}."

    def example(self, reader: Reader) -> str:
        """Classes by a pipeline."""
        return classifier_example(has_pairs=self.has_pairs, multi_label=self.multi_label)


def _classes_of(rows: "pa.Table") -> list[tuple[int, ...] | None]:
    if "labels" in rows.column_names:
        return [tuple(labels) for labels in rows["labels"].to_pylist()]
    if "label" in rows.column_names:
        return [None if label == NO_TARGET else (label,) for label in rows["label"].to_pylist()]
    return [None] * rows.num_rows


def _weights(settings: "TaskSettings", data: SetFacts) -> tuple[float, ...]:
    """What a row of each class weighs; the mean over the rows of train is 1 where it is balanced."""
    given = settings.class_weights
    if given is None:
        return ()
    if isinstance(given, str):
        total, num_classes = sum(data.label_counts), len(data.label_names)
        return tuple(total / (num_classes * count) if count else 0.0 for count in data.label_counts)
    if set(given) != set(data.label_names):
        raise ConfigError(f"task.class_weights names {sorted(given)}, and the classes are {sorted(data.label_names)}")
    return tuple(given[name] for name in data.label_names)
