"""A checkpoint that a bare DeepSpeed engine saved on two ranks is a base model: its master's weights, bit for bit."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import distributed
from transformers import AutoModelForCausalLM, AutoModelForPreTraining

from llmcore.config.task import TaskSettings
from llmcore.errors import ConfigError
from llmcore.models.deepspeed_checkpoint import write_master_weights
from llmcore.storage import Folder, verify_files
from llmcore.tasks import build_task
from llmcore.tasks.base import SetFacts
from llmcore.tasks.bases import base_model, check_base
from tests.bases import write_base
from tests.ranks import run_ranks

AUTO: dict[str, Any] = {"gpt2": AutoModelForCausalLM, "bert": AutoModelForPreTraining}


class Case(NamedTuple):
    """What saved a checkpoint."""

    family: str
    stage: int
    precision: str = "fp32"


CASES = [
    *(Case("gpt2", stage) for stage in range(4)),
    Case("gpt2", 2, "bf16"),
    Case("gpt2", 3, "bf16"),
    Case("bert", 3),
]


def _name(case: Case) -> str:
    return f"{case.family}-{case.stage}-{case.precision}"


def _groups(model: torch.nn.Module) -> list[dict[str, Any]]:
    """As most training loops have them, of which the second is not decayed."""
    parameters = list(model.parameters())
    return [
        {"params": [parameter for parameter in parameters if parameter.dim() >= 2], "weight_decay": 0.1},
        {"params": [parameter for parameter in parameters if parameter.dim() < 2], "weight_decay": 0.0},
    ]


def _train_and_save(root: str) -> dict[Case, dict[str, torch.Tensor]]:
    """The weights of each case's master copy after some steps, asked of the engine itself."""
    import deepspeed
    from deepspeed.utils import safe_get_full_fp32_param

    from llmcore.train.shared_buffer import unlink_shared_buffer

    masters: dict[Case, dict[str, torch.Tensor]] = {}
    for case in CASES:
        model = AUTO[case.family].from_pretrained(f"{root}/{case.family}", dtype=torch.float32)
        engine, *_ = deepspeed.initialize(
            model=model,
            optimizer=torch.optim.AdamW(_groups(model), lr=1e-2),
            config={
                "train_micro_batch_size_per_gpu": 1,
                "bf16": {"enabled": case.precision == "bf16"},
                "zero_optimization": {"stage": case.stage, "reduce_bucket_size": 100_000},
            },
            dist_init_required=False,
        )
        unlink_shared_buffer()
        for step in range(3):
            seed = torch.Generator().manual_seed(2 * step + distributed.get_rank())
            ids = torch.randint(2, 300, (1, 16), generator=seed)
            engine.backward(engine(input_ids=ids)[0].float().square().mean())
            engine.step()
        saved = Path(root, _name(case))
        engine.save_checkpoint(str(saved))
        of_master = safe_get_full_fp32_param if case.stage else torch.Tensor.detach
        named = list(model.named_parameters())
        masters[case] = {name: of_master(parameter).clone() for name, parameter in named}  # type: ignore[operator]
    return masters


Saved = tuple[Path, dict[Case, dict[str, torch.Tensor]]]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Saved:
    root = tmp_path_factory.mktemp("deepspeed")
    for family in AUTO:
        write_base(root / family, family)
    [masters, _] = run_ranks(2, _train_and_save, str(root), out=root / "out")
    for case in CASES:  # as transformers' Trainer does
        for file in (root / case.family).iterdir():
            if file.suffix != ".safetensors":
                shutil.copy(file, root / _name(case))
    return root, masters


@pytest.mark.parametrize("case", CASES, ids=_name)
def test_its_weights_are_the_masters(saved: Saved, case: Case, tmp_path: Path) -> None:
    root, masters = saved
    folder, manifest = base_model(Folder(str(tmp_path)), str(root / _name(case)))
    verify_files(folder, manifest)
    assert folder.url.startswith(f"{tmp_path}/artifacts/base-models/")
    model = AUTO[case.family].from_pretrained(folder.url, dtype=torch.float32)
    found = dict(model.named_parameters())
    assert found.keys() == masters[case].keys()
    before = AUTO[case.family].from_pretrained(root / case.family, dtype=torch.float32).state_dict()
    assert not all(torch.equal(master, before[name]) for name, master in masters[case].items()), "it has learnt"
    for name, master in masters[case].items():
        assert torch.equal(found[name], master), name
    check_base(build_task(TaskSettings(kind="text_classification"), SetFacts(("a", "b"))), folder)


