"""Documents whose middle stands last, so that a model that writes from left to right learns to fill one in."""

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from llmcore.config.corruption import InfillingSettings
from llmcore.models.packed import PackedBatch
from llmcore.objectives.causal_lm import CausalLM
from llmcore.objectives.chance import numbers, uniform
from llmcore.objectives.documents import Document, documents_of
from llmcore.tokens.marks import InfillingMarks
from llmcore.tokens.tokenizer import SpecialIds

__all__ = ["FillInTheMiddle", "taken_apart"]

Int64s = npt.NDArray[np.int64]


def taken_apart(document: Document, settings: InfillingSettings, marks: InfillingMarks) -> Int64s:
    """A document, or its parts by Bavarian et al. (2022), section 3, cut at two places that are drawn alike.

    PSM is `<prefix> … <suffix> … <middle> …`; SPM is `<prefix> <suffix> … <middle> …`, and there the prefix comes right
    before the middle, which is one text then (the paper's second variant). What begins and ends the document stays.
    """
    begin, body, end, key = document
    drawn = numbers(key, 4)
    chosen, order = uniform(drawn[:2])
    if chosen >= settings.share:
        return np.concatenate([begin, body, end])
    first, second = sorted(int(number % np.uint64(len(body) + 1)) for number in drawn[2:])
    prefix, middle, suffix = np.split(body, [first, second])
    parts: list[Int64s | list[int]]
    if order < settings.suffix_first:
        parts = [[marks.prefix, marks.suffix], suffix, [marks.middle], prefix, middle]
    else:
        parts = [[marks.prefix], prefix, [marks.suffix], suffix, [marks.middle], middle]
    return np.concatenate([begin, *parts, end]).astype(np.int64)


class FillInTheMiddle(CausalLM):
    """The autoregressive objective on documents of which some are taken apart; all their tokens are targets."""

    num_extra_positions = len(InfillingMarks._fields)

    def __init__(self, settings: InfillingSettings, marks: InfillingMarks, special: SpecialIds, seed: int) -> None:
        self._settings = settings
        self._marks = marks
        self._special = special
        self._seed = seed

    def micro_batches(self, rows: pa.Table, num_parts: int, size: int) -> list[PackedBatch]:
        """Rows of token shards as `num_parts` micro batches, each of the documents of at most `size` rows end to end.

        A document may be longer than it was, so rows are not kept; nothing is cut.
        """
        documents = list(documents_of(rows, self._special, self._seed))
        parts = [documents[part * size : (part + 1) * size] for part in range(num_parts)]
        return [self._end_to_end([document for row in part for document in row]) for part in parts]

    def _end_to_end(self, documents: list[Document]) -> PackedBatch:
        if not documents:  # a token of padding, so that every rank has as many micro batches
            return PackedBatch.of_rows(torch.full((1, 1), self._special.pad), [[]])
        return PackedBatch.of_documents(
            [taken_apart(document, self._settings, self._marks).tolist() for document in documents]
        )
