"""A model folder at a hub: what arrives, what stays, and what is refused before and after."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from llmcore.errors import ConfigError, RunError
from llmcore.models.hub import check_hub, push_to_hub
from llmcore.storage import Folder, publish
from tests.hubs import Hub, hub_here

NAME = "owner/tiny-model"
FILES = {
    "README.md": b"---\nlibrary_name: transformers\n---\n# A model\n",
    "config.json": b"{}",
    "model.safetensors": b"weights" * 1000,
    "adapter/adapter_model.safetensors": b"a",
}


@pytest.fixture
def hub() -> Iterator[Hub]:
    """A hub that this process's library talks to."""
    with hub_here() as hub:
        yield hub


def _model(folder: Path) -> Folder:
    with publish(Folder(str(folder)), "model", {"base": "/a/private/place"}) as publication:
        for name, data in FILES.items():
            publication.write_bytes(name, data)
    (folder / "left-over.tmp").write_bytes(b"of a writer that was killed")
    return Folder(str(folder))


def test_what_arrives_is_the_folder_in_a_private_repository(hub: Hub, tmp_path: Path) -> None:
    check_hub(NAME)
    assert push_to_hub(_model(tmp_path), NAME) == f"{hub.url}/{NAME}"
    assert hub.files == {NAME: FILES} and hub.private == {NAME: True}


def test_the_same_again_sends_nothing(hub: Hub, tmp_path: Path) -> None:
    push_to_hub(_model(tmp_path), NAME)
    hub.uploaded.clear()
    push_to_hub(_model(tmp_path), NAME)
    assert hub.uploaded == [] and hub.files == {NAME: FILES}


def test_weights_of_another_model_go_and_the_rest_stays(hub: Hub, tmp_path: Path) -> None:
    theirs = {"logo.png": b"p", "model-00001-of-00002.safetensors": b"old", "model.safetensors.index.json": b"{}"}
    hub.files[NAME] = theirs | {"config.json": b"old"}
    hub.private[NAME] = False
    push_to_hub(_model(tmp_path), NAME)
    assert hub.files == {NAME: FILES | {"logo.png": b"p"}}
    assert hub.private == {NAME: False}, "who made it public keeps it so"


def test_a_hub_that_refuses_is_told_of_with_its_reason(hub: Hub, tmp_path: Path) -> None:
    hub.full = True
    with pytest.raises(RunError, match=rf"the model is complete at {tmp_path}, and not at the hub as {NAME}: .*403"):
        push_to_hub(_model(tmp_path), NAME)


def test_what_cannot_be_uploaded_is_known_before(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"push_to_hub='owner/a--b': nothing can be uploaded \(.*--"):
        check_hub("owner/a--b")
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(ConfigError, match=r"nothing can be uploaded \(Invalid user token"):
        check_hub(NAME)
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(ConfigError, match=r"needs a token that may write: set HF_TOKEN, or run `hf auth login`"):
        check_hub(NAME)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ConfigError, match=r"push_to_hub='owner/tiny-model' needs the hub, and HF_HUB_OFFLINE is set"):
        check_hub(NAME)
    assert not hub.files