def test_a_large_one_is_several_files(saved: Saved, tmp_path: Path) -> None:
    root, masters = saved
    case = Case("gpt2", 3)
    write_master_weights(root / _name(case) / "global_step3", tmp_path, shard_bytes=20_000)
    shutil.copy(root / "gpt2/config.json", tmp_path)
    assert len(list(tmp_path.glob("*.safetensors"))) > 2
    found = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).state_dict()
    assert all(torch.equal(found[name], master) for name, master in masters[case].items())


def test_it_is_read_once(saved: Saved, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, _ = saved
    checkpoint = shutil.copytree(root / "gpt2-2-fp32", tmp_path / "given")
    storage = Folder(str(tmp_path / "runs"))
    first = base_model(storage, str(checkpoint))
    monkeypatch.chdir(tmp_path)
    moved = checkpoint.rename(tmp_path / "moved")
    monkeypatch.setattr("llmcore.tasks.converted.publish_converted", None)
    assert base_model(storage, moved.name) == first


def test_safetensors_beside_it_are_taken(saved: Saved, tmp_path: Path) -> None:
    root, _ = saved
    checkpoint = shutil.copytree(root / "gpt2-3-bf16", tmp_path / "given")
    shutil.copy(root / "gpt2/model.safetensors", checkpoint)
    folder, _ = base_model(Folder(str(tmp_path / "runs")), str(checkpoint))
    assert (Path(folder.url) / "model.safetensors").read_bytes() == (root / "gpt2/model.safetensors").read_bytes()


def _without_config(checkpoint: Path) -> None:
    (checkpoint / "config.json").unlink()


def _without_a_rank(checkpoint: Path) -> None:
    (checkpoint / "global_step3/zero_pp_rank_1_mp_rank_00_optim_states.pt").unlink()


def _without_the_optimizer(checkpoint: Path) -> None:
    for rank in (0, 1):
        (checkpoint / f"global_step3/zero_pp_rank_{rank}_mp_rank_00_optim_states.pt").unlink()


def _cut_off(checkpoint: Path) -> None:
    file = checkpoint / "global_step3/zero_pp_rank_0_mp_rank_00_optim_states.pt"
    file.write_bytes(file.read_bytes()[:1000])


def _of_an_absent_step(checkpoint: Path) -> None:
    (checkpoint / "latest").write_text("global_step9")


def _of_another_family(checkpoint: Path) -> None:
    shutil.copy(checkpoint.parent / "bert/config.json", checkpoint)


def _of_other_sizes(checkpoint: Path) -> None:
    config = json.loads((checkpoint / "config.json").read_text())
    (checkpoint / "config.json").write_text(json.dumps(config | {"n_embd": 64}))


def _wrapped(checkpoint: Path) -> None:
    file = checkpoint / "global_step3/mp_rank_00_model_states.pt"
    told = torch.load(file, weights_only=True)
    [*groups] = told["param_shapes"]
    told["param_shapes"] = [{f"net.{name}": shape for name, shape in group.items()} for group in groups]
    torch.save(told, file)


class _Runs:
    def __reduce__(self) -> Any:
        return Path.touch, (Path("it-was-run"),)


def _that_runs_code(checkpoint: Path) -> None:
    file = checkpoint / "global_step3/mp_rank_00_model_states.pt"
    torch.save(torch.load(file, weights_only=True) | {"client": _Runs()}, file)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_without_config, r"is a checkpoint of DeepSpeed without a config\.json, .* put the model's beside it"),
        (
            _without_a_rank,
            r"is no whole checkpoint of DeepSpeed \(Expected 2 of '\*_optim_states\.pt' .* found 1 ",
        ),
        (_without_the_optimizer, "is no whole checkpoint of DeepSpeed .*can't find .*_optim_states"),
        (_cut_off, r"is no whole checkpoint of DeepSpeed \(.*zip archive.*\): give one whose ranks have all written"),
        (_of_an_absent_step, "`latest` names global_step9, and no checkpoint is there"),
        (_of_another_family, "the weights of .*/global_step3 are not those of the bert in the config.json beside it"),
        (_of_other_sizes, r"of the gpt2 .*c_attn\.bias is \[96\] there, and the model's is \[192\]"),
        (_wrapped, "of the gpt2 in .* save the transformers model itself, not one that wraps it"),
        (_that_runs_code, r"a pickle that makes .*pathlib\.Path.*: only tensors and plain values are read"),
    ],
)
def test_what_is_no_checkpoint_of_a_model_is_refused(
    saved: Saved, damage: Callable[[Path], None], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, _ = saved
    checkpoint = shutil.copytree(root / "gpt2-2-fp32", tmp_path / "given")
    shutil.copytree(root / "bert", tmp_path / "bert")
    damage(checkpoint)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=message):
        base_model(Folder(str(tmp_path / "runs")), str(checkpoint))
    assert not list(tmp_path.glob("runs/artifacts/*/*/manifest.json")), "nothing is published"
    assert not Path("it-was-run").exists()
