"""Labelled data from files: which they are, what their columns mean, and how they are divided."""

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Tag, field_validator, model_validator

from llmcore.config.base import A_SECTION, A_TEXT, Section, free, identity
from llmcore.config.common import Name
from llmcore.config.prepare import DatasetSettings, SplitSettings
from llmcore.config.template import check_template

__all__ = ["DataReference", "Files", "LabelledDataSettings", "LabelledFormat", "TurnSettings", "told_data"]

LabelledFormat = Literal["json_lines", "csv", "tsv", "parquet", "arrow", "squad"]
Files = str | list[str] | dict[str, str | list[str]]
"""A folder, file or glob; several of them; or files of text with a row a line, side by side, by the column of each."""


class TurnSettings(Section):
    """One message of a conversation that is made from columns."""

    role: str = identity(min_length=1, description="Who says it: `system`, `user`, `assistant`.")
    content: str = identity(description="Column, path into one, or template. A row where it is blank has no such turn.")

    @field_validator("content")
    @classmethod
    def _can_be_filled(cls, content: str) -> str:
        check_template(content)
        return content


class LabelledDataSettings(Section):
    """A labelled set from files, without a corpus. Its rows prove it: files that moved are the same data."""

    name: Name = free("data", description="What the set is called in messages and reports.")
    train: Files = free(
        description="Files of the split: a folder, a file or a glob at any fsspec URL, or a list of them. A mapping "
        "from columns to files is aligned text: line n of each is row n. With `dataset`, the name of its split."
    )
    validation: Files | None = free(None, description="Files of the validation split. Null: carved from `train`.")
    test: Files | None = free(None, description="Files of the test split. Null: carved from `train`.")
    dataset: DatasetSettings | None = free(
        None, description="A dataset of Hugging Face, of which `train`, `validation` and `test` name the splits."
    )
    carve: SplitSettings = identity(
        SplitSettings,
        description="Shares of `train` for splits that are not given; 0: there is no such split. Rows of one group, or "
        "with the same inputs where there is no group, stay together.",
    )
    seed: int = identity(0, ge=0, description="Seed of the carving.")
    format: LabelledFormat | None = identity(
        None,
        description="Format of all files. Null: the end of each name tells it, as for corpora; a `.json` is SQuAD's "
        "where questions are answered, else JSON Lines.",
    )
    header: list[str] | None = identity(
        None, min_length=1, description="CSV and TSV without a row of column names: the names, in order."
    )
    quotes: bool = identity(
        True,
        description="In CSV and TSV, values may stand in quotation marks. False: these are characters as others.",
    )
    columns: dict[str, str] = identity(
        dict,
        description="For columns of the task, what they are called in the files: a column, a path into one "
        "(`instances.0.output`), or a template (`{title}: {body}`). Left out: it has the same name.",
    )
    messages: list[TurnSettings] | None = identity(
        None, min_length=1, description="For `chat`: conversations made from columns, instead of a column of them."
    )
    label_names: list[str] | dict[str, str] | None = identity(
        None,
        min_length=2,
        description="The classes, in order: as they stand in the files, or a mapping from that to what they are "
        "called. Null: those found, sorted.",
    )
    label_separator: str | None = identity(
        None, min_length=1, description="What stands between several labels. Null: `labels` is a list, as in JSON."
    )
    id: str | None = identity(
        None, description="Column of the rows' names. Null: SQuAD's ids, or `file:row`, counted from 0."
    )
    group: str | None = identity(
        None,
        description="Column of what belongs together, which carving does not divide and intervals resample. Null: "
        "SQuAD's articles (paragraphs where they have no title), or each row by itself.",
    )
    metadata: list[str] = identity(list, description="Further columns to keep, as text: for slices.")
    answers: Literal["repair", "drop", "fail"] = identity(
        "repair",
        description="Answers that do not stand where they say: `repair` takes the nearest place in the context, and "
        "refuses one that stands nowhere; `drop` leaves those out, with rows that have no other; `fail` refuses all.",
    )
    empty: Literal["fail", "drop"] = identity(
        "fail", description="Rows with a blank text: refused, or left out and counted."
    )
    allow_duplicates: bool = identity(False, description="Allow rows with the same inputs in two splits.")

    @model_validator(mode="after")
    def _one_source(self) -> "LabelledDataSettings":
        for split in ("train", "validation", "test"):
            files: Files | None = getattr(self, split)
            if files is None:
                continue
            if not files:
                raise ValueError(f"{split}={files!r} names no file: give one, or leave it out")
            if self.dataset is not None and not isinstance(files, str):
                raise ValueError(f"{split}={files!r}: with `dataset` it is the name of one of its splits")
            if (share := getattr(self.carve, split, None)) not in (None, 0, getattr(SplitSettings(), split, None)):
                raise ValueError(f"{split}={files!r} is given, so carve.{split}={share} carves nothing: leave one out")
        if self.dataset is not None and self.dataset.split != "train":
            raise ValueError("dataset.split is said by `train`, `validation` and `test`: leave it out")
        if self.dataset is not None and self.format is not None:
            raise ValueError(f"format={self.format} is for files: with `dataset` leave it out")
        if self.header is not None and len(set(self.header)) < len(self.header):
            raise ValueError(f"header={self.header} has a name twice: give each once")
        return self

    @model_validator(mode="after")
    def _labels_are_told_apart(self) -> "LabelledDataSettings":
        names = self.label_names if isinstance(self.label_names, list) else (self.label_names or {}).values()
        if self.label_names is not None and len(set(names)) < 2:
            raise ValueError(f"label_names={self.label_names} has fewer than two classes")
        if isinstance(self.label_names, list) and len(set(names)) < len(self.label_names):
            raise ValueError(f"label_names={self.label_names} has a name twice: give each once")
        return self

    @field_validator("columns")
    @classmethod
    def _can_be_filled(cls, columns: dict[str, str]) -> dict[str, str]:
        for reference in columns.values():
            check_template(reference)
        return columns

    def carved(self) -> SplitSettings:
        """The shares of `train` that are carved: none for a split that is given."""
        given = {split: 0.0 for split in ("validation", "test") if getattr(self, split) is not None}
        return self.carve.model_copy(update=given)


def _which(given: Any) -> str | None:
    if isinstance(given, str):
        return A_TEXT
    return A_SECTION if isinstance(given, dict | LabelledDataSettings) else None


DataReference = Annotated[
    Annotated[str, Tag(A_TEXT)] | Annotated[LabelledDataSettings, Tag(A_SECTION)],
    Discriminator(_which, custom_error_type="no_data", custom_error_message="a text or a section of keys"),
]
"""A labelled set: one that is published, by name or URL, or the files to make one of."""


def told_data(data: str | LabelledDataSettings) -> str:
    """A labelled set in some words, for a line of text."""
    return data if isinstance(data, str) else f"{data.name} ({data.train})"
