"""Texts to ids, as fast as a library can where it has been seen to give the same ids as Hugging Face's tokenizers."""

from collections.abc import Iterable, Sequence
from importlib.metadata import version
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from llmcore.tokens.tokenizer import OWN_IDS, SPECIAL_TOKENS, SpecialIds, encode_documents

__all__ = ["Encoded", "Encoder", "EncoderName", "choose_encoder"]

EncoderName = Literal["gigatoken", "tokenizers"]

_PROBES = [
    *SPECIAL_TOKENS,
    f"a{SPECIAL_TOKENS[0]}b {SPECIAL_TOKENS[1]} c",
    "",
    " ",
    "\n\n \t x",
    "e\u0301\u00e9 \U0001f600 \u4e2d\u6587",
    "\x00\ufffd",
]
"""Texts that encoders are likely to differ on: special tokens written out (they stay text), blanks, odd characters."""


class Encoded(NamedTuple):
    """Ids of several texts: those of text i are `ids[offsets[i]:offsets[i + 1]]`, int32 and int64."""

    ids: npt.NDArray[np.int32]
    offsets: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def equals(self, other: "Encoded") -> bool:
        """Whether all ids of all texts are the same."""
        return np.array_equal(self.ids, other.ids) and np.array_equal(self.offsets, other.offsets)


class Encoder:
    """Encodes texts with a tokenizer, by the library that is named."""

    def __init__(self, tokenizer: Tokenizer, name: EncoderName, special: SpecialIds = OWN_IDS) -> None:
        self.name = name
        self.special = special
        self._tokenizer = tokenizer
        if name == "gigatoken":
            self._fast = {special_too: _gigatoken(tokenizer, special_too) for special_too in (False, True)}

    @property
    def vocab_size(self) -> int:
        """Entries of the tokenizer, special tokens included."""
        return int(self._tokenizer.get_vocab_size())

    @property
    def library(self) -> str:
        """Name and version of the library."""
        return f"{self.name} {version(self.name)}"

    def encode(self, texts: Sequence[str], *, special: bool = False) -> Encoded:
        """Ids of each text, without an end; a special token written out stays text, unless `special`."""
        if self.name == "gigatoken":
            rows = self._fast[special].encode_batch(list(texts), parallel=False).layout
            offsets = np.asarray(rows.offsets.data, dtype=np.int64)
            ids = np.asarray(rows.content.data)[offsets[0] : offsets[-1]]
            return Encoded(ids.astype(np.int32), offsets - offsets[0])
        encoded = encode_documents(self._tokenizer, list(texts), special=special)
        offsets = np.cumsum([0, *map(len, encoded)], dtype=np.int64)
        return Encoded(np.array([number for ids in encoded for number in ids], dtype=np.int32), offsets)


def choose_encoder(tokenizer: Tokenizer, texts: Iterable[str]) -> tuple[EncoderName, str | None]:
    """The fastest library that gives the ids of `tokenizers` on these texts and on some odd ones; and why not another.

    Args:
        tokenizer: as it will be used.
        texts: a sample of the corpus; all of them are encoded twice.
    """
    sample = [*_PROBES, *texts]
    try:
        fast = Encoder(tokenizer, "gigatoken")
    except Exception as error:  # a library in Rust: whatever it says of a tokenizer it does not know
        reason = str(error).strip().partition("\n")[0]  # Below it stands where in its own source it found that out.
        return "tokenizers", f"gigatoken cannot load this tokenizer ({reason or type(error).__name__})"
    reference = Encoder(tokenizer, "tokenizers")
    for special, texts_then in ((False, sample), (True, _PROBES)):
        expected, found = reference.encode(texts_then, special=special), fast.encode(texts_then, special=special)
        if not found.equals(expected):
            differing = sum(not np.array_equal(a, b) for a, b in zip(_rows(expected), _rows(found), strict=True))
            return "tokenizers", f"gigatoken gives other ids for {differing} of {len(texts_then)} texts"
    return "gigatoken", None


def _rows(encoded: Encoded) -> list[npt.NDArray[np.int32]]:
    return np.split(encoded.ids, encoded.offsets[1:-1])


def _gigatoken(tokenizer: Tokenizer, special: bool) -> Any:
    import json

    import gigatoken

    plain = json.loads(tokenizer.to_str())
    if not special:  # added tokens are found in texts; where they are to stay text, no text needs their ids
        plain["added_tokens"] = []
    return gigatoken.Tokenizer.from_json(json.dumps(plain))
