"""Tokenizers: trained here or found, kept as Hugging Face files, loaded by anyone's `AutoTokenizer`."""

import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from llmcore.errors import ConfigError
from llmcore.storage import Folder, Manifest, content_hash, folder_at
from llmcore.tokens.vetting import vet_files

__all__ = [
    "END_OF_TEXT",
    "OWN_BEGIN",
    "OWN_IDS",
    "PAD",
    "SPECIAL_TOKENS",
    "VOCABULARY_FILES",
    "Algorithm",
    "FoundTokenizer",
    "SpecialIds",
    "encode_documents",
    "find_tokenizer",
    "hugging_face_files",
    "load_tokenizer",
    "tokenizer_files",
    "tokenizer_hash",
    "train_tokenizer",
]

Algorithm = Literal["bpe", "wordpiece", "unigram"]

END_OF_TEXT = "<|endoftext|>"
PAD = "<|pad|>"
UNKNOWN = "<|unk|>"
_NAMED = [END_OF_TEXT, PAD, UNKNOWN, "<|mask|>", "<|cls|>", "<|sep|>"]
_INFILLING = ["<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>"]
_CHAT = ["<|im_start|>", "<|im_end|>"]
_SENTINELS = [f"<|extra_id_{number}|>" for number in range(32)]
_NUM_SPECIAL = 64
_WITH_USE = [*_NAMED, *_INFILLING, *_CHAT, *_SENTINELS]

_TOKENIZER_FILES = (".json", ".txt", ".model", ".jinja")
_WHOLE = "tokenizer.json"
"""The file that says all of how a text becomes ids, where it is there."""
VOCABULARY_FILES = {
    _WHOLE,
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
}
"""What a folder with a tokenizer has, one or several of them."""

SPECIAL_TOKENS = [*_WITH_USE, *(f"<|reserved_{number}|>" for number in range(_NUM_SPECIAL - len(_WITH_USE)))]
"""The ids 0 … 63, whatever the vocabulary: end of text, padding, masks, infilling, chat, sentinels, and spare ones."""


class SpecialIds(NamedTuple):
    """Ids that rows need: what ends a document, what fills the rest of a row, and what begins a document, if any."""

    end: int
    pad: int
    begin: int | None = None


CLASS = "<|cls|>"
OWN_IDS = SpecialIds(SPECIAL_TOKENS.index(END_OF_TEXT), SPECIAL_TOKENS.index(PAD))
"""Of tokenizers that are trained here."""
OWN_BEGIN = SPECIAL_TOKENS.index(CLASS)
"""What begins their documents, where something does."""


def train_tokenizer(texts: Iterable[str], vocab_size: int, algorithm: Algorithm = "bpe") -> Tokenizer:
    """A tokenizer of `vocab_size` entries, special tokens included.

    The same texts, in whatever order, give the same BPE (a pair seen once is not merged).

    Args:
        texts: to learn from.
        vocab_size: entries.
        algorithm: `bpe` on bytes (Sennrich et al., 2016; Radford et al., 2019), `wordpiece` on text in lower case
            without accents (Schuster and Nakajima, 2012; Devlin et al., 2019), `unigram` on pieces with their blanks
            (Kudo, 2018).

    Raises:
        ConfigError: the texts do not have so many entries to learn; the message has both numbers.
    """
    tokenizer, trainer = _UNTRAINED[algorithm](vocab_size)
    tokenizer.train_from_iterator(texts, trainer)
    reached = tokenizer.get_vocab_size()
    if reached != vocab_size:
        raise ConfigError(
            f"tokenizer.vocab_size={vocab_size} is larger than the train split can fill: it has {reached} entries, "
            f"special tokens included; set it to {reached} or less, or give more text"
        )
    return tokenizer


def _untrained_bpe(vocab_size: int) -> tuple[Tokenizer, trainers.Trainer]:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    return tokenizer, trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        special_tokens=SPECIAL_TOKENS,
        initial_alphabet=alphabet,
        show_progress=False,
    )


