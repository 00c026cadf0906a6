"""A LoRA fine-tuning by the command line: stopped, gone on with, exported from its checkpoint, uploaded."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from llmcore.records import newest_result, step_of
from llmcore.storage import Folder, read_manifest
from llmcore.train.kept import complete_names
from tests.bases import WORDS, write_early_or_late
from tests.drivers import Ended, run_jobs, start_jobs, wait_for
from tests.faults import sessions
from tests.hubs import Hub
from tests.tiny import write_config

if TYPE_CHECKING:
    from cluster.connect import Session

NUM_STEPS = 40
NAME = "owner/tiny-lora"
WEIGHTS = ["model.safetensors", "adapter/adapter_model.safetensors"]


def _config(root: Path) -> dict[str, Any]:
    """The class hangs on the first word; there is a checkpoint each step, so that a stop finds one at once."""
    files = write_early_or_late(root)
    return {
        "name": "lora",
        "storage": str(root / "runs"),
        "base": str(root / "base"),
        "data": files,
        "task": {"max_tokens": 16},
        "method": {"name": "lora", "rank": 4, "alpha": 8},
        "train": {
            "num_steps": NUM_STEPS,
            "global_batch_size": 6,
            "zero_stage": 2,
            "precision": "fp32",
            "optimizer": {"learning_rate": 2e-2},
            "log_every": 1,
            "checkpoint_every": 1,
        },
        "workers": {"num_workers": 2, "cpus_per_worker": 0.5, "threads_per_worker": 1},
        "push_to_hub": NAME,
    }


def _stop(config: Path, run: Folder, environment: dict[str, str]) -> int:
    """Asks a start to stop when it has a checkpoint; the step that it saved last."""
    log, checkpoints = config.parent / "stopped.log", run / "checkpoints"
    driver = start_jobs("finetune", str(config), cwd=config.parent, output=log, **environment)
    assert wait_for(lambda: bool(complete_names(checkpoints)), driver), log.read_text()
    driver.terminate()
    assert driver.wait(120) == 130, log.read_text()
    return step_of(complete_names(checkpoints)[-1])


def _logits(model: Any, base: Path) -> torch.Tensor:
    tokenizer = AutoTokenizer.from_pretrained(base)
    with torch.inference_mode():
        return torch.cat([model.eval()(**tokenizer(text, return_tensors="pt")).logits for text in WORDS])


def test_it_is_stopped_gone_on_with_exported_and_uploaded(ray_session: "Session", tmp_path: Path) -> None:
    config = write_config(tmp_path / "lora.yaml", _config(tmp_path))
    run, hub = Folder(str(tmp_path / "runs")) / "lora", Hub()
    with hub.serving() as its_own:
        environment = its_own | ray_session.for_stages

        def ended(*arguments: str) -> Ended:
            ended = run_jobs(*arguments, cwd=tmp_path, **environment)
            assert ended.code == 0, ended.out + ended.err
            return ended

        stopped_at = _stop(config, run, environment)
        assert not hub.files, "nothing is uploaded before it has ended"
        ended("finetune", str(config))
        result = newest_result(run)
        assert result is not None and result["num_steps"] == NUM_STEPS
        assert result["num_trained_parameters"] < 0.1 * result["num_parameters"]
        assert 0 < stopped_at < NUM_STEPS and sessions(run, 2) == [stopped_at], "no step is taken again"
        model = Path((run / "model").url)
        assert hub.files == {NAME: _files(model)}, "what arrived is the model folder"
        base = shutil.move(tmp_path / "base", tmp_path / "moved")  # its copy is enough
        exported = tmp_path / "exported"
        places = ["--storage", str(tmp_path / "runs"), "--to", str(exported), "--push-to-hub", "owner/exported"]
        ended("export", "lora", *places)
        assert hub.files["owner/exported"] == _files(exported)
    for name in WEIGHTS:
        ours, published = load_file(exported / name), load_file(model / name)
        assert ours.keys() == published.keys()
        assert all(torch.equal(ours[key], published[key]) for key in published), name

    merged = _logits(AutoModelForSequenceClassification.from_pretrained(model), base)
    plain = AutoModelForSequenceClassification.from_pretrained(base, num_labels=2)
    adapted = _logits(PeftModel.from_pretrained(plain, str(model / "adapter")), base)
    assert torch.allclose(adapted, merged, atol=1e-5, rtol=0)
    assert result["validation_macro_f1"] > 0.9, "it has learnt something"


def _files(folder: Path) -> dict[str, bytes]:
    """What a published folder has, but for what says so."""
    manifest = read_manifest(Folder(str(folder)))
    assert manifest is not None
    return {name: (folder / name).read_bytes() for name in manifest.files}
