"""A configuration with a credential in it is refused, with its place and how to give it instead."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from llmcore.config import load_config
from llmcore.config.pipeline import PipelineConfig
from llmcore.config.prepare import PrepareConfig
from llmcore.config.promote import PromoteConfig
from llmcore.errors import ConfigError, StorageError
from llmcore.storage import resolve_storage
from tests.tiny import tiny_pipeline

SECRETS = {
    "s3://someone:hunter2hunter2@bucket/runs": "hunter2hunter2",
    "https://host/data.jsonl?X-Amz-Signature=0123abcd&x=1": "0123abcd",
    "simplecache::https://me:hunter2hunter2@host/x": "hunter2hunter2",
    "az://box/x?sig=abcdef": "abcdef",
}


def _written(folder: Path, config: dict[str, Any]) -> Path:
    file = folder / "config.yaml"
    file.write_text(yaml.safe_dump(config, sort_keys=False))
    return file


@pytest.mark.parametrize(("url", "secret"), SECRETS.items())
@pytest.mark.parametrize("key", ["storage", "cluster.address", "stages.prepare.sources.0.url", "stages.tune.base"])
def test_one_in_an_override(key: str, url: str, secret: str, tmp_path: Path) -> None:
    file = _written(tmp_path, tiny_pipeline(tmp_path, tmp_path))
    with pytest.raises(ConfigError, match="AWS_ACCESS_KEY_ID") as raised:
        load_config(PipelineConfig, file, [f"{key}={url}"])
    message = str(raised.value)
    assert f"command line: {key}=" in message and secret not in message and raised.value.exit_code == 2


def test_one_in_a_file_is_named_with_its_line(tmp_path: Path) -> None:
    sources = [
        {"name": "a", "url": str(tmp_path)},
        {"name": "b", "dataset": {"path": "x", "data_files": ["hf_" + "a1" * 17]}},
    ]
    file = _written(tmp_path, {"name": "x", "storage": "s3://me:hunter2hunter2@b/c", "sources": sources})
    with pytest.raises(ConfigError) as raised:
        load_config(PrepareConfig, file)
    message = str(raised.value)
    assert f"{file}:2: storage: got s3://REDACTED@b/c" in message
    assert "sources.1.dataset.data_files.0: got REDACTED" in message
    assert "hunter2" not in message and "a1a1" not in message


def test_one_on_the_command_line_is_opened_by_nobody() -> None:
    config = PromoteConfig(name="x", storage="s3://me:hunter2hunter2@b/c", evaluation="e")
    with pytest.raises(StorageError, match="credential") as raised:
        resolve_storage(config.storage, inside_ray_job=False)
    assert "hunter2" not in str(raised.value)
