"""From what a configuration calls the columns of its files to the columns of a labelled set."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from llmcore.config.labelled import LabelledDataSettings
from llmcore.config.template import columns_in, is_template
from llmcore.errors import ConfigError, CorpusError
from llmcore.tasks.columns import SetColumns, SetKind
from llmcore.tasks.labelled.fields import column_of
from llmcore.tasks.labelled.files import Part

__all__ = ["GROUP", "ID", "Mapped", "mapped_columns", "turn_key"]

ID, GROUP = "id", "group"


def turn_key(number: int) -> str:
    """The key of a turn of a conversation that is made from columns."""
    return f"messages.{number}"


@dataclass(frozen=True)
class Mapped:
    """The columns of a set, and where each is taken from.

    Attributes:
        columns: Those of the set.
        settings: What the user called them.
    """

    columns: SetColumns
    settings: LabelledDataSettings

    def references(self, part: Part) -> dict[str, str]:
        """For each key, the column, path or template that it is in the files of a part."""
        settings = self.settings
        found = {column.name: settings.columns.get(column.name, column.name) for column in self.columns.columns}
        if settings.messages is not None:
            del found["messages"]
            found |= {turn_key(number): turn.content for number, turn in enumerate(settings.messages)}
        for key, given in ((ID, settings.id), (GROUP, settings.group)):
            if given is not None or part.is_squad:
                found[key] = given or key
        return found | {name: name for name in self.columns.metadata}

    def texts(self, part: Part) -> list[str]:
        """The columns of a part's files that must be texts as they stand: nothing is made of them."""
        references = self.references(part)
        plain = [references[column.name] for column in self.columns.columns if column.shape == "text"]
        return [name for name in plain if not is_template(name) and name in part.columns]

    def check(self, part: Part) -> None:
        """Raises CorpusError for a column that a part has not; the message says what it has."""
        there = part.columns
        for key, reference in self.references(part).items() if there else ():
            for name in columns_in(reference):
                if column_of(name, there) is None:
                    setting = f"columns.{key}" if key in self.columns.kind_names else key
                    of = f"{setting}={reference!r}" if name == reference else f"{name!r} in {setting}={reference!r}"
                    raise CorpusError(f"{of} is no column of {_told(part)}: name one of those")


def mapped_columns(kind: SetKind, settings: LabelledDataSettings, parts: Iterable[Part]) -> Mapped:
    """The columns that a set of this kind has: what is named, and what the files call by the same name.

    Raises CorpusError for a column that is needed and not there, ConfigError for one that the kind does not have.
    """
    if unknown := sorted(set(settings.columns) - set(kind.names())):
        raise ConfigError(f"columns={unknown}: {kind.name} has no such columns, only {', '.join(kind.names())}")
    if settings.messages is not None and "messages" not in kind.names():
        raise ConfigError(f"messages= makes conversations, and {kind.name} has {', '.join(kind.names())}: leave it out")
    parts = list(parts)
    first = next((part for part in parts if part.columns), None)
    if first is None:
        raise CorpusError(f"{', '.join(part.name for part in parts)}: no file has a row; give files that have some")
    there = first.columns
    given = {*settings.columns, *(["messages"] if settings.messages is not None else [])}
    try:
        columns = kind.chosen(given | set(_same_names(kind, given, there)))
    except CorpusError as error:
        raise CorpusError(
            f"{error}; {_told(first)}: say which is which, as `columns: {{{kind.names()[0]}: …}}`"
        ) from error
    if settings.label_names is not None and not columns.has_labels:
        raise ConfigError(f"label_names={settings.label_names}: rows of {kind.name} have no labels: leave it out")
    mapped = Mapped(columns.with_metadata(tuple(settings.metadata)), settings)
    for part in parts:
        mapped.check(part)
    return mapped


def _same_names(kind: SetKind, given: set[str], there: Sequence[str]) -> list[str]:
    """Columns that need no mapping, unless another that stands in their place is mapped."""
    instead = {column.name: column.instead_of or column.name for column in kind.columns}
    taken = {instead[name] for name in given}
    return [name for name in there if name in instead and instead[name] not in taken]


def _told(part: Part) -> str:
    """A file and its columns, for a message."""
    names = [f"{name:.40}" for name in part.columns]
    hint = " (without a row of names, it needs `header`)" if part.names_its_columns else ""
    return f"{part.name}, which has the columns {names}{hint}"
