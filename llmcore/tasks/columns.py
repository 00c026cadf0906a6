"""What columns a labelled set of each kind has: for its checks, its file, its hash, and whoever maps theirs to them."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from llmcore.errors import CorpusError

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["KINDS", "TEXT_AND_LABEL", "Column", "SetColumns", "SetKind", "Shape"]

Shape = Literal["text", "texts", "number", "label", "labels", "answers", "messages"]
"""What a value is: a text, a list of texts, a number, an index into the label names, a list of them; a list of spans
(`text`, and the character in `context` where it starts); a list of messages (`role`, `content`)."""


@dataclass(frozen=True)
class Column:
    """One column of a labelled set.

    Attributes:
        name: Its name.
        shape: What its values are.
        meaning: What stands in it.
        required: Whether every set of the kind has it.
        is_input: Whether a model is given it: two rows with the same inputs are duplicates.
        may_be_empty: Whether a text may be blank, or a list without items.
        instead_of: The column that stands where this one does not.
    """

    name: str
    shape: Shape
    meaning: str
    required: bool = True
    is_input: bool = False
    may_be_empty: bool = False
    instead_of: str | None = None


ID = Column("id", "text", "names the row; unique in the set")
GROUP = Column("group", "text", "rows that belong together (a document, an author): intervals resample groups")


@dataclass(frozen=True)
class SetColumns:
    """The columns of one set: `id`, those of its kind, `group`, and metadata for slices, which may be null."""

    kind: str
    columns: tuple[Column, ...]
    metadata: tuple[str, ...] = ()

    @property
    def all(self) -> tuple[Column, ...]:
        """Those that no row may be without, in the order of the file."""
        return (ID, *self.columns, GROUP)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all columns, in the order of the file."""
        return (*(column.name for column in self.all), *self.metadata)

    @property
    def kind_names(self) -> tuple[str, ...]:
        """Names of those of its kind."""
        return tuple(column.name for column in self.columns)

    @property
    def inputs(self) -> tuple[Column, ...]:
        """What a model is given."""
        return tuple(column for column in self.columns if column.is_input)

    @property
    def has_labels(self) -> bool:
        """Whether rows have classes, so that the set has label names."""
        return any(column.shape in ("label", "labels") for column in self.columns)

    def with_metadata(self, metadata: tuple[str, ...]) -> "SetColumns":
        """These, and columns of metadata. Raises CorpusError for one that is there."""
        if taken := [name for number, name in enumerate(metadata) if name in (*self.names, *metadata[:number])]:
            raise CorpusError(f"metadata={taken}: a set of {self.kind} has columns of that name: leave it out there")
        return replace(self, metadata=metadata)

    def schema(self) -> "pa.Schema":
        """The columns as Arrow has them."""
        import pyarrow as pa

        kinds = {
            "text": pa.string(),
            "texts": pa.list_(pa.string()),
            "number": pa.float64(),
            "label": pa.int32(),
            "labels": pa.list_(pa.int32()),
            "answers": pa.list_(pa.struct([("text", pa.string()), ("start", pa.int32())])),
            "messages": pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())])),
        }
        fields = [(column.name, kinds[column.shape]) for column in self.all]
        return pa.schema([*fields, *((name, pa.string()) for name in self.metadata)])

    def described(self) -> dict[str, str]:
        """What stands in each column, by name: for the manifest."""
        return {column.name: column.meaning for column in self.all} | dict.fromkeys(self.metadata, "metadata")


@dataclass(frozen=True)
class SetKind:
    """A kind of labelled set, by the name of its task, with all columns that it may have."""

    name: str
    columns: tuple[Column, ...]

    def chosen(self, names: Collection[str]) -> SetColumns:
        """The columns of a set that has those of `names`.

        Raises:
            CorpusError: A required one is missing, or two stand for the same.
        """
        chosen = tuple(column for column in self.columns if column.name in names)
        for column in chosen:
            if column.instead_of in names:
                raise CorpusError(f"{self.name} has {column.instead_of} or {column.name}, not both: leave one out")
        there = {column.instead_of or column.name for column in chosen}
        if missing := [column.name for column in self.columns if column.required and column.name not in there]:
            raise CorpusError(f"{self.name} needs {', '.join(map(self._or_instead, missing))}")
        return SetColumns(self.name, chosen)

    def names(self) -> tuple[str, ...]:
        """Names of the columns."""
        return tuple(column.name for column in self.columns)

    @property
    def references(self) -> tuple[str, ...]:
        """Columns that predictions are judged against: what a model is not given, and conversations."""
        return tuple(column.name for column in self.columns if not column.is_input or column.shape == "messages")

    def _or_instead(self, name: str) -> str:
        return " or ".join([name, *(column.name for column in self.columns if column.instead_of == name)])


def _given(name: str, meaning: str, *, may_be_empty: bool = False) -> Column:
    return Column(name, "text", meaning, is_input=True, may_be_empty=may_be_empty)


_KINDS = (
    SetKind(
        "text_classification",
        (
            _given("text", "what is classified"),
            Column("text_pair", "text", "what stands beside it", required=False, is_input=True),
            Column("label", "label", "its class: an index into the label names"),
            Column(
                "labels",
                "labels",
                "its classes, any number of them: indices into the label names",
                required=False,
                may_be_empty=True,
                instead_of="label",
            ),
        ),
    ),
    SetKind(
        "question_answering",
        (
            _given("question", "what is asked"),
            _given("context", "where the answer stands"),
            Column("answers", "answers", "right answers; none where there is none", may_be_empty=True),
        ),
    ),
    SetKind("translation", (_given("source", "what is translated"), Column("target", "text", "its translation"))),
    SetKind("summarization", (_given("document", "what is summed up"), Column("summary", "text", "its summary"))),
    SetKind(
        "text_generation",
        (
            _given("prompt", "what is gone on from", may_be_empty=True),
            Column("completion", "text", "how it goes on"),
        ),
    ),
    SetKind("chat", (Column("messages", "messages", "a conversation, in order", is_input=True),)),
    SetKind(
        "code_generation",
        (
            _given("prompt", "what the code is to do"),
            Column("solution", "text", "code that does it"),
            Column("tests", "texts", "statements that fail where code does not do it"),
            Column("setup", "text", "code to run before the tests", required=False, may_be_empty=True),
        ),
    ),
)
KINDS = {kind.name: kind for kind in _KINDS}
"""The kinds of this package's tasks; another task brings its own."""

TEXT_AND_LABEL = KINDS["text_classification"].chosen(["text", "label"])
"""What `prepare` makes of documents."""
