"""Model folders read tensor by tensor, against `from_pretrained`."""

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
)

from llmcore.errors import CheckpointError, ConfigError
from llmcore.models.build import load_language_model, make_model

_BERT = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
_SMALL: dict[str, dict[str, Any]] = {
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 2},
    "llama": _BERT,
    "bert": _BERT,
    "modernbert": _BERT | {"cls_token_id": 1, "sep_token_id": 2},
    "t5": {"d_model": 32, "num_layers": 2, "num_heads": 2, "d_ff": 64, "d_kv": 16},
}
_WEIGHTS = "model.safetensors"


def _saved(folder: Path, auto: Any, family: str, **options: Any) -> Any:
    special = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    config = AutoConfig.for_model(family, vocab_size=60, **_SMALL[family] | special)
    model = auto.from_config(config)
    model.save_pretrained(folder, **options)
    return model


def _made(auto: Any, folder: Path, **changes: Any) -> Any:
    return make_model(auto, AutoConfig.from_pretrained(folder, **changes), seed=5, folder=folder)


def _same(ours: Any, plain: Any) -> bool:
    state = plain.state_dict()
    return all(torch.equal(tensor, state[name]) for name, tensor in ours.state_dict().items())


@pytest.mark.parametrize(
    ("family", "saved", "made"),
    [
        ("gpt2", AutoModelForCausalLM, AutoModelForCausalLM),
        ("llama", AutoModel, AutoModelForCausalLM),  # names without a prefix into a model with a head that is tied
        ("bert", AutoModelForMaskedLM, AutoModel),  # names with a prefix into a model without
        ("modernbert", AutoModelForMaskedLM, AutoModelForMaskedLM),
        ("t5", AutoModelForSeq2SeqLM, AutoModelForSeq2SeqLM),
    ],
)
def test_the_weights_are_those_of_from_pretrained(tmp_path: Path, family: str, saved: Any, made: Any) -> None:
    _saved(tmp_path, saved, family)
    ours, (plain, info) = _made(made, tmp_path), made.from_pretrained(tmp_path, output_loading_info=True)
    drawn = {name: ours.get_parameter(name) for name in info["missing_keys"] if name in dict(ours.named_parameters())}
    plain.load_state_dict(drawn, strict=False)
    assert _same(ours, plain)
    told = ours.llmcore_weights
    assert set(told["initialized"]) == set(info["missing_keys"])
    assert set(told["left_out"]) == set(info["unexpected_keys"])


def test_a_head_is_drawn_by_the_seed_and_said(tmp_path: Path) -> None:
    base = _saved(tmp_path, AutoModelForCausalLM, "gpt2")
    ours, again = (_made(AutoModelForSequenceClassification, tmp_path, num_labels=3) for _ in range(2))
    assert ours.llmcore_weights == {"initialized": ["score.weight"], "left_out": []}
    assert torch.equal(ours.score.weight, again.score.weight)
    assert float(ours.score.weight.detach().std()) == pytest.approx(0.02, rel=0.5)
    assert _same(ours.transformer, base.transformer)


def test_weights_in_shards_and_in_bf16_are_read(tmp_path: Path) -> None:
    model = _saved(tmp_path, AutoModelForCausalLM, "llama").bfloat16()
    (tmp_path / _WEIGHTS).unlink()
    model.save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 2
    ours = _made(AutoModelForCausalLM, tmp_path)
    assert _same(ours, model.float())
    assert {parameter.dtype for parameter in ours.parameters()} == {torch.float32}


def test_old_names_are_renamed_and_a_tied_weight_may_be_stored_under_either_name(tmp_path: Path) -> None:
    model = _saved(tmp_path, AutoModelForMaskedLM, "bert")
    stored = load_file(tmp_path / _WEIGHTS)
    stored = {name.replace("LayerNorm.weight", "LayerNorm.gamma"): tensor for name, tensor in stored.items()}
    stored["cls.predictions.decoder.weight"] = stored.pop("bert.embeddings.word_embeddings.weight")
    save_file(stored, tmp_path / _WEIGHTS, {"format": "pt"})
    ours = _made(AutoModelForMaskedLM, tmp_path)
    assert ours.llmcore_weights == {"initialized": [], "left_out": []}
    assert _same(ours, model)


def test_new_entries_of_a_vocabulary_begin_near_the_mean(tmp_path: Path) -> None:
    base = _saved(tmp_path, AutoModelForCausalLM, "gpt2").get_input_embeddings().weight
    ours: Any = load_language_model("causal_lm", tmp_path, vocab_size=64, seed=5)
    embeddings = ours.get_input_embeddings().weight
    assert embeddings is ours.lm_head.weight
    assert torch.equal(embeddings[:60], base)
    assert torch.allclose(embeddings[60:], base.mean(0).expand(4, -1), atol=1e-3)
    assert embeddings[60:].unique(dim=0).shape[0] == 4, "they differ, so that they can be learnt apart"


def test_tied_names_that_are_stored_with_other_values_are_an_error(tmp_path: Path) -> None:
    _saved(tmp_path, AutoModelForCausalLM, "gpt2")
    stored = load_file(tmp_path / _WEIGHTS)
    stored["lm_head.weight"] = stored["transformer.wte.weight"] + 1
    save_file(stored, tmp_path / _WEIGHTS, {"format": "pt"})
    with pytest.raises(CheckpointError, match=r"lm_head\.weight differ.*tie_word_embeddings"):
        _made(AutoModelForCausalLM, tmp_path)


def test_a_part_of_a_model_is_an_error(tmp_path: Path) -> None:
    _saved(tmp_path, AutoModelForCausalLM, "gpt2")
    stored = load_file(tmp_path / _WEIGHTS)
    del stored["transformer.h.1.mlp.c_fc.weight"]
    save_file(stored, tmp_path / _WEIGHTS, {"format": "pt"})
    with pytest.raises(CheckpointError, match=r"transformer\.h\.1\.mlp\.c_fc\.weight.*missing"):
        _made(AutoModelForCausalLM, tmp_path)


def test_other_sizes_than_the_folders_are_an_error(tmp_path: Path) -> None:
    _saved(tmp_path, AutoModelForCausalLM, "gpt2")
    for changes in ({"n_inner": 100}, {"vocab_size": 59}):
        with pytest.raises(ConfigError, match="sizes of the model must be those of the folder"):
            _made(AutoModelForCausalLM, tmp_path, **deepcopy(changes))


def test_files_that_are_not_there_are_an_error(tmp_path: Path) -> None:
    _saved(tmp_path, AutoModelForCausalLM, "llama", max_shard_size="20KB")
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    lost = sorted(set(index["weight_map"].values()))[1]
    (tmp_path / lost).unlink()
    with pytest.raises(CheckpointError, match=lost):
        _made(AutoModelForCausalLM, tmp_path)
    (tmp_path / "model.safetensors.index.json").unlink()
    with pytest.raises(CheckpointError, match="save the model as safetensors"):
        _made(AutoModelForCausalLM, tmp_path)
