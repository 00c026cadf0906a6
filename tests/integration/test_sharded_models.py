"""Models that two ranks hold in shares from the start: the same weights as whole ones."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from llmcore.models.build import build_classifier, load_language_model
from llmcore.objectives.causal_lm import CausalLM
from llmcore.tasks.text_classification import TextClassification
from tests.engines import NUM_STEPS, tiny_engine, tiny_model, tiny_settings
from tests.ranks import run_ranks

_LABELS = ["a", "b", "c"]
_VOCAB_SIZE = 53
"""Three entries more than the folder's model has."""


def _classifier(folder: Path, home: Any = None) -> Any:
    return build_classifier(folder, label_names=_LABELS, seed=5, random_weights=False, home=home)


def _continued(folder: Path, home: Any = None) -> Any:
    return load_language_model("causal_lm", folder, vocab_size=_VOCAB_SIZE, seed=5, home=home)


def _whole(engine: Any) -> dict[str, Tensor]:
    found = {}
    for name, parameter in engine.model.named_parameters():
        with engine.whole(parameter) as tensor:
            found[name] = tensor.detach().clone()
    return found


def _sharded(folder: str) -> dict[str, Any]:
    from llmcore.train.engine import Engine, parameter_home

    settings, device = tiny_settings(3), torch.device("cpu")
    found: dict[str, Any] = {"random": _whole(tiny_engine(3))}
    for name, make, objective in (
        ("classifier", _classifier, TextClassification(8, "macro_f1", tuple(_LABELS))),
        ("continued", _continued, CausalLM()),
    ):
        model = make(Path(folder), parameter_home(settings, "fp32", device))
        shares = [parameter.ds_tensor.numel() for parameter in model.parameters()]
        found[f"{name} is in shares"] = all(parameter.numel() == 0 for parameter in model.parameters())
        engine = Engine(model, objective, settings, num_steps=NUM_STEPS, precision="fp32", device=device)
        found[f"{name}'s share"] = sum(shares) / engine.num_parameters
        found[name] = _whole(engine)
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    tiny_model().save_pretrained(folder)  # type: ignore[operator]
    return folder


@pytest.fixture(scope="module")
def ranks(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return run_ranks(2, _sharded, str(folder), out=tmp_path_factory.mktemp("out"))


@pytest.mark.parametrize("name", ["random", "classifier", "continued"])
def test_weights_in_shares_are_those_of_a_whole_model(folder: Path, ranks: list[dict[str, Any]], name: str) -> None:
    made = {"random": lambda _: tiny_model(), "classifier": _classifier, "continued": _continued}[name](folder)
    expected = dict(made.named_parameters())
    for rank in ranks:
        assert rank[name].keys() == expected.keys()
        assert [key for key in expected if not torch.equal(rank[name][key], expected[key])] == []


def test_a_rank_has_its_share_before_there_is_an_optimizer(ranks: list[dict[str, Any]]) -> None:
    for rank in ranks:
        for name in ("classifier", "continued"):
            assert rank[f"{name} is in shares"]
            assert rank[f"{name}'s share"] == pytest.approx(0.5, rel=0.01)
