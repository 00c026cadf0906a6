"""Reading a corpus: the rows of its shards, whatever their format, as tables of documents."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from llmcore.config.prepare import ChatSettings, ShardFormat, TextUnit
from llmcore.config.template import columns_in, is_template
from llmcore.corpus.chat import MessagesError, conversations
from llmcore.corpus.formats import format_of
from llmcore.corpus.shards import Shard
from llmcore.corpus.template import rendered
from llmcore.errors import BadShardError

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["DocumentReader"]


@dataclass(frozen=True)
class DocumentReader:
    """Reads the shards of one source into tables of documents.

    Attributes:
        source: the source's name; ids begin with it.
        number: the source's number, which documents carry.
        text: the column of the text, or a template of columns.
        key: the column of the split key, or None.
        stratum: the column within whose values splits are balanced, or None.
        fields: further columns that are wanted, as text (labels, and what they are chosen by).
        absent: those of `fields` that this source does not have; they are null.
        format: of all its shards; None where their names tell it.
        unit: what a document is in a file of plain text.
        chat: how conversations become text, where the documents are some.
        metadata: columns that are kept beside the tokens.
    """

    source: str
    number: int
    text: str
    key: str | None = None
    stratum: str | None = None
    fields: tuple[str, ...] = ()
    absent: frozenset[str] = frozenset()
    format: ShardFormat | None = None
    unit: TextUnit = "file"
    chat: ChatSettings | None = None
    metadata: tuple[str, ...] = ()

    def schema(self) -> "pa.Schema":
        """Columns of the tables: those of a document, and `field.<name>`.

        `id`, `text`, `key`, `stratum`; `language`, null until cleaning finds it; `source`, `shard`, `row`, where it was
        read; `passage`, its number in the document that it was split from (all of those have one id); and `metadata`,
        the columns that are kept as one JSON object of texts, null where there are none.
        """
        import pyarrow as pa

        strings = ["id", "text", "key", "stratum", "language", "metadata", *(f"field.{name}" for name in self.fields)]
        numbers = [("source", pa.int16()), ("shard", pa.int32()), ("row", pa.int64()), ("passage", pa.int32())]
        return pa.schema([*((name, pa.string()) for name in strings), *numbers])

    def read(self, shard: Shard, shard_number: int) -> Iterator["pa.Table"]:
        """A shard's documents in its order, some thousand in a table. A column `id` names them, else shard and row do.

        Raises ShardError that names the shard, and the row where it is known.
        """
        import pyarrow as pa

        row = 0
        shard_format = format_of(shard.url, self.format, self.unit, shard.name)
        for found in shard_format.tables(shard.url, self._wanted(), () if self.chat else columns_in(self.text)):
            columns = found if shard.max_documents is None else found.slice(0, shard.max_documents - row)
            if columns.num_rows == 0 < found.num_rows:
                return
            num_rows = columns.num_rows
            rows = range(row, row + num_rows)
            names = columns["id"].to_pylist() if "id" in columns.column_names else [None] * num_rows
            made = {
                "id": [f"{self.source}/{name or f'{shard.name}:{at}'}" for name, at in zip(names, rows, strict=True)],
                "source": [self.number] * num_rows,
                "shard": [shard_number] * num_rows,
                "row": rows,
                "passage": [0] * num_rows,
                "language": [None] * num_rows,
                "metadata": self._kept(columns),
            }
            if self.chat is not None:
                made["text"] = self._conversations(shard, row, columns[self.chat.messages])
            elif is_template(self.text):
                made["text"] = rendered(self.text, columns)
            taken = {"text": self.text, "key": self.key, "stratum": self.stratum}
            taken |= {f"field.{name}": None if name in self.absent else name for name in self.fields}
            schema = self.schema()
            arrays = [
                pa.array(made[name], schema.field(name).type)
                if name in made
                else columns[taken[name]].combine_chunks()
                if taken[name] is not None
                else pa.nulls(num_rows, pa.string())
                for name in schema.names
            ]
            yield pa.Table.from_arrays(arrays, schema=schema)
            row += num_rows

    def first(self, shards: Iterable[Shard], max_documents: int, *, pass_bad: bool = False) -> Iterator[Shard]:
        """The shards, the last of them in part, that have the first so many documents; they are read to be counted.

        Raises ShardError. With `pass_bad` a bad shard has no documents, and is among them.
        """
        for shard in shards:
            limited = replace(shard, max_documents=max_documents)
            try:
                num_documents = sum(table.num_rows for table in self.read(limited, 0))
            except BadShardError:
                if not pass_bad:
                    raise
                num_documents = 0
            yield limited if num_documents == max_documents else shard
            max_documents -= num_documents
            if max_documents == 0:
                return

    def _conversations(self, shard: Shard, first_row: int, messages: "pa.ChunkedArray") -> list[str | None]:
        assert self.chat is not None
        try:
            return list(conversations(self.chat, messages.to_pylist()))
        except MessagesError as error:
            where = f"row {first_row + error.row}: {self.chat.messages}"
            raise BadShardError(f"{shard.url}: {where} {error}") from error

    def _kept(self, columns: "pa.Table") -> list[str | None]:
        """The metadata of each row."""
        if not self.metadata:
            return [None] * columns.num_rows
        return [json.dumps(row, ensure_ascii=False) for row in columns.select(list(self.metadata)).to_pylist()]

    def _wanted(self) -> list[str]:
        """Columns that every shard must have."""
        wanted = [*([self.chat.messages] if self.chat else columns_in(self.text)), self.key, self.stratum]
        wanted += [*self.metadata, *(name for name in self.fields if name not in self.absent)]
        return list(dict.fromkeys(name for name in wanted if name is not None))
