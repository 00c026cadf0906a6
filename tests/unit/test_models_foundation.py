"""A pre-training begins with the weights of a folder, whose vocabulary the tokens have, and maybe some entries more."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM

from llmcore.config.model import ModelSettings
from llmcore.errors import ConfigError
from llmcore.models.build import build_causal_lm, load_language_model, model_config
from llmcore.models.foundation import check_foundation, find_foundation, foundation_hash
from llmcore.models.packed import PackedBatch, hidden_states
from llmcore.storage import Folder
from llmcore.tokens.tokenizer import encode_documents, find_tokenizer, hugging_face_files, train_tokenizer
from tests.shared_data import DATA, needs_data, needs_encoder, real_encoder

TEXTS = [f"def read_{word}(self, path):\n    return the {word} of the path\n" for word in ("line", "file", "byte")] * 3
VOCAB_SIZE = 350


def write(folder: Path, files: dict[str, bytes]) -> Folder:
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return Folder(str(folder))


@pytest.fixture(scope="module")
def foundation(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    folder = tmp_path_factory.mktemp("foundation")
    settings = ModelSettings(family="gpt2", sizes={"n_embd": 32, "n_layer": 2, "n_head": 2})
    config = model_config(settings, vocab_size=VOCAB_SIZE, sequence_length=24, eos_id=0, pad_id=1)
    build_causal_lm(config, seed=3).save_pretrained(folder)  # type: ignore[operator]
    return write(folder, hugging_face_files(train_tokenizer(TEXTS, VOCAB_SIZE), 24))


def test_the_weights_are_those_of_the_folder(foundation: Folder) -> None:
    model = load_language_model("causal_lm", foundation.as_local(), vocab_size=VOCAB_SIZE, seed=0).eval()
    plain = AutoModelForCausalLM.from_pretrained(foundation.as_local()).eval()
    tokens = torch.arange(60, 80)
    ours = model.get_output_embeddings()(hidden_states(model, PackedBatch.of_documents([tokens.tolist()])))  # type: ignore[operator]
    assert torch.allclose(ours[0], plain(input_ids=tokens[None]).logits[0], atol=1e-5)


def test_new_tokens_are_found_in_texts_and_begin_near_the_mean(foundation: Folder, tmp_path: Path) -> None:
    found = find_tokenizer(foundation.url, new_tokens=["<|tool|>", "bytestream"])
    (ids,) = encode_documents(found.tokenizer, ["the bytestream<|tool|>"])
    assert ids[-2:] == [VOCAB_SIZE + 1, VOCAB_SIZE] and max(ids[:-2]) < VOCAB_SIZE
    check_foundation(foundation, "causal_lm", write(tmp_path, found.files), 24)
    load = [
        load_language_model("causal_lm", foundation.as_local(), vocab_size=VOCAB_SIZE + 2, seed=seed) for seed in (0, 0)
    ]
    first, second = (model.get_input_embeddings().weight for model in load)  # type: ignore[operator]
    assert torch.equal(first, second), "every rank has the same"
    old = AutoModelForCausalLM.from_pretrained(foundation.as_local()).get_input_embeddings().weight
    assert first.shape == (VOCAB_SIZE + 2, 32) and torch.equal(first[:VOCAB_SIZE], old)
    assert torch.allclose(first[VOCAB_SIZE:], old.mean(0), atol=0.01)
    assert load[0].get_output_embeddings().weight is first  # type: ignore[operator]


def test_an_entry_that_is_there_is_not_new(foundation: Folder) -> None:
    with pytest.raises(ConfigError, match=r"new_tokens: \['<\|mask\|>'\] are entries of"):
        find_tokenizer(foundation.url, new_tokens=["<|mask|>"])


def test_tokens_of_another_vocabulary_are_refused_with_the_numbers(foundation: Folder, tmp_path: Path) -> None:
    other = write(tmp_path / "other", hugging_face_files(train_tokenizer(TEXTS, 340), 24))
    with pytest.raises(ConfigError, match=r"350 entries, of which \d+ are not, .* among the 340 of the tokens"):
        check_foundation(foundation, "causal_lm", other, 24)


def test_a_model_without_a_tokenizer_takes_tokens_of_as_many_entries(foundation: Folder, tmp_path: Path) -> None:
    names = ("config.json", "model.safetensors")
    bare = write(tmp_path / "bare", {name: foundation.read_bytes(name) for name in names})
    check_foundation(bare, "causal_lm", foundation, 24)
    other = write(tmp_path / "other", hugging_face_files(train_tokenizer(TEXTS, 340), 24))
    with pytest.raises(ConfigError, match="has 350 entries, and the tokens 340; no tokenizer"):
        check_foundation(bare, "causal_lm", other, 24)


def test_a_model_of_another_kind_or_with_too_few_positions_is_refused(foundation: Folder) -> None:
    with pytest.raises(ConfigError, match=r"is a gpt2; objective=masked_lm trains bert"):
        check_foundation(foundation, "masked_lm", foundation, 24)
    with pytest.raises(ConfigError, match=r"has 24 positions, fewer than the 27 .*: prepare rows of 3 tokens less"):
        check_foundation(foundation, "fill_in_the_middle", foundation, 27)


def test_the_hash_is_of_every_byte_that_is_read(foundation: Folder, tmp_path: Path) -> None:
    files = {name: foundation.read_bytes(name) for name in foundation.names()}
    copy = write(tmp_path, files)
    assert foundation_hash(copy) == foundation_hash(foundation)
    write(tmp_path, {"README.md": b"# Nothing"})
    assert foundation_hash(copy) == foundation_hash(foundation)
    weights = bytearray(files["model.safetensors"])
    weights[-1] ^= 1
    write(tmp_path, {"model.safetensors": bytes(weights)})
    assert foundation_hash(copy) != foundation_hash(foundation)


@pytest.mark.parametrize("names", [[], ["config.json"], ["config.json", "pytorch_model.bin"]])
def test_a_folder_without_safetensors_is_refused(tmp_path: Path, names: list[str]) -> None:
    write(tmp_path, dict.fromkeys(names, b"{}"))
    with pytest.raises(ConfigError, match=r"no config\.json with \*\.safetensors beside it"):
        find_foundation(str(tmp_path))


@needs_encoder
@needs_data
def test_a_real_encoder_is_loaded_and_gets_a_head_and_a_new_entry(tmp_path: Path) -> None:
    folder = find_foundation(str(real_encoder()))
    tokenizer = Folder(str(DATA / "bert_tokenizer"))
    check_foundation(folder, "masked_lm", tokenizer, 512)
    model = load_language_model("masked_lm", folder.as_local(), vocab_size=30523, seed=0).eval()
    plain = AutoModelForMaskedLM.from_pretrained(folder.as_local()).eval()
    documents = [[101, 7592, 2088, 102], [101, 2023, 2003, 1037, 6251, 102]]
    ours = hidden_states(model, PackedBatch.of_documents(documents))[0]
    alone = [plain.bert(input_ids=torch.tensor([document])).last_hidden_state[0] for document in documents]
    assert torch.allclose(ours, torch.cat(alone), atol=1e-5)
    assert model.get_output_embeddings().weight.shape[0] == 30523  # type: ignore[operator]


def test_new_tokens_are_encoded_by_prepare_and_may_be_masked(foundation: Folder, tmp_path: Path) -> None:
    from jobs.runtime.token_rows import make_tokenizer
    from llmcore.config.prepare import TokenizerSettings
    from llmcore.tokens.vocabulary import Vocabulary

    settings = TokenizerSettings(folder=foundation.url, new_tokens=["<|tool|>", "bytestream"])
    ready = make_tokenizer(settings, TEXTS)
    assert ready.vocab_size == VOCAB_SIZE + 2 and ready.files is not None
    encoded = ready.load().encode(["the bytestream of <|tool|>, not <|mask|>"])
    assert {VOCAB_SIZE, VOCAB_SIZE + 1} <= set(encoded.ids.tolist())
    assert 3 not in encoded.ids, "what is special elsewhere stays text"
    vocabulary = Vocabulary.of(write(tmp_path, ready.files).as_local())
    assert not vocabulary.is_special[VOCAB_SIZE:].any() and vocabulary.is_special[:64].all()


@pytest.mark.parametrize("new_tokens", [["a", "a"], [" "], ["a"]])
def test_new_tokens_without_a_folder_or_given_twice_are_refused(new_tokens: list[str]) -> None:
    from pydantic import ValidationError

    from llmcore.config.prepare import TokenizerSettings

    with pytest.raises(ValidationError, match="new_tokens="):
        TokenizerSettings(folder=None if new_tokens == ["a"] else "/model", new_tokens=new_tokens)
