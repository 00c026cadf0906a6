"""What a task is: everything that training and evaluation need to know of it, and nothing of how they run."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, NamedTuple, Protocol, Self, TypeVar, get_type_hints

from pydantic import TypeAdapter, ValidationError

from llmcore.errors import ConfigError
from llmcore.tasks.columns import SetKind
from llmcore.tasks.examples import BARE_MODEL

if TYPE_CHECKING:
    import pyarrow as pa
    import torch
    from torch import nn

    from llmcore.config.task import TaskSettings
    from llmcore.cost.flops import Work
    from llmcore.models.initialize import Home

__all__ = [
    "NO_TARGET",
    "Batch",
    "Example",
    "Features",
    "Judged",
    "Predictor",
    "Reader",
    "SetFacts",
    "Task",
    "batches_in_order",
    "batches_of",
]

NO_TARGET = -1
"""Target of an example that teaches nothing: without a label, or there to fill up a rank's share."""


class Example(Protocol):
    """One row, or a window of it, ready for the model."""

    @property
    def num_tokens(self) -> int:
        """Tokens that go through the model: examples are batched by it."""


class Batch(Protocol):
    """Examples that go through the model at once."""

    @property
    def num_places(self) -> int:
        """Tokens that go through the model, padding included."""

    def to(self, device: "torch.device") -> Self:
        """The same batch on a device."""


ExampleT = TypeVar("ExampleT", bound=Example)
BatchT = TypeVar("BatchT", bound=Batch)


class Features(NamedTuple):
    """Examples in the order of their rows, and how many rows were cut."""

    examples: list[Any]
    num_truncated: int


class Judged(NamedTuple):
    """What was measured of some examples.

    Attributes:
        loss_sum: Of their targets.
        num_targets: How many targets.
        rows: A row for each example, with the columns that the task's `validation_metrics` read.
    """

    loss_sum: float
    num_targets: int
    rows: "pa.Table"


class SetFacts(NamedTuple):
    """What a task is told of the labelled set that it is made for.

    Attributes:
        label_names: The classes; empty where the kind has none.
        label_counts: Train rows of each class.
        multi_label: Whether a row has any number of classes.
        columns: Names of the columns of its kind that it has.
    """

    label_names: tuple[str, ...] = ()
    label_counts: tuple[int, ...] = ()
    multi_label: bool = False
    columns: tuple[str, ...] = ()


@dataclass(frozen=True)
class Reader:
    """How a model reads text: its tokenizer, and its config."""

    tokenizer: Any
    config: Any

    @classmethod
    def of(cls, folder: Path) -> "Reader":
        """That of a Hugging Face folder."""
        from transformers import AutoConfig, AutoTokenizer

        return cls(
            AutoTokenizer.from_pretrained(folder, trust_remote_code=False),
            AutoConfig.from_pretrained(folder, trust_remote_code=False),
        )

    @property
    def begin(self) -> list[int]:
        """What stands before a text: the class token of tokenizers that frame texts, as BERT's do."""
        framed = self.tokenizer.cls_token_id is not None and self.tokenizer.num_special_tokens_to_add() > 1
        return [int(self.tokenizer.cls_token_id)] if framed else []

    @property
    def between(self) -> list[int]:
        """What stands between two texts: the end of the first, or as many of them as the tokenizer puts there."""
        added = self.tokenizer.num_special_tokens_to_add
        return [self.end] * (added(pair=True) - added(pair=False) if self.begin else 1)

    @property
    def end(self) -> int:
        """What ends a text."""
        eos = self.tokenizer.eos_token_id
        return int(eos if eos is not None else self.tokenizer.sep_token_id)

    def tokens(self, texts: Sequence[str]) -> list[list[int]]:
        """The tokens of texts, without any that frame them; a special token written out in a text stays text."""
        if not texts:
            return []
        encoded = self.tokenizer(
            list(texts), add_special_tokens=False, split_special_tokens=True, truncation=False, verbose=False
        )
        return encoded["input_ids"]  # type: ignore[no-any-return]


