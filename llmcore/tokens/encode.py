"""From documents to rows of tokens, and what rows of tokens hold."""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from llmcore.config.prepare import PackingSettings
from llmcore.tokens.encoder import Encoder
from llmcore.tokens.packing import Piece, concatenate, cut, pack, rows_of
from llmcore.tokens.tokenizer import OWN_IDS

__all__ = ["RowCounts", "count_languages", "count_rows", "encoded_pieces", "pack_documents", "pack_pieces"]

_BATCH = 256
"""Documents tokenized at once."""


class RowCounts(NamedTuple):
    """What some rows hold.

    Attributes:
        num_tokens: real ones, without padding.
        num_documents: documents that end in the rows.
        targets: int64 [vocab_size]: how often each token is to be predicted. The loss is within pieces of documents, so
            the first token of a piece is never a target.
        by_source: int64 [num_sources]: real tokens of each source.
    """

    num_tokens: int
    num_documents: int
    targets: npt.NDArray[np.int64]
    by_source: npt.NDArray[np.int64]


def pack_documents(
    documents: pa.Table, encoder: Encoder, packing: PackingSettings, *, special: bool = False
) -> pa.Table:
    """Documents as packed rows of `row_schema`, numbered from 0: a function of the documents' order.

    Args:
        documents: with columns `text` and `source`.
        encoder: of the tokenizer; each document is its text's tokens and the end of text, after what begins it, if
            anything does.
        packing: length of the rows, and how they are filled.
        special: special tokens written out in the texts are meant: a template put them there.
    """
    return pack_pieces(encoded_pieces(documents, encoder, special=special), encoder, packing)


def pack_pieces(documents: Iterable[Piece], encoder: Encoder, packing: PackingSettings) -> pa.Table:
    """The rows of documents that are encoded already."""
    length = packing.sequence_length
    if packing.method == "concatenate":
        rows = concatenate(documents, length)
    else:
        rows = pack(
            (piece for tokens, source in documents for piece in cut(tokens, source, length)), length, packing.window
        )
    return rows_of(list(rows), length, encoder.special.pad).to_table(encoder.vocab_size)


def encoded_pieces(documents: pa.Table, encoder: Encoder, *, special: bool = False) -> Iterator[Piece]:
    """Each document's tokens, its end and its beginning included, and its source."""
    end, _, begin = encoder.special
    for batch in documents.select(["text", "source"]).to_batches(max_chunksize=_BATCH):
        found = encoder.encode(batch["text"].to_pylist(), special=special)
        # An end after each document: room for it is made at once, for all of them.
        ids = np.insert(found.ids, found.offsets[1:], end)
        offsets = found.offsets + np.arange(len(found.offsets))
        if begin is not None:
            ids = np.insert(ids, offsets[:-1], begin)
            offsets = offsets + np.arange(len(offsets))
        for start, stop, source in zip(offsets, offsets[1:], batch["source"].to_pylist(), strict=False):
            yield Piece(ids[start:stop], source)


def count_languages(documents: pa.Table, num_tokens: pa.Array) -> dict[int, Counter[str]]:
    """By source, the tokens of documents in each language, given those of each document."""
    facts = pa.table(
        {
            "source": documents["source"],
            "language": pc.fill_null(documents["language"], "unknown"),
            "tokens": num_tokens,
        }
    )
    counts: dict[int, Counter[str]] = {}
    for group in facts.group_by(["source", "language"]).aggregate([("tokens", "sum")]).to_pylist():
        counts.setdefault(group["source"], Counter())[group["language"]] = group["tokens_sum"]
    return counts


def count_rows(rows: pa.Table, vocab_size: int, num_sources: int, end: int = OWN_IDS.end) -> RowCounts:
    """Count what rows of `row_schema` hold; `end` is the id that ends a document."""
    targets = np.zeros(vocab_size, dtype=np.int64)
    by_source = np.zeros(num_sources, dtype=np.int64)
    num_tokens = num_documents = 0
    for batch in rows.to_batches():
        num_rows = batch.num_rows
        ids = batch["tokens"].flatten().to_numpy().reshape(num_rows, -1)
        lengths = batch["document_lengths"]
        ends = lengths.flatten().to_numpy().astype(np.int64).cumsum()
        of_row = pc.list_parent_indices(lengths).to_numpy()
        sizes = np.bincount(of_row, weights=lengths.flatten().to_numpy(), minlength=num_rows).astype(np.int64)
        # Where a piece starts, in its row: the sum of all lengths before it, less those of the rows before.
        starts = ends - lengths.flatten().to_numpy() - (sizes.cumsum() - sizes)[of_row]
        real = np.arange(ids.shape[1]) < sizes[:, None]
        num_tokens += int(sizes.sum())
        num_documents += int((ids[real] == end).sum())
        real[of_row, starts] = False
        targets += np.bincount(ids[real], minlength=vocab_size)
        pieces, sources = lengths.flatten().to_numpy(), batch["source"].flatten().to_numpy()
        by_source += np.bincount(sources, weights=pieces, minlength=num_sources).astype(np.int64)
    return RowCounts(num_tokens, num_documents, targets, by_source)