def _untrained_wordpiece(vocab_size: int) -> tuple[Tokenizer, trainers.Trainer]:
    tokenizer = Tokenizer(models.WordPiece(unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    return tokenizer, trainers.WordPieceTrainer(
        vocab_size=vocab_size, special_tokens=SPECIAL_TOKENS, show_progress=False
    )


def _untrained_unigram(vocab_size: int) -> tuple[Tokenizer, trainers.Trainer]:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    return tokenizer, trainers.UnigramTrainer(
        vocab_size=vocab_size, special_tokens=SPECIAL_TOKENS, unk_token=UNKNOWN, show_progress=False
    )


_UNTRAINED: dict[Algorithm, Callable[[int], tuple[Tokenizer, trainers.Trainer]]] = {
    "bpe": _untrained_bpe,
    "wordpiece": _untrained_wordpiece,
    "unigram": _untrained_unigram,
}


class FoundTokenizer(NamedTuple):
    """A tokenizer that was not trained here: itself, its special ids, and its files by name."""

    tokenizer: Tokenizer
    special: SpecialIds
    files: dict[str, bytes]


def tokenizer_files(url: str) -> dict[str, bytes]:
    """Files of a Hugging Face folder that may be its tokenizer's, by name. Raises ConfigError where there is none."""
    folder = folder_at(url)
    names = [name for name in folder.names() if name.endswith(_TOKENIZER_FILES) and not name.endswith(".index.json")]
    if not names:
        raise ConfigError(f"tokenizer.folder={url!r} holds no tokenizer: give a Hugging Face folder")
    return {name: folder.read_bytes(name) for name in names}


def find_tokenizer(url: str, *, begin: bool = False, new_tokens: Sequence[str] = ()) -> FoundTokenizer:
    """The tokenizer of a Hugging Face folder; with `begin`, documents begin with its class token, or begin of text.

    With `new_tokens` it has these entries, too, after its own, and finds them in texts.

    Raises:
        ConfigError: there is none, or it has nothing that ends, or begins, a text, or one of the new entries already,
            or wants files or code from elsewhere; the message has the URL.
    """
    vet_files(folder_at(url), f"tokenizer.folder={url!r}")
    files = tokenizer_files(url)
    try:
        loaded = _loaded(files)
        backend = loaded.backend_tokenizer
        backend.no_padding()
        backend.no_truncation()
    except Exception as error:  # transformers has an error of every kind for what is no tokenizer
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ConfigError(
            f"tokenizer.folder={url!r} holds no tokenizer ({reason}): give a Hugging Face folder"
        ) from error
    end = loaded.eos_token_id if loaded.eos_token_id is not None else loaded.sep_token_id
    if end is None:
        raise ConfigError(f"tokenizer.folder={url!r} has neither an end of text nor a separator: documents need one")
    pad = loaded.pad_token_id if loaded.pad_token_id is not None else end
    first = loaded.cls_token_id if loaded.cls_token_id is not None else loaded.bos_token_id
    if begin and first is None:
        raise ConfigError(f"tokenizer.folder={url!r} has neither a class token nor a begin of text: no begin_documents")
    if new_tokens:
        if known := sorted(set(new_tokens) & loaded.get_vocab().keys()):
            raise ConfigError(f"tokenizer.new_tokens: {known} are entries of {url!r} already: leave them out")
        loaded.add_tokens(list(new_tokens))
        files = _saved(loaded)
    return FoundTokenizer(loaded.backend_tokenizer, SpecialIds(end, pad, first if begin else None), files)


def encode_documents(tokenizer: Tokenizer, texts: list[str], *, special: bool = False) -> list[list[int]]:
    """Ids of each text, without an end; a special token written out in a text stays text, unless `special`."""
    tokenizer.encode_special_tokens = not special
    return [encoding.ids for encoding in tokenizer.encode_batch_fast(texts, add_special_tokens=False)]


def hugging_face_files(
    tokenizer: Tokenizer, sequence_length: int, *, begin: bool = False, token_types: bool = False
) -> dict[str, bytes]:
    """The files of a Hugging Face tokenizer folder, by name.

    With `begin` it frames texts as documents are framed, by the class token and the end of text; else it adds nothing.
    With `token_types` it says which of a pair's tokens are the second text's, as a model of sentence pairs needs.
    """
    from transformers import PreTrainedTokenizerFast

    if begin:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{CLASS} $A {END_OF_TEXT}",
            pair=f"{CLASS} $A {END_OF_TEXT} $B:1 {END_OF_TEXT}:1",
            special_tokens=[(CLASS, OWN_BEGIN), (END_OF_TEXT, OWN_IDS.end)],
        )
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=END_OF_TEXT,
        eos_token=END_OF_TEXT,
        pad_token=PAD,
        unk_token=UNKNOWN,
        mask_token="<|mask|>",
        cls_token=CLASS,
        sep_token="<|sep|>",
        model_max_length=sequence_length,
        clean_up_tokenization_spaces=False,
        model_input_names=["input_ids", *(["token_type_ids"] if token_types else []), "attention_mask"],
    )
    return _saved(wrapped)


def tokenizer_hash(tokens: Manifest) -> str:
    """Of what decides, in published token shards, which ids a text gets, and which stand around it.

    What else is said of a tokenizer does not count, the length of a row for example.
    """
    files = {name.removeprefix("tokenizer/"): entry.sha256 for name, entry in tokens.files.items()}
    read = files.get(_WHOLE) or {name: files[name] for name in VOCABULARY_FILES & files.keys()}
    return content_hash(read, tokens.about["special_ids"])


_READ = (".json", ".txt", ".model", ".jinja")
"""Endings of a tokenizer's files, and of the config that says whose it is."""


def load_tokenizer(folder: Folder) -> Any:
    """The tokenizer of a folder as a transformers tokenizer; weights beside it are not read. Raises StorageError."""
    return _loaded({name: folder.read_bytes(name) for name in folder.names() if name.endswith(_READ)})


def _saved(tokenizer: Any) -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        return {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())}


def _loaded(files: dict[str, bytes]) -> Any:
    from transformers import AutoTokenizer

    with tempfile.TemporaryDirectory() as local:
        for name, data in files.items():
            Path(local, name).write_bytes(data)
        return AutoTokenizer.from_pretrained(local, trust_remote_code=False)
