"""Weights made one after another, against what plain transformers makes of the same config."""

from collections import defaultdict
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForPreTraining,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
)

from llmcore.models.build import make_model
from llmcore.models.initialize import laid_out, materialize

_ENCODER = {"hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 128}
_PAIR = {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 128, "decoder_ffn_dim": 128}
FAMILIES: dict[str, tuple[Any, dict[str, Any]]] = {
    "gpt2": (AutoModelForCausalLM, {"n_embd": 64, "n_layer": 3, "n_head": 2}),
    "llama": (AutoModelForCausalLM, _ENCODER),
    "qwen3": (AutoModelForCausalLM, _ENCODER | {"num_key_value_heads": 2, "head_dim": 32}),
    "bert": (AutoModelForPreTraining, _ENCODER),
    "roberta": (AutoModelForMaskedLM, _ENCODER),
    "modernbert": (AutoModelForMaskedLM, _ENCODER),
    "t5": (AutoModelForSeq2SeqLM, {"d_model": 64, "num_layers": 2, "num_heads": 2, "d_ff": 128, "d_kv": 32}),
    "bart": (AutoModelForSeq2SeqLM, {"d_model": 64, "encoder_layers": 2, "decoder_layers": 2, **_PAIR}),
}


def _config(family: str, **changes: Any) -> Any:
    special = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "sep_token_id": 2, "cls_token_id": 1}
    sizes = FAMILIES[family][1] | {"vocab_size": 500, "decoder_start_token_id": 0} | special
    return AutoConfig.for_model(family, **sizes | changes)


def _ties(model: nn.Module) -> list[list[str]]:
    names = defaultdict(list)
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names[id(parameter)].append(name)
    return sorted(names.values())


def _alike(one: Tensor, other: Tensor) -> bool:
    """Whether both may be drawn from one normal distribution, with the same rows of zeros; or are constant alike."""
    if one.unique().numel() == 1 or other.unique().numel() == 1:
        return torch.equal(one, other)
    same_zeros = torch.equal((one == 0).all(-1), (other == 0).all(-1))
    error = one.numel() ** -0.5
    one, other = one.detach(), other.detach()
    same_spread = abs(float(one.std() / other.std()) - 1) < 6 * error
    return same_zeros and same_spread and abs(float(one.mean() - other.mean())) < 8 * error * float(one.std())


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("family", FAMILIES)
def test_each_weight_is_drawn_as_plain_transformers_draws_it(family: str, tied: bool) -> None:
    """Scaled projections, zeroed padding, truncated normals, T5's factors, rotary frequencies, positions, ties."""
    auto, config = FAMILIES[family][0], _config(family, tie_word_embeddings=tied)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        plain = auto.from_config(deepcopy(config))
    ours: Any = make_model(auto, deepcopy(config), seed=1)
    assert _ties(ours) == _ties(plain)
    found = dict(ours.named_parameters())
    unlike = [name for name, parameter in plain.named_parameters() if not _alike(parameter, found[name])]
    assert unlike == []
    buffers = dict(ours.named_buffers())
    assert buffers.keys() == dict(plain.named_buffers()).keys()
    assert all(torch.equal(buffer, buffers[name]) for name, buffer in plain.named_buffers())


def test_a_weight_depends_on_the_seed_and_its_name_alone() -> None:
    config = _config("llama")
    language, again, other = (make_model(AutoModelForCausalLM, deepcopy(config), seed=seed) for seed in (3, 3, 4))
    torch.rand(5)  # what else draws numbers changes nothing
    classifier = make_model(AutoModelForSequenceClassification, deepcopy(config), seed=3)
    deeper = make_model(AutoModelForCausalLM, _config("llama", num_hidden_layers=5), seed=3)
    name = "model.layers.1.mlp.up_proj.weight"
    weights = [model.get_parameter(name) for model in (language, again, classifier, deeper)]
    assert all(torch.equal(weights[0], weight) for weight in weights)
    assert not torch.equal(weights[0], other.get_parameter(name))
    assert not torch.equal(weights[0], language.get_parameter("model.layers.0.mlp.up_proj.weight"))


def test_initializing_leaves_the_generator_alone() -> None:
    before = torch.get_rng_state()
    make_model(AutoModelForCausalLM, _config("gpt2"), seed=3)
    assert torch.equal(before, torch.get_rng_state())


def test_each_parameter_is_home_before_the_next_is_made() -> None:
    """Where a home takes all of it away, no more than one is ever there; its values are those of a whole model."""
    whole = dict(make_model(AutoModelForCausalLM, _config("gpt2"), seed=3).named_parameters())
    taken: list[Tensor] = []

    def home(model: nn.Module) -> Callable[[nn.Parameter], None]:
        def take(parameter: nn.Parameter) -> None:
            assert all(p.is_meta for p in model.parameters()), "the model is on the meta device meanwhile"
            taken.append(parameter.detach().clone())
            parameter.data = torch.empty(0)

        return take

    empty = make_model(AutoModelForCausalLM, _config("gpt2"), seed=3, home=home)
    assert [name for name, _ in empty.named_parameters()] == list(whole)
    assert all(torch.equal(one, other) for one, other in zip(taken, whole.values(), strict=True))
    assert all(parameter.numel() == 0 for parameter in empty.parameters())


def test_a_weight_without_a_rule_is_an_error() -> None:
    model = laid_out(lambda: AutoModelForCausalLM.from_config(_config("gpt2")))
    model.transformer.extra = nn.Parameter(torch.empty(3, device="meta"))
    with pytest.raises(ValueError, match=r"no rule for transformer\.extra"):
        materialize(model, seed=0)
