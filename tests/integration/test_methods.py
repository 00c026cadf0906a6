"""Fine-tuning by each method on two ranks at the ZeRO stages: against plain transformers and peft; what it keeps."""

from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoModelForSequenceClassification

from llmcore.config.method import MethodSettings
from llmcore.errors import CheckpointError
from llmcore.storage import Folder, read_manifest
from llmcore.train.exported import export_checkpoint
from tests.fine_tuned import (
    FAMILIES,
    LORA,
    NUM_STEPS,
    build,
    documents,
    fine_tuning,
    logits,
    plain_base,
    plain_logits,
    settings,
    steps,
    write_base,
)
from tests.plain_loop import plain_losses
from tests.ranks import run_ranks
from tests.tiny_run import write_tokenizer

FULL, HEAD, UPPER = MethodSettings(), MethodSettings(name="head_only"), MethodSettings(frozen_layers=1)
METHODS = {"full": FULL, "lora": LORA, "head_only": HEAD, "frozen": UPPER}
CASES = [
    *product(["bert"], ["lora", "head_only"], (0, 1, 2, 3)),
    *product(["gpt2", "llama", "t5"], ["lora"], (1, 3)),
    *product(FAMILIES, ["full"], (2,)),
    *product(["gpt2"], ["frozen"], (0, 1, 2, 3)),
    *product(["llama", "bert", "t5"], ["frozen"], (3,)),
]
RESUMED = [*product(["bert"], ["lora"], (0, 1, 2, 3)), ("bert", "head_only", 2), ("gpt2", "frozen", 3)]
LONG = [*product(["bert", "t5"], ["full"], (2,)), *product(["bert", "t5"], ["lora"], (1, 3))]
"""Cases that train longer by themselves: differences of rounding grow with the steps."""
LONG_TRAINING: dict[str, Any] = {"num_steps": 100, "optimizer": {"learning_rate": 1e-3, "max_grad_norm": 0.5}}
SAVED_AT = 4
OTHER = {0: 3, 1: 2, 2: 0, 3: 1}
"""The stage that goes on from what each stage saved."""


def _whole(engine: Any) -> dict[str, Tensor]:
    engine.let_go()
    found = {}
    for name, parameter in engine.model.named_parameters():
        with engine.whole(parameter) as tensor:
            found[name] = tensor.detach().clone()
    return found


def _train(root: str) -> dict[Any, dict[str, Any]]:
    from llmcore.train.architecture import publish_architecture
    from llmcore.train.checkpoint import save_checkpoint
    from llmcore.train.export import export_model
    from llmcore.train.progress import Progress

    found = {}
    for case in CASES:
        family, method, stage = case
        engine = fine_tuning(family, Path(root, family), METHODS[method], stage)
        before = _whole(engine)
        losses = steps(engine, family, 0, SAVED_AT)
        folder = Folder(f"{root}/{family}-{method}-{stage}")
        save_checkpoint(engine, folder / "checkpoints", Progress(step=SAVED_AT), attempt=1)
        losses += steps(engine, family, SAVED_AT, NUM_STEPS)
        after = _whole(engine)
        found[case] = {
            "losses": losses,
            "moved": {name for name in before if not torch.equal(before[name], after[name])},
            "trained": {name for name, parameter in engine.model.named_parameters() if parameter.requires_grad},
            "num_trained": engine.num_trained_parameters,
            "num_parameters": engine.num_parameters,
        }
        if method == "lora" and stage in (1, 3):
            found[case]["logits"] = logits(engine, family)
            export_model(engine, folder / "model", Path(root, "tokenizer"), "# A card\n", {})
            save_checkpoint(engine, folder / "checkpoints", Progress(step=NUM_STEPS), attempt=1)
            publish_architecture(engine, Path(root, "tokenizer"), folder)
    engine = fine_tuning("bert", Path(root, "bert"), LORA, 3, activation_checkpointing=True)
    found["bert", "lora", 3]["recomputed"] = steps(engine, "bert", 0, SAVED_AT)
    return found


def _train_long(root: str) -> dict[Any, list[float]]:
    found = {}
    for case in LONG:
        family, method, stage = case
        engine = fine_tuning(family, Path(root, family), METHODS[method], stage, **LONG_TRAINING)
        found[case] = steps(engine, family, 0, LONG_TRAINING["num_steps"])
    return found


def _resume(root: str) -> dict[Any, list[float]]:
    from llmcore.train.checkpoint import load_checkpoint

    found = {}
    for family, method, stage in RESUMED:
        folder = Folder(f"{root}/{family}-{method}-{stage}/checkpoints/step-{SAVED_AT:08d}-attempt-01")
        manifest = read_manifest(folder)
        assert manifest is not None
        engine = fine_tuning(family, Path(root, family), METHODS[method], OTHER[stage])
        load_checkpoint(engine, folder, manifest)
        found[family, method, stage] = steps(engine, family, SAVED_AT, NUM_STEPS)
    return found


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("methods")
    write_tokenizer(root / "tokenizer")
    for family in FAMILIES:
        write_base(family, root / family)
    return root


