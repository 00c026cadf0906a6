"""The commands on a machine with a GPU: who is given none computes on the CPU, all others on the GPU, in turn."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from llmcore.records import read_metrics
from tests.bases import WORDS, write_model
from tests.drivers import environment, run
from tests.tiny import tiny_pipeline, write_corpus
from tests.workshop import Workshop

ONE = {"num_workers": 1, "cpus_per_worker": 0.5}


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    return Workshop(tmp_path_factory.mktemp("gpu"))


def _device(workshop: Workshop, name: str) -> str:
    [newest] = sorted(workshop.path(name).glob("attempts/*/cost.json"))[-1:]
    return str(json.loads(newest.read_text())["device"])


def test_a_pipeline_trains_searches_and_judges_on_one_gpu(workshop: Workshop, tmp_path: Path) -> None:
    config = tiny_pipeline(write_corpus(tmp_path / "corpus"), tmp_path)
    stages = config["stages"]
    stages["evaluate"]["workers"] = ONE
    for stage in (stages["pretrain"], stages["tune"]["finetune"]):
        stage["workers"] = ONE
        stage["train"]["precision"] = "auto"
    kept = {key: value for key, value in config.items() if key not in ("name", "storage", "cluster")}
    workshop.run("pipeline", "tiny", kept)
    assert _device(workshop, "tiny.pretrain") == torch.cuda.get_device_name()
    rows = read_metrics(workshop.storage / "tiny.pretrain")
    assert all(0 < row["mfu"] < 1 for row in rows if "mfu" in row) and any("mfu" in row for row in rows)
    content = json.loads((workshop.path("tiny.evaluate") / "evaluation/metrics.json").read_text())
    assert "random_weights" in content["baselines"]


@pytest.mark.parametrize("method", ["full", "lora", "qlora"])
def test_a_model_is_fine_tuned_and_judged(workshop: Workshop, tmp_path: Path, method: str) -> None:
    """The twin of random weights has its turn at the GPU while the models are judged."""
    if method == "qlora":
        pytest.importorskip("bitsandbytes", reason="the extra qlora is not installed")
    settings = _labelled(tmp_path)
    how = {} if method == "full" else {"method": {"name": method, "rank": 4, "alpha": 8}}
    workshop.run("finetune", method, settings | how)
    assert _device(workshop, method) == torch.cuda.get_device_name()
    workshop.run("evaluate", f"{method}.judged", {"models": {"model": method}, "num_resamples": 100})
    content = workshop.judged(f"{method}.judged")
    assert content["models"][0]["test"]["accuracy"]["value"] > 0.8
    assert "chosen - random_weights" in content["differences"]


def test_workers_without_gpus_stay_on_the_cpu(workshop: Workshop, tmp_path: Path) -> None:
    workers = {"num_workers": 2, "cpus_per_worker": 0.5, "gpus_per_worker": 0}
    workshop.run("finetune", "cpu", _labelled(tmp_path) | {"workers": workers})
    assert _device(workshop, "cpu") == "cpu"


def test_a_model_is_tried_at_the_terminal(workshop: Workshop, tmp_path: Path) -> None:
    base = write_model(tmp_path / "base", "gpt2", "causal_lm", {"n_embd": 32, "n_layer": 1, "n_head": 2}, **_TEXTS)
    command = ["-m", "jobs", "generate", str(base), "--prompt", "red cat", "max_new_tokens=8"]
    ended = run([sys.executable, *command], cwd=tmp_path, env=environment(), timeout_s=300)
    assert ended.code == 0, ended.err


_TEXTS: dict[str, Any] = {"texts": [text for pair in WORDS.items() for text in pair] * 3, "longest": 96}


def _labelled(folder: Path) -> dict[str, Any]:
    """The class hangs on the first word."""
    early = [*WORDS][: len(WORDS) // 2]
    rows = [f"{one} {other},{'early' if one in early else 'late'}" for one in WORDS for other in WORDS]
    files = {"train": rows[::2], "validation": rows[1::4], "test": rows[3::4]}
    for split, lines in files.items():
        (folder / f"{split}.csv").write_text("\n".join(["text,label", *lines]), encoding="utf-8")
    llama = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128}
    write_model(folder / "base", "llama", "causal_lm", llama, **_TEXTS)
    return {
        "base": str(folder / "base"),
        "data": {split: str(folder / f"{split}.csv") for split in files},
        "task": {"kind": "text_classification", "max_tokens": 16},
        "train": {
            "num_steps": 60,
            "global_batch_size": 6,
            "zero_stage": 2,
            "optimizer": {"learning_rate": 1e-2},
            "log_every": 1,
        },
        "workers": ONE,
    }
