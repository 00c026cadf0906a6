"""A text, or a pair of texts, as a model with a head reads it: framed, and cut so that it fits."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from llmcore.tasks.base import Reader

__all__ = ["FramedText", "framed_texts", "framing_tokenizer"]


class FramedText(NamedTuple):
    """A text's tokens with all that frames them, and where its second text begins; 0: there is none."""

    tokens: list[int]
    second: int


def framed_texts(
    reader: Reader, texts: Sequence[str], pairs: Sequence[str] | None, max_tokens: int
) -> tuple[list[FramedText], int]:
    """Texts in at most so many tokens each, and how many were cut; of a pair, the longer one is cut first.

    A text is its tokens and the end-of-text token, as in pre-training; where the tokenizer frames texts, as BERT's
    does, its class token stands before them. A second text follows the first one's end, and has an end of its own. A
    special token written out in a text stays text.
    """
    framed, num_truncated = [], 0
    room = max_tokens - len(reader.begin) - 1
    firsts = reader.tokens(texts)
    others = reader.tokens(pairs) if pairs is not None else [None] * len(firsts)
    for first, other in zip(firsts, others, strict=True):
        if other is None:
            kept, second, tail = first[:room], 0, [reader.end]
            num_truncated += len(first) > room
        else:
            kept, kept_other = _cut_pair(first, other, room - 1)
            second = len(reader.begin) + len(kept) + 1
            tail = [reader.end, *kept_other, reader.end]
            num_truncated += len(kept) + len(kept_other) < len(first) + len(other)
        framed.append(FramedText([*reader.begin, *kept, *tail], second))
    return framed, num_truncated


def framing_tokenizer(reader: Reader) -> Any:
    """The reader's tokenizer, which frames a text, and a pair of texts, as `framed_texts` does.

    One that is not fast goes on framing as it does.
    """
    from tokenizers import processors

    tokenizer = reader.tokenizer
    if not tokenizer.is_fast:
        return tokenizer
    begin, [end] = tokenizer.convert_ids_to_tokens(reader.begin), tokenizer.convert_ids_to_tokens([reader.end])
    single = [*begin, "$A", end]
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=single,
        pair=[*single, "$B:1", f"{end}:1"],
        special_tokens=[*zip(begin, reader.begin, strict=True), (end, reader.end)],
    )
    return tokenizer


def _cut_pair(first: list[int], second: list[int], room: int) -> tuple[list[int], list[int]]:
    """Both, cut to so many tokens together: the longer one down to the length of the other, then both alike."""
    if len(first) + len(second) <= room:
        return first, second
    half = room // 2
    kept = room - len(second) if len(second) <= half else min(len(first), room - half)
    return first[:kept], second[: room - min(kept, len(first))]