@pytest.fixture(scope="module")
def trained(root: Path) -> dict[Any, dict[str, Any]]:
    ranks: list[dict[Any, dict[str, Any]]] = run_ranks(2, _train, str(root), out=root / "out")
    for case in CASES:
        assert ranks[0][case]["losses"] == ranks[1][case]["losses"]
        assert ranks[0][case]["moved"] == ranks[1][case]["moved"]
    return ranks[0]


def _plain_losses(family: str, method: str, root: Path, **changes: Any) -> list[float]:
    """Of a loop of plain transformers and peft, that begins with the same weights."""
    train = settings(0, **changes)
    ours = build(family, root / family, METHODS[method])
    model = plain_base(family, root / family, build(family, root / family, FULL))
    if method == "lora":
        targets = {"gpt2": ["c_attn", "c_proj", "c_fc"], "llama": "all-linear", "bert": None, "t5": None}[family]
        if family == "bert":
            targets = ["query", "key", "value", "attention.output.dense", "intermediate.dense", r"output.dense"]
        if family == "t5":
            targets = ["q", "k", "v", "o", "wi", "wo"]
        heads = {"llama": ["score"], "bert": ["classifier", "pooler.dense"]}.get(family)
        model = get_peft_model(
            model,
            LoraConfig(
                r=LORA.rank,
                lora_alpha=int(LORA.alpha),
                target_modules=targets,
                modules_to_save=heads,
                fan_in_fan_out=family == "gpt2",
            ),
        )
        adapters = {name: value for name, value in ours.state_dict().items() if ".lora_" in name}
        missing = model.base_model.model.load_state_dict(adapters, strict=False)  # type: ignore[operator, union-attr]
        assert not missing.unexpected_keys
        assert {name for name, _ in model.named_parameters() if ".lora_" in name} == {
            f"base_model.model.{name}" for name in adapters
        }, "the same layers have adapters"
    else:
        learnt = {name for name, parameter in ours.named_parameters() if parameter.requires_grad}
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name in learnt)
    num_steps = train.num_steps or 0
    return plain_losses(model, train, lambda step: documents(family, step), lambda output: [output.logits], num_steps)


@pytest.mark.parametrize(("family", "method"), sorted({(family, method) for family, method, _ in CASES}))
def test_losses_equal_those_of_plain_transformers_and_peft(
    root: Path, trained: dict[Any, dict[str, Any]], family: str, method: str
) -> None:
    plain = _plain_losses(family, method, root)
    for case in CASES:
        if case[:2] == (family, method):
            assert trained[case]["losses"] == pytest.approx(plain, abs=1e-5), case
    assert plain[-1] < plain[0], "it learns, or nothing would be compared"


@pytest.mark.proof
@pytest.mark.proof_parity
def test_losses_equal_those_of_plain_transformers_and_peft_for_long(root: Path, tmp_path: Path) -> None:
    long, other = run_ranks(2, _train_long, str(root), out=tmp_path)
    assert long == other
    plain: dict[Any, list[float]] = {}
    for (family, method, stage), losses in long.items():
        if (family, method) not in plain:
            plain[family, method] = _plain_losses(family, method, root, **LONG_TRAINING)
        expected = plain[family, method]
        assert losses[:NUM_STEPS] == pytest.approx(expected[:NUM_STEPS], rel=1e-5), (family, method, stage)
        assert losses == pytest.approx(expected, rel=1e-4), (family, method, stage)
        assert expected[-1] < 0.9 * expected[0], f"{family} learns by {method}, or nothing would be compared"


def test_activations_may_be_computed_anew_over_a_frozen_base_in_shares(trained: dict[Any, dict[str, Any]]) -> None:
    found = trained["bert", "lora", 3]
    assert found["recomputed"] == pytest.approx(found["losses"][:SAVED_AT], abs=1e-6)


def test_what_is_frozen_stays_as_it_was_bit_for_bit(trained: dict[Any, dict[str, Any]]) -> None:
    for case, found in trained.items():
        assert found["moved"] <= found["trained"], case
        assert len(found["moved"]) > 0.8 * len(found["trained"]), case
        if case[1] != "full":
            assert found["num_trained"] < found["num_parameters"], case


