import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from llmcore.errors import ConfigError
from llmcore.storage import Folder
from llmcore.tokens.tokenizer import (
    OWN_BEGIN,
    OWN_IDS,
    SPECIAL_TOKENS,
    Algorithm,
    SpecialIds,
    encode_documents,
    find_tokenizer,
    hugging_face_files,
    load_tokenizer,
    train_tokenizer,
)
from tests.shared_data import DATA, needs_data

TEXTS = [f"def read_{word}(self, path):\n    return the {word} of the path\n" for word in ("line", "file", "byte")] * 3
VOCAB_SIZE = 350


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(TEXTS, VOCAB_SIZE)


def test_special_tokens_have_fixed_ids_at_the_front(tokenizer: Tokenizer) -> None:
    assert len(SPECIAL_TOKENS) == len(set(SPECIAL_TOKENS)) == 64
    assert [tokenizer.token_to_id(token) for token in SPECIAL_TOKENS] == list(range(64))
    assert SPECIAL_TOKENS[:4] == ["<|endoftext|>", "<|pad|>", "<|unk|>", "<|mask|>"]


def test_training_does_not_depend_on_the_order_of_texts(tokenizer: Tokenizer) -> None:
    assert train_tokenizer(reversed(TEXTS), VOCAB_SIZE).to_str() == tokenizer.to_str()


def test_a_vocabulary_that_the_texts_cannot_fill_says_how_far_they_go() -> None:
    with pytest.raises(ConfigError, match=r"vocab_size=5000 is larger .* has (\d+) entries") as raised:
        train_tokenizer(TEXTS, 5000)
    reached = int(str(raised.value).split(" has ")[1].split()[0])
    assert 320 < reached < 5000
    assert train_tokenizer(TEXTS, reached).get_vocab_size() == reached


@given(text=st.text())
@settings(deadline=None)
def test_any_unicode_comes_back_and_no_special_token_is_made(tokenizer: Tokenizer, text: str) -> None:
    (ids,) = encode_documents(tokenizer, [text])
    assert tokenizer.decode(ids, skip_special_tokens=False) == text
    assert all(number >= len(SPECIAL_TOKENS) for number in ids)


@pytest.mark.parametrize("token", SPECIAL_TOKENS[:12])
def test_a_special_token_written_out_in_a_text_stays_text(tokenizer: Tokenizer, token: str) -> None:
    (ids,) = encode_documents(tokenizer, [f"a {token} b"])
    assert min(ids) >= len(SPECIAL_TOKENS)
    assert tokenizer.decode(ids) == f"a {token} b"


def test_anyone_loads_it_and_encodes_alike(tokenizer: Tokenizer, tmp_path: Path) -> None:
    files = hugging_face_files(tokenizer, sequence_length=128)
    folder = Folder(str(tmp_path))
    for name, data in files.items():
        folder.write_bytes(name, data)
    loaded = load_tokenizer(folder)
    assert (loaded.eos_token, loaded.bos_token, loaded.pad_token) == ("<|endoftext|>", "<|endoftext|>", "<|pad|>")
    assert (loaded.eos_token_id, loaded.pad_token_id, loaded.mask_token_id) == (0, 1, 3)
    assert (loaded.model_max_length, len(loaded)) == (128, VOCAB_SIZE)
    texts = [*TEXTS, "é — <|pad|> \t\n  x"]
    ids = loaded(texts, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    assert ids == encode_documents(tokenizer, texts)
    assert loaded("<|im_start|>x", add_special_tokens=False)["input_ids"][0] == SPECIAL_TOKENS.index("<|im_start|>")
    assert json.loads(files["tokenizer_config.json"])["clean_up_tokenization_spaces"] is False


@pytest.mark.parametrize(("algorithm", "vocab_size"), [("wordpiece", 110), ("unigram", 94)])
def test_other_algorithms_keep_the_special_ids_and_the_words(
    tmp_path: Path, algorithm: Algorithm, vocab_size: int
) -> None:
    trained = train_tokenizer(TEXTS, vocab_size, algorithm)
    assert [trained.token_to_id(token) for token in SPECIAL_TOKENS] == list(range(64))
    (ids,) = encode_documents(trained, ["return the file"])
    assert trained.decode(ids) == "return the file" and min(ids) >= 64
    for name, data in hugging_face_files(trained, 32).items():
        (tmp_path / name).write_bytes(data)
    loaded = load_tokenizer(Folder(str(tmp_path)))
    assert loaded("return the file", add_special_tokens=False)["input_ids"] == ids
    assert loaded.mask_token_id == SPECIAL_TOKENS.index("<|mask|>")


def test_a_tokenizer_is_found_in_its_folder(tokenizer: Tokenizer, tmp_path: Path) -> None:
    for name, data in hugging_face_files(tokenizer, 32).items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    found = find_tokenizer(str(tmp_path))
    assert found.special == OWN_IDS and "model.safetensors" not in found.files
    assert encode_documents(found.tokenizer, TEXTS) == encode_documents(tokenizer, TEXTS)


@needs_data
@pytest.mark.parametrize(
    ("name", "special", "hello"),
    [("gpt2", SpecialIds(50256, 50256), [15496, 995]), ("bert", SpecialIds(102, 0), [7592, 2088])],
)
def test_well_known_tokenizers_are_found(name: str, special: SpecialIds, hello: list[int]) -> None:
    found = find_tokenizer(str(DATA / f"{name}_tokenizer"))
    assert found.special == special
    assert encode_documents(found.tokenizer, ["Hello world"]) == [hello]


@needs_data
@pytest.mark.parametrize(("name", "begin"), [("gpt2", 50256), ("bert", 101)])
def test_documents_begin_with_the_class_token_or_the_begin_of_text(name: str, begin: int) -> None:
    assert find_tokenizer(str(DATA / f"{name}_tokenizer"), begin=True).special.begin == begin


def test_a_tokenizer_whose_documents_have_a_beginning_frames_texts_alike(tokenizer: Tokenizer, tmp_path: Path) -> None:
    for name, data in hugging_face_files(Tokenizer.from_str(tokenizer.to_str()), 32, begin=True).items():
        (tmp_path / name).write_bytes(data)
    loaded = load_tokenizer(Folder(str(tmp_path)))
    (ids,) = encode_documents(tokenizer, ["the file"])
    assert loaded("the file")["input_ids"] == [OWN_BEGIN, *ids, OWN_IDS.end]
    assert loaded("the file", "the file", return_token_type_ids=True)["token_type_ids"][-1] == 1
    assert loaded("the file", add_special_tokens=False)["input_ids"] == ids


@pytest.mark.parametrize("files", [{}, {"tokenizer_config.json": "{}"}, {"tokenizer.json": "{"}])
def test_a_folder_without_a_tokenizer_is_named(tmp_path: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError, match=f"tokenizer.folder='{tmp_path}' holds no tokenizer"):
        find_tokenizer(str(tmp_path))
