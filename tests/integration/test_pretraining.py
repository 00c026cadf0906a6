"""Families and objectives from rows to an export, at ZeRO-3, without Ray: they learn, and plain transformers agrees.

Plain transformers computes the validation loss that was told, document by document, from the exported folder.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from tokenizers import Tokenizer
from torch import Tensor, distributed
from torch.nn import functional
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

from llmcore.config.prepare import PackingSettings
from llmcore.config.pretrain import PretrainConfig
from llmcore.models.packed import PackedBatch
from llmcore.storage import Folder, publish, read_manifest
from llmcore.tokens.encode import count_rows, pack_documents
from llmcore.tokens.encoder import Encoder
from llmcore.tokens.schema import in_run
from llmcore.tokens.shards import KIND, SPLITS, UNIGRAM_COUNTS, TokenShards, array_bytes, shard_name, write_shard
from llmcore.tokens.tokenizer import OWN_IDS, find_tokenizer, hugging_face_files, train_tokenizer
from tests.ranks import run_ranks
from tests.tiny import documents

LENGTH, VOCAB_SIZE, ROWS_PER_BLOCK = 32, 384, 64
NUM_STEPS = 24
GLOBAL_BATCH = 5
"""Of two ranks with micro batches of two rows, one has a micro batch without any."""
_GPT = {"n_embd": 32, "n_layer": 1, "n_head": 2}
_LLAMA = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64, "head_dim": 16}
_T5 = {"d_model": 32, "d_ff": 64, "d_kv": 16, "num_layers": 1, "num_heads": 2, "initializer_factor": 0.3}
_HEADS = {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
_BART = {
    "d_model": 32,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    **_HEADS,
}
CASES: dict[str, dict[str, Any]] = {
    "qwen3": {"objective": "causal_lm", "model": {"family": "qwen3", "sizes": {**_LLAMA, "num_key_value_heads": 1}}},
    "t5": {"objective": "span_corruption", "model": {"family": "t5", "sizes": _T5}, "spans": {"share": 0.3}},
    "bart": {
        "objective": "span_corruption",
        "model": {"family": "bart", "sizes": _BART},
        "spans": {"share": 0.3},
        "validation_rows": 5,
    },
    "infilling": {
        "objective": "fill_in_the_middle",
        "model": {"family": "gpt2", "sizes": _GPT},
        "validation_rows": 1,
    },
}
"""Of two ranks, one has fewer batches of 5 validation rows, and none of 1, where each pass is a collective."""


def _write_tokens(folder: Folder, tokenizer: Tokenizer, texts: list[str]) -> TokenShards:
    """Texts as token shards, a quarter of them for validation; what `prepare` publishes, without Ray."""
    encoder = Encoder(tokenizer, "tokenizers")
    mixture = [{"name": "tiny", "first_row": 0, "weight": None, "max_epochs": None}]
    about: dict[str, Any] = {"sequence_length": LENGTH, "vocab_size": VOCAB_SIZE, "rows_per_block": ROWS_PER_BLOCK}
    about |= {"special_ids": OWN_IDS._asdict(), "sources": ["tiny"], "mixture": mixture}
    about["splits"] = {split: {"num_rows": 0, "shards": []} for split in SPLITS}
    with publish(folder, KIND, about) as publication:
        for name, data in hugging_face_files(tokenizer, LENGTH).items():
            publication.write_bytes(f"tokenizer/{name}", data)
        for split, some in (("train", texts[15:]), ("validation", texts[:15])):
            table = pa.table({"text": some, "source": pa.array([0] * len(some), pa.int16())})
            rows = pack_documents(table, encoder, PackingSettings(sequence_length=LENGTH)).rows
            publication.add(write_shard(folder, shard_name(split, 0), rows, ROWS_PER_BLOCK))
            shards = [{"name": shard_name(split, 0), "num_rows": rows.num_rows}]
            about["splits"][split] = {"num_rows": rows.num_rows, "shards": shards}
            if split == "train":
                mixture[0]["num_rows"] = rows.num_rows
                publication.write_bytes(UNIGRAM_COUNTS, array_bytes(count_rows(rows, VOCAB_SIZE, 1).targets))
        publication.about.update(about)
    return TokenShards.open(folder)


def _open(storage: Path | str) -> dict[str, TokenShards]:
    """By their names, the shards that are trained on, and those of a further held-out set."""
    return {name: TokenShards.open(Folder(f"{storage}/{name}")) for name in ("tokens", "backwards")}


def _train(storage: str, cases: dict[str, dict[str, Any]]) -> dict[str, str]:
    """Trains each case on this rank; the folders of their exports."""
    from llmcore.cost import Ledger
    from llmcore.tokens.order import share
    from llmcore.train.deepspeed_config import num_micro_batches
    from llmcore.train.fit import fit
    from llmcore.train.place import Place
    from llmcore.train.pretraining import Pretraining

    shards, further = _open(storage).values()
    world_size = distributed.get_world_size()
    part = share(GLOBAL_BATCH, world_size, distributed.get_rank())

    def stream(first_step: int) -> Iterator[pa.Table]:
        for step in range(first_step, NUM_STEPS):
            positions = np.arange(part.start, part.stop) + step * GLOBAL_BATCH
            rows, epochs = shards.order(0).rows(positions)
            yield in_run(shards.rows("train", rows), positions, epochs)

    exports = {}
    for name, case in cases.items():
        train = {"num_steps": NUM_STEPS, "global_batch_size": GLOBAL_BATCH, "micro_batch_size": 2, "zero_stage": 3}
        train |= {"precision": "fp32", "log_every": 1, "optimizer": {"learning_rate": 1e-2}}
        train |= {"dry_step": True, "validate_every": NUM_STEPS // 2}  # and then it goes on
        given = {"name": name, "tokens": "tiny", "train": train, "validation_sets": {"backwards": "other"}}
        config = PretrainConfig.model_validate(given | case)
        foundation = None if config.model.folder is None else Folder(config.model.folder)
        num_parts = num_micro_batches(config.train, world_size)
        recipe = Pretraining(config, shards, stream, num_parts, foundation, {"backwards": further})
        place = Place(Folder(f"{storage}/{name}"), attempt=1)
        outcome = fit(
            recipe,
            place,
            device=torch.device("cpu"),
            report=lambda _: None,
            pulse=lambda: None,
            ledger=Ledger(1, "cpu"),
        )
        exports[name] = f"{place.run.url}/exports/{outcome['progress']['best_export']}"
    return exports


Trained = tuple[dict[str, TokenShards], dict[str, str]]
"""The token shards by name, and the folders of the exports by case."""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    storage = tmp_path_factory.mktemp("pretraining")
    texts = [document["text"] for document in documents()]
    tokenizer = train_tokenizer(texts, VOCAB_SIZE)
    _write_tokens(Folder(str(storage / "tokens")), tokenizer, texts)
    _write_tokens(Folder(str(storage / "backwards")), tokenizer, [" ".join(text.split()[::-1]) for text in texts])
    [exports, _] = run_ranks(2, _train, str(storage), CASES, out=storage / "out")
    # Then a run that begins with the weights of one of them.
    continued = {"continued": {"model": {"folder": exports["qwen3"]}}}
    [later, _] = run_ranks(2, _train, str(storage), continued, out=storage / "later")
    return _open(storage), exports | later


def _metrics(export: str) -> dict[str, float]:
    manifest = read_manifest(Folder(export))
    assert manifest is not None
    metrics: dict[str, float] = manifest.about["metrics"]
    return metrics


def _pieces(batch: PackedBatch) -> list[Tensor]:
    pieces = batch.tokens.flatten().split(list(batch.lengths))
    return [piece for piece, padding in zip(pieces, batch.padding, strict=True) if not padding]


def _plain_losses(case: dict[str, Any], export: str, batch: Any) -> Iterator[tuple[float, int]]:
    """Of each document of a batch: the sum of the losses of plain transformers, and the number of targets."""
    if case.get("objective") == "span_corruption":
        seq2seq = AutoModelForSeq2SeqLM.from_pretrained(export, attn_implementation="eager").eval()
        for source, target in zip(_pieces(batch.pair.source), _pieces(batch.pair.target), strict=True):
            logits = seq2seq(input_ids=source[None], labels=target[None]).logits[0]
            yield functional.cross_entropy(logits, target, reduction="sum").item(), len(target)
    else:
        decoder = AutoModelForCausalLM.from_pretrained(export, attn_implementation="eager").eval()
        for text in _pieces(batch):
            logits = decoder(input_ids=text[None]).logits[0, :-1]
            yield functional.cross_entropy(logits, text[1:], reduction="sum").item(), len(text) - 1


@pytest.mark.parametrize(("measured", "of"), [("validation", "tokens"), ("validation_backwards", "backwards")])
@pytest.mark.parametrize("name", [*CASES, "continued"])
def test_plain_transformers_has_the_validation_losses_of_the_export(
    trained: Trained, name: str, measured: str, of: str
) -> None:
    from llmcore.objectives import objective_of

    shards, exports = trained[0][of], trained[1]
    case = CASES.get(name, {})
    given = {"name": name, "tokens": "tiny", "train": {"num_steps": 1}} | case
    objective = objective_of(PretrainConfig.model_validate(given), shards)
    rows = shards.sample("validation", case.get("validation_rows", shards.num_rows("validation")))
    [batch] = objective.micro_batches(shards.rows("validation", rows), 1, 99)
    with torch.inference_mode():
        sums, counts = zip(*_plain_losses(case, exports[name], batch), strict=True)
    assert sum(sums) / sum(counts) == pytest.approx(_metrics(exports[name])[f"{measured}_loss"], rel=1e-4)


def _losses(export: str) -> list[float]:
    from llmcore.records import read_metrics

    run = Folder(export.partition("/exports/")[0])
    return [row["loss"] for row in read_metrics(run) if "loss" in row]


@pytest.mark.parametrize("name", sorted(CASES))
def test_each_learns(trained: Trained, name: str) -> None:
    export = trained[1][name]
    losses = _losses(export)
    assert len(losses) == NUM_STEPS
    assert np.mean(losses[-4:]) < losses[0] - 0.3
    assert _metrics(export)["validation_loss"] < losses[0] - 0.3, "what it has not seen, too"


def test_a_run_that_begins_with_weights_is_ahead(trained: Trained) -> None:
    _, exports = trained
    assert _losses(exports["continued"])[0] < _losses(exports["qwen3"])[0] - 1
    assert "began as" in Path(exports["continued"], "README.md").read_text()


def test_what_is_prepared_with_an_exports_tokenizer_may_validate_its_run(trained: Trained) -> None:
    [shards, _], exports = trained[0].values(), trained[1]
    found = find_tokenizer(exports["qwen3"])
    assert found.files["tokenizer.json"] == shards.folder.read_bytes("tokenizer/tokenizer.json")
    assert found.special == OWN_IDS


def test_each_export_says_what_it_is(trained: Trained) -> None:
    cards = {name: Path(export, "README.md").read_text() for name, export in trained[1].items()}
    assert "spans that were cut out" in cards["t5"] and "A pre-trained bart model" in cards["bart"]
    assert "the middle stands last" in cards["infilling"] and "A pre-trained qwen3 model" in cards["continued"]
    for name, card in cards.items():
        assert f"{_metrics(trained[1][name])['validation_loss']:.4f}" in card
        further = _metrics(trained[1][name])["validation_backwards_loss"]
        assert f"| … on the held-out set backwards | {further:.4f} |" in card
        assert "tokens of tiny" in card and "biases included" in card
