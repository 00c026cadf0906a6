"""Very long documents as passages, which put together again are the document."""

from collections.abc import Iterator

__all__ = ["passages_of"]

_ENDS = ("\n\n", "\n", ". ", " ")


def passages_of(text: str, max_characters: int) -> Iterator[str]:
    """The passages of a text, each of at most `max_characters`.

    Each ends, in its second half, with the last paragraph there; where none ends there, with the last line, sentence or
    word; else it is full.
    """
    start = 0
    while len(text) - start > max_characters:
        stop = start + max_characters
        for end in _ENDS:
            found = text.rfind(end, start + max_characters // 2, stop)
            if found >= 0:
                stop = found + len(end)
                break
        yield text[start:stop]
        start = stop
    yield text[start:]
