"""From documents to rows of tokens, and what rows of tokens hold."""

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice, pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from llmcore.config.prepare import PackingSettings
from llmcore.tokens.encoder import Encoder
from llmcore.tokens.packing import Piece, concatenate, cut, pack, rows_of
from llmcore.tokens.pairs import FRAME, framed, sentence_pairs
from llmcore.tokens.schema import ALONE, FOLLOWS, RANDOM
from llmcore.tokens.sentences import sentences
from llmcore.tokens.tokenizer import OWN_IDS

__all__ = ["Packed", "PieceCounts", "RowCounts", "count_languages", "count_rows", "encoded_pieces"]
__all__ += ["encoded_sentences", "pack_documents"]

_BATCH = 256
"""Documents tokenized at once."""


class PieceCounts(NamedTuple):
    """Pieces whose second segment follows the first, those where it is another document's, and those without one."""

    follows: int
    random: int
    alone: int


class RowCounts(NamedTuple):
    """What some rows hold.

    Attributes:
        num_tokens: real ones, without padding.
        num_documents: documents that end in the rows; of sentence pairs, the pairs.
        targets: int64 [vocab_size]: how often each token is to be predicted. The loss is within pieces of documents, so
            the first token of a piece is never a target.
        by_source: int64 [num_sources]: real tokens of each source.
        pieces: documents, parts of them, or sentence pairs.
    """

    num_tokens: int
    num_documents: int
    targets: npt.NDArray[np.int64]
    by_source: npt.NDArray[np.int64]
    pieces: PieceCounts


class Packed(NamedTuple):
    """Rows of `row_schema`, numbered from 0; and int64 [documents]: the tokens of each document.

    A document's end and beginning are among its tokens, but not where rows are sentence pairs, which share them.
    """

    rows: pa.Table
    num_tokens: npt.NDArray[np.int64]


def pack_documents(
    documents: pa.Table, encoder: Encoder, packing: PackingSettings, *, special: bool = False, seed: int = 0
) -> Packed:
    """Documents as packed rows: a function of the documents' order, and, of sentence pairs, of the seed.

    Args:
        documents: with columns `text` and `source`.
        encoder: of the tokenizer; each document is its text's tokens and the end of text, after what begins it, if
            anything does.
        packing: length of the rows, and how they are filled.
        special: special tokens written out in the texts are meant: a template put them there.
        seed: of sentence pairs.
    """
    pieces: Iterable[Piece]
    if packing.sentence_pairs:
        encoded, sources = encoded_sentences(documents, encoder, special=special)
        num_tokens = [sum(map(len, document)) for document in encoded]
        found = sentence_pairs(encoded, packing.sequence_length - FRAME, seed)
        pieces = [framed(pair, sources[pair.document], encoder.special) for pair in found]
    else:
        pieces = list(encoded_pieces(documents, encoder, special=special))
        num_tokens = [len(piece.tokens) for piece in pieces]
    return Packed(_packed_rows(pieces, encoder, packing), np.array(num_tokens, np.int64))


def _packed_rows(documents: Iterable[Piece], encoder: Encoder, packing: PackingSettings) -> pa.Table:
    length = packing.sequence_length
    if packing.method == "concatenate":
        rows = concatenate(documents, length)
    else:
        rows = pack((piece for document in documents for piece in cut(document, length)), length, packing.window)
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


def encoded_sentences(
    documents: pa.Table, encoder: Encoder, *, special: bool = False
) -> tuple[list[list[npt.NDArray[np.int32]]], list[int]]:
    """Of each document the tokens of its sentences, those without any left out; and its source."""
    found: list[list[npt.NDArray[np.int32]]] = []
    for batch in documents.select(["text"]).to_batches(max_chunksize=_BATCH):
        texts = [sentences(text) for text in batch["text"].to_pylist()]
        ids, offsets = encoder.encode([sentence for of_document in texts for sentence in of_document], special=special)
        ends = pairwise(offsets)
        for of_document in texts:
            encoded = (ids[start:stop] for start, stop in islice(ends, len(of_document)))
            found.append([sentence for sentence in encoded if len(sentence)])
    return found, documents["source"].to_pylist()


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
    counted = np.zeros(len(PieceCounts._fields), dtype=np.int64)
    num_tokens = num_documents = 0
    for batch in rows.to_batches():
        num_rows = batch.num_rows
        ids = batch["tokens"].flatten().to_numpy().reshape(num_rows, -1)
        lengths = batch["document_lengths"]
        pieces = lengths.flatten().to_numpy().astype(np.int64)
        of_row = pc.list_parent_indices(lengths).to_numpy()
        sizes = np.bincount(of_row, weights=pieces, minlength=num_rows).astype(np.int64)
        # Where a piece ends, in its row: the sum of all lengths up to it, less those of the rows before.
        ends = pieces.cumsum() - (sizes.cumsum() - sizes)[of_row]
        real = np.arange(ids.shape[1]) < sizes[:, None]
        num_tokens += int(sizes.sum())
        num_documents += int((ids[of_row, ends - 1] == end).sum())
        real[of_row, ends - pieces] = False
        targets += np.bincount(ids[real], minlength=vocab_size)
        sources = batch["source"].flatten().to_numpy()
        by_source += np.bincount(sources, weights=pieces, minlength=num_sources).astype(np.int64)
        labels = batch["next_sentence"].flatten().to_numpy()
        counted += [(labels == label).sum() for label in (FOLLOWS, RANDOM, ALONE)]
    return RowCounts(num_tokens, num_documents, targets, by_source, PieceCounts(*counted.tolist()))