class Predictor(Protocol):
    """A trained model of a task, in memory."""

    def predict(self, rows: "pa.Table", *, batch_tokens: int) -> tuple[dict[str, Any], int]:
        """Columns of predictions, one value a row, in the order of the rows; and how many rows were cut."""


@dataclass(frozen=True)
class Task(ABC, Generic[ExampleT, BatchT]):
    """One kind of thing to learn from a labelled set. A subclass is a frozen dataclass whose fields are plain JSON.

    Attributes:
        max_tokens: Longest example, special tokens included.
        validation_metric: The metric that trials are compared by.
    """

    max_tokens: int
    validation_metric: str

    kind: ClassVar[str]
    """Its name in a configuration, and in a model's manifest."""
    set_kind: ClassVar[SetKind]
    """The labelled sets that it reads: their columns."""
    metrics: ClassVar[tuple[str, ...]]
    """Metrics that its predictions are judged by, by their names in `evaluation.metrics`."""
    validation_metrics: ClassVar[tuple[str, ...]]
    """Those that are measured at a validation of a training, besides the loss; the first one is the task's own."""
    settings: ClassVar[tuple[str, ...]] = ()
    """Fields of `TaskSettings` that it reads besides `kind`, `max_tokens`, `validation_metric` and `options`."""

    def __post_init__(self) -> None:
        known = [*self.validation_metrics, "loss"]
        if self.validation_metric not in known:
            raise ConfigError(
                f"task.validation_metric={self.validation_metric!r} is not measured while a {self.kind} model trains: "
                f"give one of {known}"
            )

    @classmethod
    def of_settings(cls, settings: "TaskSettings", data: SetFacts) -> Self:
        """The task of a configuration, for a labelled set; `options` are fields of its own that no setting has.

        Raises ConfigError for settings that do not fit it.
        """
        common = {"kind", "max_tokens", "validation_metric", "options"}
        for name, field in type(settings).model_fields.items():
            value, default = getattr(settings, name), field.get_default(call_default_factory=True)
            if name not in common and name not in cls.settings and value != default:
                raise ConfigError(f"task.{name}={value!r} is not read by {cls.kind}: leave it out")
        made = {name.name for name in fields(cls)} - common
        given = {
            name: value for name in cls.settings if name in made and (value := getattr(settings, name)) is not None
        }
        given |= cls.from_data(settings, data)
        options = cls._options(settings.options, made - {*given, *type(settings).model_fields})
        return cls(max_tokens=settings.max_tokens, validation_metric=cls.metric_of(settings), **given | options)

    @classmethod
    def _options(cls, given: Mapping[str, Any], known: set[str]) -> dict[str, Any]:
        """Options, each of its field's type."""
        types, options = get_type_hints(cls), {}
        for name, value in given.items():
            if name not in known:
                raise ConfigError(f"task.options.{name} is no option of {cls.kind}: there is {sorted(known) or 'none'}")
            try:
                options[name] = TypeAdapter(types[name]).validate_python(value)
            except ValidationError as error:
                raise ConfigError(f"task.options.{name}={value!r}: {error.errors()[0]['msg']}") from error
        return options

    @classmethod
    def metric_of(cls, settings: "TaskSettings") -> str:
        """What a configuration validates by: what it names, or the task's own."""
        return settings.validation_metric or next(iter(cls.validation_metrics), "loss")

    @classmethod
    def from_data(cls, settings: "TaskSettings", data: SetFacts) -> dict[str, Any]:
        """Fields that come of the labelled set rather than of the settings alone."""
        return {}

    def about(self) -> dict[str, Any]:
        """Plain JSON for the `task` key of a model's manifest; `task_from_about` makes the task again."""
        return {"kind": self.reference(), **asdict(self)}

    @classmethod
    def reference(cls) -> str:
        """What `task_class` finds it by: its kind, or of a class outside of the package the place where it stands."""
        own = cls.__module__.startswith("llmcore.")
        return cls.kind if own else f"{cls.__module__}:{cls.__qualname__}"

    def check_family(self, family: str, *, encodes_and_decodes: bool) -> None:
        """Raises ConfigError where models of a family cannot give such answers."""

    @classmethod
    def from_fields(cls, given: Mapping[Any, Any]) -> Self:
        """The task again from what `about` said of its fields. Raises TypeError for other fields."""
        return cls(**{str(name): value for name, value in given.items()})

    @abstractmethod
    def build_model(self, folder: Path, *, seed: int, random_weights: bool, home: "Home | None" = None) -> "nn.Module":
        """The base model in `folder`, or its architecture alone, with this task's head (`models.build.make_model`)."""

    @abstractmethod
    def features(self, reader: Reader, rows: "pa.Table") -> Features:
        """Rows of a labelled set as examples to learn from; what is cut is counted."""

    @abstractmethod
    def collate(self, examples: Sequence[ExampleT]) -> BatchT:
        """Examples as one batch."""

    @abstractmethod
    def without_target(self, example: ExampleT) -> ExampleT:
        """A short example like this one that teaches nothing: a rank without rows runs the model all the same."""

    @abstractmethod
    def num_targets(self, batch: BatchT) -> tuple[int]:
        """Targets of a batch, by which the loop divides (as of an `objectives.base.Objective`)."""

    @abstractmethod
    def num_tokens(self, batch: BatchT) -> int:
        """Tokens of a batch, padding left out."""

    def work(self, batch: BatchT) -> "Work":
        """What a batch asks of a model, for its FLOPs: here the head reads one state of each document of `packed`."""
        packed = batch.packed  # type: ignore[attr-defined]
        return packed.work(predicted=packed.num_documents(), pooled=packed.num_documents())  # type: ignore[no-any-return]

    @abstractmethod
    def loss_sums(self, model: Any, batch: BatchT) -> "torch.Tensor":
        """Sum of the loss over the targets (nats where it is a likelihood), [1]; zero, with a gradient, without any."""

    def judged(self, reader: Reader, rows: "pa.Table") -> Features:
        """Rows as examples to be judged by, one for each row; those to learn from, where these are such."""
        return self.features(reader, rows)

    @abstractmethod
    def judge(self, model: Any, examples: Sequence[Any], device: "torch.device") -> Judged:
        """What is measured of some examples of `judged` at a validation."""

    @abstractmethod
    def predictor(self, folder: Path) -> Predictor:
        """A trained model of this task from its exported folder. Raises CheckpointError for any other."""

    pipeline_tag: ClassVar[str] = "other"
    """What Hugging Face calls such models."""

    def tokenizer(self, reader: Reader) -> Any:
        """What is exported with the model: plain transformers is to read a text with it as this task does."""
        return reader.tokenizer

    def told(self) -> str:
        """What there is to know of the task for who uses the model: a sentence or two for its card."""
        return ""

    def example(self, reader: Reader) -> str:
        """Python, run in the exported folder, that makes the model answer."""
        return BARE_MODEL


def batches_of(examples: Sequence[Example], batch_tokens: int) -> Iterator[list[int]]:
    """Indices of examples in batches of at most so many tokens, or one example: neighbours in length together."""
    by_length = sorted(range(len(examples)), key=lambda index: examples[index].num_tokens)
    yield from batches_in_order(examples, by_length, batch_tokens)


def batches_in_order(examples: Sequence[Example], indices: Iterable[int], batch_tokens: int) -> Iterator[list[int]]:
    """Some examples' indices, as they come, in batches of at most so many tokens, or one example."""
    batch: list[int] = []
    num_tokens = 0
    for index in indices:
        length = examples[index].num_tokens
        if batch and num_tokens + length > batch_tokens:
            yield batch
            batch, num_tokens = [], 0
        batch.append(index)
        num_tokens += length
    if batch:
        yield batch
