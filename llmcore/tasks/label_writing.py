"""Classes by writing their names: a decoder or an encoder-decoder tells how likely each name is after the text."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from llmcore.config.generation import GenerationSettings
from llmcore.errors import ConfigError
from llmcore.tasks.base import NO_TARGET, Features, Judged, Reader
from llmcore.tasks.columns import KINDS, SetKind
from llmcore.tasks.examples import label_example
from llmcore.tasks.heads import HeadPredictor, load_head
from llmcore.tasks.text_to_text import TextToText, WrittenExample

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    import torch
    from numpy.typing import NDArray

    from llmcore.config.task import TaskSettings
    from llmcore.tasks.base import SetFacts

__all__ = ["LabelExample", "LabelWriting"]


class LabelExample(NamedTuple):
    """A text with every name that may follow it, and which one does; NO_TARGET where that is not known."""

    names: tuple[WrittenExample, ...]
    label: int

    @property
    def num_tokens(self) -> int:
        """Tokens of the text, as often as there are names, and of the names."""
        return sum(name.num_tokens for name in self.names)


@dataclass(frozen=True)
class LabelWriting(TextToText):
    """`text_classification` with `task.answer=text`: the name of the class is written, and learnt as any answer is.

    The probability of a class is that of its name with its end, among the names of all classes (Brown et al., 2020,
    section 2.4). Predictions and metrics are those of a head.

    Attributes:
        label_names: The classes, as they are written.
        answer: How it answers, which tells this task from that with a head.
    """

    label_names: tuple[str, ...] = ()
    answer: str = "text"

    kind: ClassVar[str] = "text_classification"
    set_kind: ClassVar[SetKind] = KINDS[kind]
    answer_column: ClassVar[str] = "label"
    metrics: ClassVar[tuple[str, ...]] = ("accuracy", "macro_f1")
    validation_metrics: ClassVar[tuple[str, ...]] = ("macro_f1", "micro_f1", "accuracy")
    settings: ClassVar[tuple[str, ...]] = ("answer", "prompt", "max_answer_tokens")

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "label_names", tuple(self.label_names))

    @classmethod
    def from_data(cls, settings: "TaskSettings", data: "SetFacts") -> dict[str, Any]:
        """The names, and a prompt of the texts that there are. Raises ConfigError where a text has several classes."""
        if data.multi_label:
            raise ConfigError("task.answer=text writes one label, and the labelled set has several a row: use a head")
        prompt = settings.prompt or ("{text}\n{text_pair}\n" if "text_pair" in data.columns else "{text}\n")
        fields = super().from_data(settings.model_copy(update={"prompt": prompt}), data)
        return {**fields, "label_names": data.label_names}

    def answer_texts(self, rows: "pa.Table") -> list[str]:
        """The name of each row's class."""
        return [self.label_names[label] for label in rows["label"].to_pylist()]

    def features(self, reader: Reader, rows: "pa.Table") -> Features:
        """Texts, each with the name of its class; all names have room."""
        return self.written(reader, rows, self.answer_texts(rows), room=self.max_tokens - self._longest(reader))

    def judged(self, reader: Reader, rows: "pa.Table") -> Features:
        """Texts, each with all names."""
        room = self.max_tokens - self._longest(reader)
        by_name = [self.written(reader, rows, [name] * rows.num_rows, room=room) for name in self.label_names]
        labels = rows["label"].to_pylist() if "label" in rows.column_names else [NO_TARGET] * rows.num_rows
        told = zip(*(features.examples for features in by_name), strict=True)
        examples = [LabelExample(names, label) for names, label in zip(told, labels, strict=True)]
        return Features(examples, by_name[0].num_truncated)

    def _longest(self, reader: Reader) -> int:
        """Tokens of the longest name and its end. Raises ConfigError where it does not fit."""
        longest = max(map(len, reader.tokens(self.label_names))) + 1
        if longest > self.max_answer_tokens:
            raise ConfigError(
                f"task.max_answer_tokens={self.max_answer_tokens}: the longest of {list(self.label_names)} has "
                f"{longest} tokens with its end: raise it, and task.max_tokens beyond it"
            )
        return longest

    def answers(self, model: Any, examples: Sequence[LabelExample]) -> Mapping[str, Sequence[Any]]:
        """`prediction`, the likeliest class, and the `probabilities` of all, which sum to 1."""
        return self._told(self._losses(model, examples, model.device))

    def _losses(self, model: Any, examples: Sequence[LabelExample], device: "torch.device") -> "NDArray[np.float64]":
        """Of each example, those of its names: [examples, classes], in nats."""
        import numpy as np

        written = [name for example in examples for name in example.names]
        return np.reshape(self.answer_losses(model, written, device), (len(examples), -1))

    def _told(self, losses: "NDArray[np.float64]") -> Mapping[str, Sequence[Any]]:
        from scipy.special import softmax

        probabilities = softmax(-losses, axis=1).astype("float32")
        return {"prediction": [*losses.argmin(axis=1).astype("int32")], "probabilities": [*probabilities]}

    def judge(self, model: Any, examples: Sequence[Any], device: "torch.device") -> Judged:
        """Loss of the right names; of each example its class, and what was told."""
        import pyarrow as pa

        losses, labels = self._losses(model, examples, device), [example.label for example in examples]
        loss = sum(float(of_names[label]) for of_names, label in zip(losses, labels, strict=True))
        num_targets = sum(len(example.names[example.label].answer) for example in examples)
        return Judged(loss, num_targets, pa.table({"label": labels, **self._told(losses)}))

    def predictor(self, folder: Path, generation: GenerationSettings | None = None) -> HeadPredictor:
        """A trained model from its exported folder. Raises CheckpointError where a weight is missing."""
        from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM

        encodes = AutoConfig.from_pretrained(folder, trust_remote_code=False).is_encoder_decoder
        auto = AutoModelForSeq2SeqLM if encodes else AutoModelForCausalLM
        return HeadPredictor(self, load_head(auto, folder, self.kind), Reader.of(folder))

    def told(self) -> str:
        """The prompt and the classes."""
        return f"{super().told()} It is one of {', '.join(self.label_names)}, the likeliest of them."

    def example(self, reader: Reader) -> str:
        """How likely each name is after a text."""
        return label_example(reader, self.example_prompt(), self.label_names)
