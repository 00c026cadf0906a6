"""What a fine-tuning refuses before a worker starts."""

from pathlib import Path
from typing import Any

import pytest

from jobs.finetune import KIND, STEP_VERSION, Inputs, check_fits_cluster, check_method, find_inputs, finished
from jobs.runtime import training
from llmcore.config.common import WorkerSettings
from llmcore.config.finetune import FinetuneConfig
from llmcore.errors import ConfigError
from llmcore.records import begin_attempt
from llmcore.storage import Folder, publish
from llmcore.tasks import bases
from llmcore.tokens import tokenizer
from tests.bases import WORDS
from tests.bases import write_base as write_base_with_tokenizer
from tests.fine_tuned import write_base


def _config(**method: object) -> FinetuneConfig:
    return FinetuneConfig.model_validate(
        {"name": "a", "storage": "/s", "base": "b", "data": "p/d", "train": {"num_steps": 1}, "method": method}
    )


def test_4_bits_are_refused_where_workers_have_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "gpus_per_worker", lambda _: 0.0)
    with pytest.raises(ConfigError, match=r"method\.name=qlora needs GPUs, and the workers have none: use name=lora"):
        check_fits_cluster(_config(name="qlora"))


@pytest.mark.parametrize(
    ("has", "workers", "told"),
    [
        (1.0, {"num_workers": 2}, r"has 1 GPU for 2 workers, who stay on the CPU: set workers.num_workers=1 "),
        (1.0, {"elastic": [2, 3]}, "has 1 GPU for 2 to 3 workers"),
        (1.0, {"num_workers": 2, "gpus_per_worker": 0}, None),
        (2.0, {"num_workers": 2}, None),
        (0.0, {"num_workers": 2}, None),
    ],
)
def test_gpus_that_are_too_few_are_told_of(
    monkeypatch: pytest.MonkeyPatch, has: float, workers: dict[str, Any], told: str | None
) -> None:
    monkeypatch.setattr("ray.cluster_resources", lambda: {"GPU": has})
    settings = WorkerSettings.model_validate(workers)
    said = training.idle_gpus(settings)
    assert said is None if told is None else said is not None and told in said
    assert training.gpus_per_worker(settings) == (1.0 if has >= 2 else 0.0)


def test_a_method_is_held_against_the_base(tmp_path: Path) -> None:
    write_base("bert", tmp_path)
    inputs = Inputs(Folder(str(tmp_path)), "0" * 64, None)  # type: ignore[arg-type]  # no data is looked at
    check_method(_config(name="lora"), inputs)
    with pytest.raises(ConfigError, match=r"method\.frozen_layers=3: the model has 2 layers"):
        check_method(_config(frozen_layers=3), inputs)


def test_a_start_with_nothing_to_do_loads_no_tokenizer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_base_with_tokenizer(tmp_path / "base", "bert")
    lines = [f"{word},{word[0]}" for word in WORDS]
    files = {split: str(tmp_path / f"{split}.csv") for split in ("train", "validation", "test")}
    for place, file in enumerate(files.values()):
        Path(file).write_text("\n".join(["text,label", *lines[2 * place :][:2]]), encoding="utf-8")
    labels = {"label_names": {word[0]: word[0] for word in WORDS}}
    config = FinetuneConfig.model_validate(
        {
            "name": "done",
            "storage": str(tmp_path / "runs"),
            "base": str(tmp_path / "base"),
            "data": files | labels,
            "task": {"max_tokens": 16},
            "train": {"num_steps": 1},
        }
    )
    storage, loaded = Folder(config.storage), []

    def load_tokenizer(folder: Folder) -> Any:
        loaded.append(folder.url)
        return tokenizer.load_tokenizer(folder)

    monkeypatch.setattr(bases, "load_tokenizer", load_tokenizer)
    assert finished(config, storage) is None
    assert len(loaded) == 1, "what is to be done is checked"
    inputs = find_inputs(storage, config.base, config.data, config.task).hashes()
    with begin_attempt(storage, config, kind=KIND, step_version=STEP_VERSION, inputs=inputs) as attempt:
        with publish(attempt.run / "model", "model", {}):
            pass
        attempt.result["model"] = "done/model"
    assert finished(config, storage) == {"model": "done/model"}
    assert len(loaded) == 1
