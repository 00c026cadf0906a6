"""What a fine-tuning refuses before a worker starts."""

from pathlib import Path

import pytest

from jobs.finetune import Inputs, check_fits_cluster, check_method
from jobs.runtime import training
from llmcore.config.finetune import FinetuneConfig
from llmcore.errors import ConfigError
from llmcore.storage import Folder
from tests.fine_tuned import write_base


def _config(**method: object) -> FinetuneConfig:
    return FinetuneConfig.model_validate(
        {"name": "a", "storage": "/s", "base": "b", "data": "p/d", "train": {"num_steps": 1}, "method": method}
    )


def test_4_bits_are_refused_where_workers_have_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "gpus_per_worker", lambda _: 0.0)
    with pytest.raises(ConfigError, match=r"method\.name=qlora needs GPUs, and the workers have none: use name=lora"):
        check_fits_cluster(_config(name="qlora"))


def test_a_method_is_held_against_the_base(tmp_path: Path) -> None:
    write_base("bert", tmp_path)
    inputs = Inputs(Folder(str(tmp_path)), "0" * 64, None)  # type: ignore[arg-type]  # no data is looked at
    check_method(_config(name="lora"), inputs)
    with pytest.raises(ConfigError, match=r"method\.frozen_layers=3: the model has 2 layers"):
        check_method(_config(frozen_layers=3), inputs)
