"""Plans against what was published, and against models that are really there."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from jobs.cli import commands
from jobs.plan import PlanOptions, asked
from jobs.runtime.planning import PlannedTraining
from jobs.runtime.plans_of import plan_of_pretraining
from llmcore.config.pretrain import Learnt, PretrainConfig
from llmcore.cost.memory import ModelSizes
from llmcore.cost.plan import (
    USABLE,
    Activations,
    Load,
    Placement,
    compute_optimal,
    rank_memory,
    training_hours,
)
from llmcore.errors import ConfigError
from llmcore.models.build import build_language_model, model_config, num_parameters
from llmcore.storage import Folder
from tests.architectures import ARCHITECTURES
from tests.drivers import ROOT

GIB = 2**30


def _plan(
    root: Path, family: str, sizes: dict[str, Any], *, vocab: int, length: int, options: PlanOptions, **train: Any
) -> PlannedTraining:
    settings = {"num_steps": 1000, "global_batch_size": 512, "precision": "bf16", "zero_stage": 1} | train
    config = PretrainConfig.model_validate(
        {
            "name": "planned",
            "storage": str(root),
            "tokens": "nowhere",
            "model": {"family": family, "sizes": sizes},
            "train": settings,
        }
    )
    storage = Folder(str(root))
    return plan_of_pretraining(config, storage, asked(options, storage), vocab, length)


def test_gpt_3_took_as_many_flops_as_was_published(tmp_path: Path) -> None:
    """Brown et al. 2020, table D.1: 3.14e23 for 175 B parameters and 300 billion tokens."""
    sizes = {"n_embd": 12288, "n_layer": 96, "n_head": 96}
    plan = _plan(tmp_path, "gpt2", sizes, vocab=50257, length=2048, options=PlanOptions())
    assert plan.needs.load.sizes.num_parameters == pytest.approx(175e9, rel=0.01)
    assert plan.needs.flops_per_token * 300e9 == pytest.approx(3.14e23, rel=0.05)


def test_mpt_7b_is_as_fast_as_its_utilization_says(tmp_path: Path) -> None:
    """Its makers' table of 128 A100 of 40 GB at 2,048 tokens: an MFU of 50.14 % and 3,623 tokens a second and GPU."""
    sizes = {"n_embd": 4096, "n_layer": 32, "n_head": 32}
    options = PlanOptions(device="A100 40GB", num_devices=128, utilization="0.5014")
    plan = _plan(tmp_path, "gpt2", sizes, vocab=50432, length=2048, options=options)
    assert plan.needs.load.sizes.num_parameters == pytest.approx(6_658_859_008, rel=0.01)
    assert plan.hours is not None and plan.num_tokens is not None
    assert plan.num_tokens / (plan.hours[0] * 3600 * 128) == pytest.approx(3623, rel=0.1)


