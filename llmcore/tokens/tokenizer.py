"""A byte-level BPE tokenizer: trained here, kept as Hugging Face files, loaded by anyone's `AutoTokenizer`."""

import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from llmcore.errors import ConfigError
from llmcore.storage import Folder

__all__ = [
    "END_OF_TEXT",
    "PAD",
    "SPECIAL_TOKENS",
    "encode_documents",
    "hugging_face_files",
    "load_tokenizer",
    "train_tokenizer",
]

END_OF_TEXT = "<|endoftext|>"
PAD = "<|pad|>"
_NAMED = [END_OF_TEXT, PAD, "<|unk|>", "<|mask|>", "<|cls|>", "<|sep|>"]
_INFILLING = ["<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>"]
_CHAT = ["<|im_start|>", "<|im_end|>"]
_SENTINELS = [f"<|extra_id_{number}|>" for number in range(32)]
_NUM_SPECIAL = 64
_WITH_USE = [*_NAMED, *_INFILLING, *_CHAT, *_SENTINELS]

SPECIAL_TOKENS = [*_WITH_USE, *(f"<|reserved_{number}|>" for number in range(_NUM_SPECIAL - len(_WITH_USE)))]
"""The ids 0 … 63, whatever the vocabulary: end of text, padding, masks, infilling, chat, sentinels, and spare ones."""


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """Byte-level BPE (Sennrich et al., 2016; Radford et al., 2019) of `vocab_size` entries, special tokens included.

    The same texts, in whatever order, give the same tokenizer. A pair seen once is not merged.

    Raises:
        ConfigError: the texts do not have so many entries to learn; the message has both numbers.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        special_tokens=SPECIAL_TOKENS,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    reached = tokenizer.get_vocab_size()
    if reached != vocab_size:
        raise ConfigError(
            f"tokenizer.vocab_size={vocab_size} is larger than the train split can fill: it has {reached} entries, "
            f"special tokens included; set it to {reached} or less, or give more text"
        )
    return tokenizer


def encode_documents(tokenizer: Tokenizer, texts: list[str]) -> list[list[int]]:
    """Ids of each text, without an end; a special token written out in a text stays text."""
    tokenizer.encode_special_tokens = True
    return [encoding.ids for encoding in tokenizer.encode_batch_fast(texts, add_special_tokens=False)]


def hugging_face_files(tokenizer: Tokenizer, sequence_length: int) -> dict[str, bytes]:
    """The files of a Hugging Face tokenizer folder, by name."""
    from transformers import PreTrainedTokenizerFast

    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=END_OF_TEXT,
        eos_token=END_OF_TEXT,
        pad_token=PAD,
        unk_token="<|unk|>",
        mask_token="<|mask|>",
        cls_token="<|cls|>",
        sep_token="<|sep|>",
        model_max_length=sequence_length,
        clean_up_tokenization_spaces=False,
    )
    with tempfile.TemporaryDirectory() as folder:
        wrapped.save_pretrained(folder)
        return {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())}


def load_tokenizer(folder: Folder) -> Any:
    """The tokenizer of a folder as a transformers tokenizer. Raises StorageError."""
    from transformers import AutoTokenizer

    with tempfile.TemporaryDirectory() as local:
        for name in folder.names():
            Path(local, name).write_bytes(folder.read_bytes(name))
        return AutoTokenizer.from_pretrained(local)
