"""How a job starts that leaves a model, where that is to be uploaded."""

from pathlib import Path
from typing import Any

import pytest

from jobs.runtime.options import RunOptions
from jobs.runtime.start import find_or_make
from llmcore.config.common import ModelJobSettings
from llmcore.errors import UserError
from llmcore.storage import Folder, publish
from tests.hubs import hub_here

NAME = "owner/tiny-model"


def _start(config: ModelJobSettings, result: dict[str, Any]) -> None:
    """The start of a job that is done: it needs no cluster."""
    find_or_make(config, RunOptions(), lambda *_: result, lambda *_: {})


def _config(storage: Path, **given: Any) -> ModelJobSettings:
    return ModelJobSettings.model_validate({"name": "tiny", "storage": str(storage)} | given)


def test_the_model_of_a_run_that_is_done_is_uploaded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with publish(Folder(str(tmp_path / "tiny/model")), "model", {}) as publication:
        publication.write_bytes("config.json", b"{}")
    with hub_here() as hub:
        _start(_config(tmp_path), {"model": "tiny/model"})
        assert not hub.files, "nobody asked for it"
        _start(_config(tmp_path, push_to_hub=NAME), {"model": "tiny/model"})
        assert hub.files == {NAME: {"config.json": b"{}"}}
    assert f"The model is at {hub.url}/{NAME}" in capsys.readouterr().out


def test_where_nothing_can_be_uploaded_nothing_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def begun(*_: Any) -> dict[str, Any]:
        raise AssertionError("it has begun")

    with hub_here() as hub:
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        with pytest.raises(UserError, match="HF_HUB_OFFLINE is set"):
            find_or_make(_config(tmp_path / "runs", push_to_hub=NAME), RunOptions(), begun, begun)
    assert not hub.files and not (tmp_path / "runs").exists()


@pytest.mark.parametrize("name", ["tiny-model", "a/b/c", "owner/tiny model", "https://huggingface.co/owner/tiny"])
def test_a_name_is_of_an_owner(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="push_to_hub"):
        _config(tmp_path, push_to_hub=name)
