"""What each method trains of a model, and at which learning rates; what it refuses."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from llmcore.config.finetune import FinetuneSettings
from llmcore.config.method import MethodSettings
from llmcore.config.optimizer import OptimizerSettings
from llmcore.errors import ConfigError
from llmcore.models import adapters
from llmcore.models.adapters import targets_of
from llmcore.models.methods import apply_method, check_method
from llmcore.storage import Folder
from llmcore.tasks.text_classification import ClassExample, TextClassification
from llmcore.train.optimizers import build_optimizer
from tests.fine_tuned import FAMILIES, LORA, TEXTS, build, write_base

FULL = MethodSettings()
LINEAR = {
    "gpt2": {"c_attn", "c_proj", "c_fc"},
    "llama": {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"},
    "bert": {"query", "key", "value", "dense"},
    "t5": {"q", "k", "v", "o", "wi", "wo"},
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("bases")
    for family in FAMILIES:
        write_base(family, root / family)
    return root


@pytest.mark.parametrize("family", FAMILIES)
def test_all_linear_layers_of_the_layers_get_adapters_and_nothing_else(root: Path, family: str) -> None:
    targets = targets_of(build(family, root / family, FULL), LORA)
    assert {name.rpartition(".")[2] for name in targets} == LINEAR[family]
    assert not any(word in name for name in targets for word in ("pooler", "classifier", "score", "lm_head", "shared"))
    behind = targets_of(build(family, root / family, FULL), MethodSettings(name="lora", frozen_layers=1))
    assert len(behind) == len(targets) / 2
    first = {"gpt2": ".h.0.", "llama": ".layers.0.", "bert": "encoder.layer.0.", "t5": ".block.0."}[family]
    assert any(first in name for name in targets) and not any(first in name for name in behind)


@pytest.mark.parametrize("family", FAMILIES)
def test_an_adapter_says_nothing_at_first_and_is_the_same_for_a_seed(root: Path, family: str) -> None:
    one, other = (build(family, root / family, LORA).state_dict() for _ in range(2))
    assert all(torch.equal(one[name], other[name]) for name in one)
    high = [value for name, value in one.items() if ".lora_B." in name]
    low = [value for name, value in one.items() if ".lora_A." in name]
    assert high and not any(value.any() for value in high)
    assert all(value.any() for value in low)
    assert len({float(value.sum()) for value in low}) == len(low), "each layer has numbers of its own"
    whole = build(family, root / family, FULL).state_dict()
    base = {name.replace(".base_layer.", "."): value for name, value in one.items() if ".lora_" not in name}
    assert base.keys() == whole.keys() and all(torch.equal(base[name], whole[name]) for name in whole)


def test_what_target_modules_name_is_looked_for_in_the_model(root: Path) -> None:
    bert = build("bert", root / "bert", FULL)
    chosen = targets_of(bert, MethodSettings(name="lora", target_modules=["query", "output.dense"]))
    ends = {".".join(name.split(".")[-2:]) for name in chosen}
    assert ends == {"self.query", "output.dense"}
    with pytest.raises(ConfigError, match=r"'q_proj' is no linear layer .* there are dense, key, query, value"):
        targets_of(bert, MethodSettings(name="lora", target_modules=["query", "q_proj"]))
    with pytest.raises(ConfigError, match="'lm_head'"):
        build("llama", root / "llama", MethodSettings(name="lora", target_modules=["lm_head"]))
    with pytest.raises(ConfigError, match="no linear layer is left"):
        build("llama", root / "llama", MethodSettings(name="lora", frozen_layers=2))


def test_what_can_be_known_before_a_worker_starts_is(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bert = Folder(str(root / "bert"))
    check_method(LORA, bert)
    check_method(MethodSettings(frozen_layers=2), bert)
    with pytest.raises(ConfigError, match="frozen_layers=3: the model has 2 layers"):
        check_method(MethodSettings(frozen_layers=3), bert)
    with pytest.raises(ConfigError, match="target_modules='c_attn'"):
        check_method(MethodSettings(name="lora", target_modules=["c_attn"]), bert)
    monkeypatch.setattr(adapters, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"needs peft: install the extra, `pip install 'llmcore\[lora\]'`"):
        check_method(LORA, bert)


@pytest.mark.parametrize("family", ["gpt2", "t5"])
def test_a_model_without_a_head_cannot_train_it_alone(root: Path, family: str) -> None:
    with pytest.raises(ConfigError, match="no head of its own"):
        build(family, root / family, MethodSettings(name="head_only"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="what is told of machines without a GPU")
def test_4_bits_are_refused_without_a_gpu(root: Path) -> None:
    with pytest.raises(ConfigError, match="qlora needs a GPU in each worker, and this one has none: use name=lora"):
        build("llama", root / "llama", MethodSettings(name="qlora"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": {"name": "full", "target_modules": ["query"]}}, "target_modules are LoRA's"),
        ({"method": {"name": "head_only", "frozen_layers": 1}}, "that freezes all layers"),
        ({"method": {"name": "lora"}, "optimizer": {"kind": "muon"}}, "method.name=lora trains none of them"),
        ({"method": {"name": "qlora"}, "zero_stage": 3}, "whole on each GPU"),
        ({"optimizer": {"kind": "muon", "layer_learning_rate_decay": 0.9}}, "is for adamw"),
        ({"method": {"name": "dora"}}, "'full', 'lora', 'qlora' or 'head_only'"),
    ],
)
def test_contradictions_are_refused(changes: dict[str, Any], message: str) -> None:
    method = changes.pop("method", {})
    with pytest.raises(ValidationError, match=message):
        FinetuneSettings.model_validate({"method": method, "train": {"num_steps": 1, **changes}})


def test_a_layer_learns_more_slowly_than_the_one_behind_it(root: Path) -> None:
    settings = OptimizerSettings(layer_learning_rate_decay=0.5, head_learning_rate_factor=10)
    factors = _factors(build("bert", root / "bert", FULL), settings)
    assert factors("classifier.weight") == 10
    assert factors("bert.pooler.dense.bias") == 1
    assert factors("bert.encoder.layer.1.output.dense.weight") == 0.5
    assert factors("bert.encoder.layer.0.attention.self.query.bias") == 0.25
    assert factors("bert.embeddings.LayerNorm.weight") == factors("bert.embeddings.word_embeddings.weight") == 0.125
    t5 = _factors(build("t5", root / "t5", FULL), settings)
    assert (
        t5("encoder.block.1.layer.0.SelfAttention.q.weight") == t5("decoder.block.1.layer.0.layer_norm.weight") == 0.5
    )
    assert t5("encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight") == 0.25
    assert (t5("encoder.final_layer_norm.weight"), t5("shared.weight")) == (1, 0.125)
    gpt2 = _factors(build("gpt2", root / "gpt2", FULL), settings)
    assert (gpt2("transformer.ln_f.bias"), gpt2("transformer.wpe.weight")) == (1, 0.125)
    lora = _factors(build("llama", root / "llama", LORA), settings)
    assert lora("model.layers.0.mlp.up_proj.lora_B.default.weight") == 0.25
    assert lora("score.weight") == 10


def _factors(model: Any, settings: OptimizerSettings) -> Callable[[str], float]:
    parameters = dict(model.named_parameters())
    groups = build_optimizer(model, settings).param_groups
    told = {id(one): group["learning_rate_factor"] for group in groups for one in group["params"]}
    assert told.keys() == {id(one) for one in parameters.values() if one.requires_grad}
    return lambda name: told[id(parameters[name])]


def test_of_random_weights_the_same_head_trains(root: Path) -> None:
    task = TextClassification(8, "macro_f1", ("a", "b"))
    model: Any = task.build_model(root / "llama", seed=1, random_weights=True)
    apply_method(model, LORA, seed=1)
    whole = {name for name, one in model.named_parameters() if one.requires_grad and ".lora_" not in name}
    assert whole == {"score.weight"}
    batch = task.collate([ClassExample(TEXTS[0], 0, (0,))])
    assert task.loss_sums(model, batch).requires_grad
