"""Sentence pairs through `prepare` and through a stream: the same ones whoever makes them, and nothing is lost."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jobs.prepare import prepare, result_line
from jobs.pretrain import pretrain
from jobs.runtime.freeze import freeze, frozen_folder
from jobs.runtime.lanes import LaneWork, read_lane, sequences_of
from jobs.runtime.options import RunOptions
from llmcore.config.prepare import PrepareConfig
from llmcore.config.pretrain import PretrainConfig
from llmcore.config.stream import StreamSettings
from llmcore.errors import ConfigError
from llmcore.storage import Folder, read_manifest
from llmcore.tokens.shards import SPLITS, TokenShards
from llmcore.tokens.tokenizer import load_tokenizer
from tests.sentence_pairs import write_corpus

pytestmark = pytest.mark.usefixtures("ray_session")

PAIRS = {"sequence_length": 48, "sentence_pairs": True}
BEGIN = {"vocab_size": 330, "begin_documents": True}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("corpus"))


def _config(corpus: Path, storage: Path, **changes: Any) -> PrepareConfig:
    given = {
        "name": "pairs",
        "storage": str(storage),
        "sources": [{"name": "s", "url": str(corpus)}],
        "tokenizer": BEGIN,
        "packing": PAIRS,
    }
    return PrepareConfig.model_validate(given | changes)


def _prepared(config: PrepareConfig) -> tuple[dict[str, Any], TokenShards]:
    storage = Folder(config.storage)
    result = prepare(config, storage, RunOptions())
    return result, TokenShards.open(storage / result["tokens"])


def _characters(shards: TokenShards) -> Counter[str]:
    """How often each character stands in the segments of all rows."""
    tokenizer = load_tokenizer(shards.tokenizer_folder())
    found: Counter[str] = Counter()
    for split in SPLITS:
        for row in shards.rows(split, np.arange(shards.num_rows(split))).to_pylist():
            start = 0
            for length, second in zip(row["document_lengths"], row["sentence_offsets"], strict=True):
                piece = row["tokens"][start : start + length]
                start += length
                for segment in (piece[1 : second - 1], piece[second:-1]) if second else (piece[1:-1],):
                    found.update(tokenizer.decode(segment))
    return found


def test_prepare_makes_the_same_pairs_however_many_tasks_read_and_loses_nothing(corpus: Path, tmp_path: Path) -> None:
    result, shards = _prepared(_config(corpus, tmp_path / "one", read_parallelism=1))
    again, _ = _prepared(_config(corpus, tmp_path / "two", read_parallelism=4))
    assert result["tokens_sha256"] == again["tokens_sha256"]
    other, _ = _prepared(_config(corpus, tmp_path / "three", seed=1))
    assert result["tokens_sha256"] != other["tokens_sha256"]
    texts = [json.loads(line)["text"] for path in corpus.iterdir() for line in path.read_text().splitlines()]
    assert _characters(shards) == Counter("".join(texts))
    pieces = shards.about["splits"]["train"]["pieces"]
    assert 0.35 < pieces["random"] / (pieces["random"] + pieces["follows"]) <= 0.5
    assert pieces["alone"] <= len(texts), "one at most of each document"
    assert "sentence pairs" in result_line(result, Folder(str(tmp_path)))
    assert "token_type_ids" in load_tokenizer(shards.tokenizer_folder())("a", "b")


@pytest.mark.parametrize(
    ("prepared", "next_sentence", "message"),
    [
        ({"packing": {"sequence_length": 48}}, True, "are no sentence pairs: prepare them with packing.sentence_pairs"),
        ({}, False, "are sentence pairs, half of them of two documents: set it, or prepare them without"),
    ],
)
def test_rows_that_do_not_fit_the_objective_are_refused_before_a_worker_starts(
    corpus: Path, tmp_path: Path, prepared: dict[str, Any], next_sentence: bool, message: str
) -> None:
    _prepared(_config(corpus, tmp_path, **prepared))
    with pytest.raises(ConfigError, match=message):
        pretrain(_pretraining(next_sentence), Folder(str(tmp_path)), RunOptions())
    assert not list(tmp_path.rglob("checkpoints"))


def test_one_pair_teaches_nothing_and_is_refused(tmp_path: Path) -> None:
    text = " ".join(f"Part {number} is here." for number in range(300))
    (tmp_path / "one.jsonl").write_text(json.dumps({"text": text}) + "\n")
    tokenizer, splits = BEGIN | {"vocab_size": 324}, {"validation": 0, "test": 0}
    packing = PAIRS | {"sequence_length": 4096}  # the whole text is one pair, with none to change segments with
    _prepared(_config(tmp_path / "one.jsonl", tmp_path, tokenizer=tokenizer, splits=splits, packing=packing))
    with pytest.raises(ConfigError, match="1 train pairs that follow and 0 of two places, which teaches nothing"):
        pretrain(_pretraining(True), Folder(str(tmp_path)), RunOptions())


def _pretraining(next_sentence: bool) -> PretrainConfig:
    return PretrainConfig.model_validate(
        {
            "name": "bert",
            "tokens": "pairs",
            "objective": "masked_lm",
            "next_sentence": next_sentence,
            "model": {"family": "bert"},
            "train": {"num_steps": 2, "global_batch_size": 2, "micro_batch_size": 1},
        }
    )


def test_a_stream_makes_pairs_a_window_at_a_time_by_the_same_function(corpus: Path, tmp_path: Path) -> None:
    storage = Folder(str(tmp_path))
    settings = StreamSettings.model_validate(
        {
            "sources": [{"name": "s", "url": str(corpus)}],
            "tokenizer": BEGIN,
            "packing": PAIRS,
            "window_bytes": 2000,
            "validation_bytes": 2000,
        }
    )
    tokens = frozen_folder(storage, freeze(settings, storage))
    manifest = read_manifest(tokens)
    assert manifest is not None and manifest.about["sentence_pairs"]
    assert manifest.about["splits"]["validation"]["pieces"]["random"] > 0
    work, [portions] = LaneWork.of(settings, tokens, storage), sequences_of(settings, tokens)
    [one, two] = [[window.rows for window in read_lane(work, portions[0], (3, 0))] for _ in range(2)]
    assert len(one) > 2 and all(a.equals(b) for a, b in zip(one, two, strict=True))
    labels = [label for rows in one for row in rows["next_sentence"].to_pylist() for label in row]
    assert 0.3 < labels.count(1) / (labels.count(0) + labels.count(1)) <= 0.5
