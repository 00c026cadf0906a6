"""What `pretrain` refuses before a worker is started."""

from pathlib import Path
from typing import Any

import pytest

from jobs.runtime.pretrain_checks import check_epochs, check_validation_sets
from jobs.runtime.pretrain_inputs import find_validation_sets
from llmcore.config.pretrain import PretrainConfig
from llmcore.errors import ConfigError, CorpusError
from llmcore.storage import Folder, publish
from llmcore.tokens.shards import KIND, TokenShards
from tests.tiny import write_tokens


def test_more_passes_over_a_source_than_it_may_have(tmp_path: Path) -> None:
    shards = TokenShards.open(write_tokens(Folder(str(tmp_path)), num_rows=40))
    (source,) = shards.about["mixture"]
    check_epochs(shards, num_steps=100, global_batch=8)
    source["max_epochs"] = 20
    check_epochs(shards, num_steps=100, global_batch=8)
    source["max_epochs"] = 19.5
    with pytest.raises(
        ConfigError, match=r"source made: 100 steps of 8 rows read it 20\.00 times, more than its max_epochs"
    ):
        check_epochs(shards, num_steps=100, global_batch=8)


def _config(**changes: Any) -> PretrainConfig:
    given = {"name": "a", "tokens": "t", "model": {"family": "gpt2"}, "train": {"num_steps": 1}}
    return PretrainConfig.model_validate(given | {"validation_sets": {"law": "court"}} | changes)


BERT = {"model": {"family": "bert"}, "objective": "masked_lm", "next_sentence": True}


def _shards(
    folder: Path,
    tokenizer: dict[str, bytes] | None = None,
    *,
    rows: int = 3,
    length: int = 32,
    pairs: bool = False,
    begin: int | None = None,
) -> TokenShards:
    """What is said of token shards; of their files, the tokenizer's alone are there."""
    about = {"sequence_length": length, "sentence_pairs": pairs, "splits": {"validation": {"num_rows": rows}}}
    about["special_ids"] = {"end": 0, "pad": 1, "begin": begin}
    with publish(Folder(str(folder)), KIND, about) as publication:
        for name, data in (tokenizer or {"tokenizer.json": b"the", "tokenizer_config.json": b"%d" % length}).items():
            publication.write_bytes(f"tokenizer/{name}", data)
    return TokenShards.open(Folder(str(folder)))


def test_a_further_set_with_the_same_tokenizer_and_shorter_rows_is_taken(tmp_path: Path) -> None:
    own, shorter = _shards(tmp_path / "own"), _shards(tmp_path / "law", length=8)
    assert (
        own.manifest.files["tokenizer/tokenizer_config.json"]
        != shorter.manifest.files["tokenizer/tokenizer_config.json"]
    )
    check_validation_sets({"law": shorter}, _config(), own)
    pairs = _shards(tmp_path / "pairs", pairs=True)
    check_validation_sets({"law": pairs}, _config(**BERT), pairs)
    files = {"vocab.json": b"v", "merges.txt": b"m", "config.json": b"1"}
    own = _shards(tmp_path / "own", files)
    check_validation_sets({"law": _shards(tmp_path / "law", files | {"config.json": b"2"})}, _config(), own)
    with pytest.raises(ConfigError, match="another tokenizer"):
        check_validation_sets({"law": _shards(tmp_path / "law", files | {"merges.txt": b"2"})}, _config(), own)


@pytest.mark.parametrize(
    ("changes", "shards", "said"),
    [
        ({}, {"tokenizer": {"tokenizer.json": b"other"}}, ["another tokenizer", "tokenizer.folder=", "own/tokenizer"]),
        ({}, {"begin": 4}, ["another tokenizer", "begin_documents as there"]),
        ({}, {"rows": 0}, ["its validation split has no rows", "raise its splits.validation"]),
        ({}, {"length": 33}, ["rows have 33 tokens", "trained on 32", "packing.sequence_length=32 or less"]),
        ({}, {"pairs": True}, ["are sentence pairs, and next_sentence=false", "packing.sentence_pairs=false"]),
        (BERT, {}, ["are no sentence pairs, and next_sentence=true", "packing.sentence_pairs=true"]),
    ],
)
def test_a_further_set_that_the_model_could_not_read(
    tmp_path: Path, changes: dict[str, Any], shards: dict[str, Any], said: list[str]
) -> None:
    own, law = _shards(tmp_path / "own"), _shards(tmp_path / "law", **shards)
    with pytest.raises(ConfigError) as refused:
        check_validation_sets({"law": law}, _config(**changes), own)
    for part in ("validation_sets.law='court': ", *said):
        assert part in str(refused.value)


def test_a_further_set_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"validation_sets\.law='court': no finished `prepare` run at .*/court: run"):
        find_validation_sets(_config(), Folder(str(tmp_path)))


@pytest.mark.parametrize("name", ["next_sentence", "law_next_sentence", "Law", "1st", "case-law", ""])
def test_a_further_set_whose_name_cannot_be_a_metrics(name: str) -> None:
    with pytest.raises(ValueError, match=rf"validation_sets=\['{name}'\]: '{name}' cannot stand in the name of a met"):
        _config(validation_sets={name: "court"})
