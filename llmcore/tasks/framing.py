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
    does, its class token stands before them. A second text follows the first one's end (RoBERTa has two of them there),
    and has an end of its own. A special token written out in a text stays text.
    """
    framed, num_truncated = [], 0
    between = reader.between if pairs is not None else []
    room = max_tokens - len(reader.begin) - 1
    firsts = reader.tokens(texts)
    others = reader.tokens(pairs) if pairs is not None else [None] * len(firsts)
    for first, other in zip(firsts, others, strict=True):
        if other is None:
            kept, second, tail = first[:room], 0, [reader.end]
            num_truncated += len(first) > room
        else:
            kept, kept_other = _cut_pair(first, other, room - len(between))
            second = len(reader.begin) + len(kept) + len(between)
            tail = [*between, *kept_other, reader.end]
            num_truncated += len(kept) + len(kept_other) < len(first) + len(other)
        framed.append(FramedText([*reader.begin, *kept, *tail], second))
    return framed, num_truncated


def framing_tokenizer(reader: Reader) -> Any:
    """The reader's tokenizer, which frames a text, and a pair of texts, as `framed_texts` does.

    Where the model tells two kinds of tokens apart, a pair's second text has the second. A tokenizer that is not fast
    goes on framing as it does.
    """
    from tokenizers import processors

    tokenizer = reader.tokenizer
    if not tokenizer.is_fast:
        return tokenizer
    begin, [end] = tokenizer.convert_ids_to_tokens(reader.begin), tokenizer.convert_ids_to_tokens([reader.end])
    kind = int(getattr(reader.config, "type_vocab_size", 0) > 1)
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=[*begin, "$A", end],
        pair=[*begin, "$A", *([end] * len(reader.between)), f"$B:{kind}", f"{end}:{kind}"],
        special_tokens=[*zip(begin, reader.begin, strict=True), (end, reader.end)],
    )
    return tokenizer


def _cut_pair(first: list[int], second: list[int], room: int) -> tuple[list[int], list[int]]:
    """Both, cut to so many tokens together as `longest_first` of tokenizers does: the longer one, then both alike."""
    if len(first) + len(second) <= room:
        return first, second
    shorter = min(len(first), len(second), room // 2)
    of_first = shorter if len(first) <= len(second) else room - shorter
    return first[:of_first], second[: room - of_first]
