"""Plans of what reads a base model and a labelled set, and of pipelines: nothing is trained, and nothing written."""

from pathlib import Path
from typing import Any

import pytest
from torch import nn

from jobs.plan import PlanOptions, asked, plan
from jobs.runtime.plans_of import plan_of_fine_tuning, plan_of_search, plan_of_transfer
from llmcore.config.finetune import FinetuneConfig
from llmcore.config.method import MethodSettings
from llmcore.config.transfer import TransferConfig
from llmcore.config.tune import TuneConfig
from llmcore.errors import CorpusError
from llmcore.models.methods import apply_method
from llmcore.storage import Folder
from llmcore.tasks.text_classification import TextClassification
from tests.bases import write_base, write_early_or_late
from tests.tiny import write_config

TRAIN = {"num_epochs": 4, "global_batch_size": 6, "micro_batch_size": 3}


def _config(root: Path, **settings: Any) -> FinetuneConfig:
    files = write_early_or_late(root)
    given = {"name": "tuned", "storage": str(root / "runs"), "base": str(root / "base"), "data": {"name": "d", **files}}
    task = {"kind": "text_classification", "max_tokens": 16}
    return FinetuneConfig.model_validate(given | {"task": task, "train": TRAIN} | settings)


def _asked(**options: Any) -> Any:
    return asked(PlanOptions(**options), Folder("/nowhere"))