def test_what_trains_is_what_the_method_says(trained: dict[Any, dict[str, Any]]) -> None:
    pooler = {"bert.pooler.dense.weight", "bert.pooler.dense.bias"}  # masked language models have none
    head = {"classifier.weight", "classifier.bias"} | pooler
    for (family, method, _), found in trained.items():
        match family, method:
            case "bert", "head_only":
                assert found["trained"] == head
            case "bert", "lora":
                others = {name for name in found["trained"] if ".lora_" not in name}
                assert others == head
            case "gpt2", "frozen":
                upper = {name for name in found["trained"] if not name.startswith("transformer.h.1.")}
                assert upper == {"transformer.ln_f.weight", "transformer.ln_f.bias"}
            case "t5", "frozen":
                assert not any(".block.0." in name or name == "shared.weight" for name in found["trained"])
                assert any(name.startswith("encoder.block.1.") for name in found["trained"])
                assert any(name.startswith("decoder.block.1.") for name in found["trained"])


def test_a_run_goes_on_at_another_stage_and_world_size(
    root: Path, trained: dict[Any, dict[str, Any]], tmp_path: Path
) -> None:
    [resumed] = run_ranks(1, _resume, str(root), out=tmp_path)
    for case in RESUMED:
        assert resumed[case] == pytest.approx(trained[case]["losses"][SAVED_AT:], abs=2e-6), case


def test_a_checkpoint_has_what_trains_and_nothing_of_the_base(root: Path, trained: dict[Any, dict[str, Any]]) -> None:
    for (family, method, stage), found in trained.items():
        folder = root / f"{family}-{method}-{stage}/checkpoints/step-{SAVED_AT:08d}-attempt-01"
        files = list(folder.glob("*.safetensors"))
        names: set[str] = set()
        num_bytes = 0
        for file in files:
            with safe_open(file, "pt") as tensors:
                kept = [name for name in tensors.keys() if "|" in name]  # noqa: SIM118
                names |= {name.partition("|")[0] for name in kept if not name.endswith("|buffer")}
                num_bytes += sum(tensors.get_tensor(name).nbytes for name in kept)
        assert names == found["trained"]
        assert num_bytes == 12 * found["num_trained"], "a master and two moments of each"
        assert num_bytes < 12 * found["num_parameters"] or method == "full"


def _loaded(folder: Path, family: str) -> Any:
    kind: Any = {"gpt2": AutoModelForCausalLM, "t5": AutoModelForSeq2SeqLM}.get(
        family, AutoModelForSequenceClassification
    )
    model, info = kind.from_pretrained(folder, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    return model


@pytest.mark.parametrize("stage", [1, 3])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_export_and_the_adapter_on_its_base_say_what_the_engine_said(
    root: Path, trained: dict[Any, dict[str, Any]], family: str, stage: int
) -> None:
    folder = root / f"{family}-lora-{stage}/model"
    expected = trained[family, "lora", stage]["logits"]
    assert torch.allclose(plain_logits(_loaded(folder, family), family), expected, atol=1e-5, rtol=0)
    base = plain_base(family, root / family, build(family, root / family, FULL))
    assert not torch.allclose(plain_logits(base, family), expected, atol=1e-3, rtol=0), "it has learnt something"
    adapted = PeftModel.from_pretrained(base, str(folder / "adapter"))
    assert torch.allclose(plain_logits(adapted, family), expected, atol=1e-5, rtol=0)
    manifest = read_manifest(Folder(str(folder)))
    assert manifest is not None
    assert {"adapter/adapter_config.json", "adapter/adapter_model.safetensors"} <= manifest.files.keys()


@pytest.mark.parametrize("stage", [1, 3])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_checkpoint_and_the_base_make_the_same_export_without_an_engine(
    root: Path, trained: dict[Any, dict[str, Any]], tmp_path: Path, family: str, stage: int
) -> None:
    run = Folder(str(root / f"{family}-lora-{stage}"))
    checkpoint = run / f"checkpoints/step-{NUM_STEPS:08d}-attempt-01"
    manifest = read_manifest(checkpoint)
    assert manifest is not None
    about = {"method": LORA.model_dump(mode="json")}
    manifest.about["model"] = {"about": about, "card": "# A card\n"}
    export_checkpoint(run, checkpoint, manifest, Folder(str(tmp_path)), base=root / family)
    for name in ("model.safetensors", "adapter/adapter_model.safetensors"):
        ours, engines = load_file(tmp_path / name), load_file(root / f"{family}-lora-{stage}/model" / name)
        assert ours.keys() == engines.keys()
        assert all(torch.equal(ours[key], engines[key]) for key in engines)
    assert (tmp_path / "adapter/adapter_config.json").read_bytes() == (
        root / f"{family}-lora-{stage}/model/adapter/adapter_config.json"
    ).read_bytes()
    about["method"]["rank"] = 5
    with pytest.raises(CheckpointError, match="are on one side only"):
        export_checkpoint(run, checkpoint, manifest, Folder(str(tmp_path / "other")), base=root / family)
