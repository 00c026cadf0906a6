"""The documents of rows, each with a key of its own, to be taken apart."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from llmcore.corpus.hashing import UInt64s
from llmcore.objectives.chance import numbers, row_keys
from llmcore.objectives.rows import token_matrix
from llmcore.tokens.tokenizer import SpecialIds

__all__ = ["Document", "documents_of"]

Int64s = npt.NDArray[np.int64]


class Document(NamedTuple):
    """A piece of a row: what begins it and what ends it, each [0 or 1], the tokens between, and its key (one number).

    A document that did not fit into one row is several pieces, of which the first begins and the last ends.
    """

    begin: Int64s
    body: Int64s
    end: Int64s
    key: UInt64s


def documents_of(rows: pa.Table, special: SpecialIds, seed: int) -> Iterator[list[Document]]:
    """The documents of each row of a table of token shards, keyed by (seed, position in the run, place in the row)."""
    keys = row_keys(seed, rows["position"].to_numpy())
    for row, lengths, key in zip(token_matrix(rows), rows["document_lengths"].to_pylist(), keys, strict=True):
        pieces = np.split(row, np.cumsum(lengths))[:-1]
        yield [
            Document(*_framed(piece, special), own)
            for piece, own in zip(pieces, numbers(key[None], len(pieces))[0], strict=True)
        ]


def _framed(piece: Int64s, special: SpecialIds) -> tuple[Int64s, Int64s, Int64s]:
    first = int(len(piece) > 0 and piece[0] == special.begin)
    last = len(piece) - int(len(piece) > first and piece[-1] == special.end)
    return piece[:first], piece[first:last], piece[last:]