def test_llama_2_s_hours_imply_a_utilization_that_can_be(tmp_path: Path) -> None:
    """Touvron et al. 2023 (Llama 2), table 2: 184,320 hours of an A100 for 7 B parameters and 2 trillion tokens."""
    sizes = {"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32}
    sizes |= {"num_key_value_heads": 32, "tie_word_embeddings": False}
    plan = _plan(tmp_path, "llama", sizes, vocab=32000, length=4096, options=PlanOptions())
    at_the_peak = training_hours(plan.needs.flops_per_token * 2e12, flops_per_s=312e12, num_devices=1, utilization=1.0)
    assert 0.3 < at_the_peak / 184_320 < 0.6
    assert plan.needs.load.sizes.num_parameters == 6_738_415_616


def test_chinchilla_s_own_budget_has_its_own_size() -> None:
    """Hoffmann et al. 2022, table 3: 67 billion parameters for 5.76e23 FLOPs, and 1.5 trillion tokens."""
    num_parameters, num_tokens = compute_optimal(5.76e23)
    assert num_parameters == pytest.approx(67e9, rel=0.1) and num_tokens == pytest.approx(1.5e12, rel=0.1)


@pytest.mark.parametrize(("family", "learnt", "sizes"), ARCHITECTURES)
def test_parameters_are_exact(family: str, learnt: Learnt, sizes: dict[str, Any], tmp_path: Path) -> None:
    config = PretrainConfig.model_validate(
        {
            "name": "planned",
            "tokens": "nowhere",
            "objective": "masked_lm" if learnt == "next_sentence" else learnt,
            "next_sentence": learnt == "next_sentence",
            "model": {"family": family, "sizes": sizes},
            "train": {"num_steps": 1},
        }
    )
    storage = Folder(str(tmp_path))
    plan = plan_of_pretraining(config, storage, asked(PlanOptions(), storage), 512, 64)
    built = model_config(config.model, vocab_size=512, sequence_length=64, eos_id=2, pad_id=1)
    assert plan.needs.load.sizes.num_parameters == num_parameters(build_language_model(learnt, built, seed=0))


def test_what_does_not_fit_is_refused_with_the_nearest_that_does(tmp_path: Path) -> None:
    sizes = {"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32}
    options = PlanOptions(device="A100", num_devices=8)
    plan = _plan(tmp_path, "llama", sizes, vocab=32000, length=2048, options=options, micro_batch_size=4)
    assert plan.memory.device > 80 * GIB * USABLE
    with pytest.raises(
        ConfigError, match=r"micro_batch_size=4 needs .* on each of 8 ranks, and one A100 has 80 GiB"
    ) as e:
        plan.check_fits()
    told = dict(part.split("=") for part in str(e.value).partition("set ")[2].split())
    assert told.keys() >= {"train.zero_stage", "train.micro_batch_size"}
    placement = plan.placement._replace(
        stage=int(told["train.zero_stage"]),
        micro_batch_size=int(told["train.micro_batch_size"]),
        activation_checkpointing="train.activation_checkpointing" in told,
    )
    assert rank_memory(plan.needs.load, placement).device <= 80 * GIB * USABLE
    assert 1 <= placement.micro_batch_size <= 4

    hopeless = _plan(
        tmp_path, "gpt2", {"n_embd": 12288, "n_layer": 96, "n_head": 96}, vocab=50257, length=2048,
        options=PlanOptions(device="T4", num_devices=1), precision="fp32",
    )  # fmt: skip
    with pytest.raises(ConfigError, match="nothing does"):
        hopeless.check_fits()


def _command(*given: str) -> Any:
    return CliRunner().invoke(commands, ["plan", *given], catch_exceptions=True)


def test_the_command_says_it_to_a_person_and_to_a_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    config = "configs/pretrain/gpt2-124m.yaml"
    shown = _command(config, "--device", "H100")
    assert shown.exit_code == 0, shown.output
    for words in ("124,439,808 parameters", "50,257 entries", "ZeRO-1", "on 8 x H100", "USD", "Chinchilla"):
        assert words in shown.output
    record = json.loads(_command(config, "--device", "H100", "--mfu", "0.4", "--json").output)
    assert record["num_parameters"] == 124_439_808 and record["num_steps"] == 19073
    assert record["hours"][0] == record["hours"][1] > 0
    assert record["money"][0] == pytest.approx(record["hours"][0] * 8 * 1.9)
    assert record["checkpoint_bytes"] == 12 * 124_439_808
    halved = json.loads(_command(config, "train.num_steps=9536", "--device", "H100", "--mfu", "0.4", "--json").output)
    assert halved["hours"][0] == pytest.approx(record["hours"][0] * 9536 / 19073)


def test_the_page_of_a_plan_has_its_bars_and_its_point(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(ROOT)
    config = "configs/pretrain/gpt2-124m.yaml"
    shown = _command(config, "--device", "H100", "--html", str(tmp_path / "plan.html"))
    assert shown.exit_code == 0, shown.output
    page = (tmp_path / "plan.html").read_text(encoding="utf-8")
    texts = re.findall(r"<text[^>]*>([^<]*)</text>", page)
    for words in ("memory of a rank, GiB", "ZeRO-1, asked", "states", "gradients", "buffers", "activations"):
        assert words in texts, words
    for words in ("parameters", "tokens", "learns most (Chinchilla)", "this one", "device-hours, lowest to highest"):
        assert words in texts, words
    assert "money, USD, lowest to highest" in texts
    record = json.loads(_command(config, "--device", "H100", "--json").output)
    assert f"<b>{record['memory']['device'] / GIB:.2f}</b>" in page
    assert not re.search(r"url\((?!#)|@import|https?://|<script", page)
    assert "give a file in a folder that is there" in str(_command(config, "--html", "nowhere/plan.html").exception)


@pytest.mark.parametrize(("stage", "buffers"), [(0, 0.0), (1, 2.0 * 300), (2, 2.0 * 300)])
def test_buffers_are_the_part_of_gradients_that_no_rank_owns(stage: int, buffers: float) -> None:
    sizes = ModelSizes(300, 100, 200, 10, 30, num_trained=300)
    nothing = Activations(0.0, 0.0)
    memory = rank_memory(Load(sizes, "bf16", nothing, nothing), Placement(stage, 2, 1))
    assert memory.buffers == buffers
    assert memory.gradients - memory.buffers == 2.0 * 300 / (2 if stage == 2 else 1)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["--device", "H1000"], "device='H1000' is not known; expected one of"),
        (["--mfu", "40"], "--mfu 40: give a share of the peak"),
        (["--mfu", "0.5:0.3"], "--mfu 0.5:0.3"),
        (["--prices", "nowhere.yaml"], "nowhere.yaml: no such file"),
        (["--like", "nowhere"], "nowhere"),
    ],
)
def test_bad_options_are_told(given: list[str], words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    shown = _command("configs/pretrain/gpt2-124m.yaml", *given)
    assert shown.exception is not None and words in str(shown.exception) + shown.output
