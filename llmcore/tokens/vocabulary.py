"""What masks need to know of a tokenizer's entries."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from llmcore.errors import ConfigError

__all__ = ["Vocabulary"]

Bools = npt.NDArray[np.bool_]

_CONTINUES = "##"
"""What the entries of WordPiece begin with that go on with a word."""
_BEGINS = ("\N{LATIN CAPITAL LETTER G WITH DOT ABOVE}", "\N{LOWER ONE EIGHTH BLOCK}")
"""What stands for a blank in byte-level BPE, and in pieces: an entry that begins with it begins a word."""


@dataclass(frozen=True)
class Vocabulary:
    """The entries of a tokenizer.

    Attributes:
        mask_id: the mask token.
        is_special: bool [vocabulary]: ends, padding, masks: they are never guessed, and never stand in for others.
        begins_word: bool [vocabulary]: whether an entry begins a word, or is one by itself.
    """

    mask_id: int
    is_special: Bools
    begins_word: Bools

    @classmethod
    def of(cls, folder: Path) -> "Vocabulary":
        """Of a Hugging Face tokenizer folder. Raises ConfigError where it has no mask token."""
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        if tokenizer.mask_token_id is None:
            raise ConfigError("objective=masked_lm needs a tokenizer with a mask token: train one, or take BERT's")
        entries = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
        special = np.zeros(len(entries), bool)
        added = [number for number, token in tokenizer.added_tokens_decoder.items() if token.special]
        special[[*tokenizer.all_special_ids, *added]] = True
        if any(entry.startswith(_CONTINUES) for entry in entries):
            begins = [not entry.startswith(_CONTINUES) for entry in entries]
        else:
            begins = [entry.startswith(_BEGINS) or not entry[:1].isalnum() for entry in entries]
        return cls(tokenizer.mask_token_id, special, np.array(begins, bool) | special)