def _trained(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


@pytest.mark.parametrize(
    "method", [{"name": "full"}, {"name": "lora", "rank": 2}, {"name": "head_only"}, {"name": "qlora", "rank": 2}]
)
def test_a_fine_tuning_is_planned_from_its_base_and_its_rows(method: dict[str, Any], tmp_path: Path) -> None:
    config = _config(tmp_path, method=method)
    planned = plan_of_fine_tuning(config, Folder(config.storage), _asked())
    task = TextClassification(16, "macro_f1", ("early", "late"))
    model = task.build_model(tmp_path / "base", seed=0, random_weights=False)
    whole = MethodSettings.model_validate(method | ({"name": "lora"} if method["name"] == "qlora" else {}))
    apply_method(model, whole, seed=0)
    sizes = planned.needs.load.sizes
    assert sizes.num_trained == _trained(model)
    assert sizes.num_parameters == sum(parameter.numel() for parameter in model.parameters())
    assert planned.num_steps == 12, "four times 18 rows in batches of 6"
    assert planned.checkpoint_bytes == 12 * sizes.num_trained
    assert 2 < planned.needs.tokens_per_row < 16
    assert not (tmp_path / "runs").exists(), "a plan writes nothing"


@pytest.mark.parametrize("family", ["bert", "gpt2", "t5"])
@pytest.mark.parametrize("kind", ["question_answering", "translation", "text_generation", "chat"])
def test_every_kind_of_task_is_counted_without_memory(kind: str, family: str, tmp_path: Path) -> None:
    if (kind == "question_answering") != (family == "bert") or (kind == "chat" and family == "t5"):
        pytest.skip("models of this family do not give such answers")
    write_base(tmp_path / "base", family)
    rows = {
        "question_answering": '{"id": "%d", "context": "red cat %d", "question": "cat", '
        '"answers": {"text": ["cat"], "answer_start": [4]}}',
        "translation": '{"source": "red cat %d", "target": "rot Katze"}',
        "text_generation": '{"prompt": "red cat %d", "completion": "blue dog"}',
        "chat": '{"messages": [{"role": "user", "content": "red %d"}, {"role": "assistant", "content": "rot"}]}',
    }[kind]
    splits = ("train", "validation", "test")
    for place, split in enumerate(splits):
        numbers = range(100 * place, 100 * place + 8)
        lines = [rows.replace("%d", str(number)) for number in numbers]
        (tmp_path / f"{split}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    files = {split: str(tmp_path / f"{split}.jsonl") for split in splits}
    task: dict[str, Any] = {"kind": kind, "max_tokens": 48}
    config = FinetuneConfig.model_validate(
        {
            "name": "tuned",
            "storage": str(tmp_path / "runs"),
            "base": str(tmp_path / "base"),
            "data": {"name": "d", **files},
            "task": task,
            "train": TRAIN,
        }
    )
    planned = plan_of_fine_tuning(config, Folder(config.storage), _asked())
    load = planned.needs.load
    assert planned.needs.flops_per_token > 6 * 1000 and load.activations.per_row > load.checkpointed.per_row > 0


def _search(root: Path, **settings: Any) -> TuneConfig:
    of_trial = _config(root)
    train = of_trial.train.model_dump(mode="json") | {"validate_every": 1}
    given = {
        "name": "search",
        "storage": of_trial.storage,
        "base": of_trial.base,
        "data": of_trial.data.model_dump(mode="json", exclude_none=True),  # type: ignore[union-attr]
        "finetune": {"task": {"kind": "text_classification", "max_tokens": 16}, "train": train},
        "space": {"train.optimizer.learning_rate": {"log_uniform": [1e-5, 1e-3]}},
        "num_trials": 9,
    }
    return TuneConfig.model_validate(given | settings)


def test_a_search_is_its_trials_less_what_is_stopped(tmp_path: Path) -> None:
    options = {"device": "L4", "num_devices": 5, "utilization": "0.5"}
    whole = plan_of_search(_search(tmp_path, scheduler="fifo"), Folder("/nowhere"), _asked(**options))
    assert (whole.num_trials, whole.share, whole.num_concurrent) == (9, (1.0, 1.0), 2)
    assert whole.trial.hours is not None and whole.device_hours is not None and whole.hours is not None
    assert whole.device_hours[0] == pytest.approx(9 * 2 * whole.trial.hours[0])
    assert whole.hours[0] == pytest.approx(whole.device_hours[0] / 4)

    asha = {"grace_reports": 1, "reduction_factor": 3}
    halved = plan_of_search(_search(tmp_path, asha=asha, final_seeds=[1, 2]), Folder("/nowhere"), _asked(**options))
    # Of 12 reports all trials make one, a third two more, a ninth six more, and a 27th the last three.
    assert halved.share == (pytest.approx((1 + 2 / 3 + 6 / 9 + 3 / 27) / 12), 1.0)
    assert halved.num_finals == 2 and halved.device_hours is not None
    assert halved.device_hours[0] == pytest.approx((9 * halved.share[0] + 2) * 2 * whole.trial.hours[0])


def test_a_grid_is_as_large_as_it_is(tmp_path: Path) -> None:
    space = {"train.seed": {"grid": [1, 2, 3]}, "train.optimizer.learning_rate": {"grid": [1e-4, 1e-3]}}
    given = {"searcher": "grid", "space": space, "num_trials": None}
    assert plan_of_search(_search(tmp_path, **given), Folder("/nowhere"), _asked()).num_trials == 6


def test_what_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="nobody"):
        plan_of_fine_tuning(_config(tmp_path).model_copy(update={"base": "nobody"}), Folder(str(tmp_path)), _asked())


def test_a_pipeline_is_planned_stage_by_stage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = write_early_or_late(tmp_path)
    train = {"num_steps": 3, "global_batch_size": 4, "micro_batch_size": 2}
    stages = {
        "books": {
            "job": "prepare",
            "sources": [{"name": "s", "builtin": "python_stdlib"}],
            "tokenizer": {"vocab_size": 512},
            "packing": {"sequence_length": 64},
        },
        "gpt": {
            "job": "pretrain",
            "tokens": "${books}",
            "model": {"sizes": {"n_embd": 32, "n_layer": 1, "n_head": 2}},
            "train": train,
        },
        "there": {
            "job": "finetune",
            "base": str(tmp_path / "base"),
            "data": {"name": "d", **files},
            "task": {"max_tokens": 16},
            "train": train,
        },
        "later": {
            "job": "finetune",
            "base": "${gpt}",
            "data": {"name": "d", **files},
            "task": {"max_tokens": 16},
            "train": train,
        },
    }
    config = write_config(tmp_path / "all.yaml", {"name": "all", "storage": str(tmp_path / "runs"), "stages": stages})
    plan(config, [], PlanOptions())
    shown = capsys.readouterr().out
    assert "with 512 entries" in shown and "256 a step, 3 steps: 768 tokens" in shown, "four rows of 64, as is prepared"
    assert "18 examples" in shown and "is planned when gpt is done" in shown
    assert not (tmp_path / "runs").exists()


def test_a_transfer_is_planned_by_its_largest_point(tmp_path: Path) -> None:
    alone = _config(tmp_path, train=TRAIN | {"num_epochs": 3})
    given = {name: getattr(alone, name) for name in ("name", "storage", "base", "data", "task")}
    train = {name: value for name, value in TRAIN.items() if name != "num_epochs"}
    config = TransferConfig.model_validate(given | {"train": train, "labels": [6, 18], "epochs": [1, 3]})
    planned = plan_of_transfer(config, Folder(config.storage), _asked(device="L4"))
    beside = plan_of_fine_tuning(alone, Folder(config.storage), _asked(device="L4"))
    assert planned.largest.num_steps == beside.num_steps == 9
    assert planned.largest.memory == beside.memory
    assert (planned.num_points, planned.num_steps) == (8, 2 * (1 + 3 + 3 + 9))
    assert beside.flops is not None and planned.flops == pytest.approx(beside.flops * 32 / 9)
    assert planned.device_hours is not None and beside.hours is not None
    assert planned.device_hours[0] == pytest.approx(beside.hours[0] * 2 * 32 / 9)
    assert planned.largest.num_checkpoints == 0, "a point leaves none"
    assert not (tmp_path / "runs").exists(), "a plan writes nothing"
