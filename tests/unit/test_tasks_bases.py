"""What a fine-tuning begins with is found, copied once, and refused where the task cannot be learnt from it."""

import json
from pathlib import Path
from typing import Any

import pytest

from llmcore.config.task import TaskSettings
from llmcore.errors import ConfigError, CorpusError
from llmcore.storage import Folder, publish, verify_files
from llmcore.tasks import build_task
from llmcore.tasks.base import SetFacts
from llmcore.tasks.bases import base_model, check_base, copied_base
from llmcore.tokens.tokenizer import load_tokenizer
from tests.bases import write_model

VOCAB_SIZE = 330
MODELS: dict[str, tuple[Any, dict[str, Any]]] = {
    "gpt2": ("causal_lm", {"n_embd": 16, "n_layer": 1, "n_head": 2}),
    "bert": (
        "masked_lm",
        {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32},
    ),
    "t5": ("span_corruption", {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2}),
}


def write(folder: Path, family: str, *, vocab_size: int = VOCAB_SIZE) -> Path:
    texts = ["a cat sits here and there"] * 3
    sizes = {"vocab_size": vocab_size, "longest": 32}
    return write_model(folder, family, *MODELS[family], texts=texts, begin=family == "bert", **sizes)


def test_a_folder_of_another_maker_is_copied_once_under_its_content(tmp_path: Path) -> None:
    storage = Folder(str(tmp_path / "runs"))
    source = write(tmp_path / "given", "gpt2")
    (source / "notes.md").write_text("not read")
    (source / "chat_template.jinja").write_text("{{ messages[0].content }}")
    copy, manifest = base_model(storage, str(source))
    verify_files(copy, manifest)
    assert copy.url.startswith(f"{storage.url}/artifacts/base-models/")
    assert load_tokenizer(copy).chat_template == "{{ messages[0].content }}"
    assert "model.safetensors" in manifest.files and "notes.md" not in manifest.files
    elsewhere = source.rename(tmp_path / "moved")
    assert copied_base(storage, manifest.sha256) == copy and copied_base(storage, "0" * 64) is None
    again, same = base_model(storage, str(elsewhere))
    assert (again.url, same.sha256) == (copy.url, manifest.sha256)
    config = json.loads((elsewhere / "config.json").read_text())
    (elsewhere / "config.json").write_text(json.dumps(config | {"n_head": 1}))
    assert base_model(storage, str(elsewhere))[0].url != copy.url, "other content"
    assert base_model(storage, copy.url)[0].url == copy.url, "what is published is taken as it is"


def test_what_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    storage = Folder(str(tmp_path / "runs"))
    with pytest.raises(CorpusError, match="base='owner/name' is no run of this storage, no folder, and cannot be had"):
        base_model(storage, "owner/name")
    with pytest.raises(CorpusError, match="base='mine': there is no complete model"):
        base_model(storage, "mine")
    (tmp_path / "pickled").mkdir()
    (tmp_path / "pickled/config.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"base='.*' has no config.json with \*.safetensors beside it"):
        base_model(storage, str(tmp_path / "pickled"))


def test_a_model_of_this_package_is_not_copied(tmp_path: Path) -> None:
    with publish(Folder(str(tmp_path / "model")), "model", {}) as publication, publication.staging() as staged:
        write(staged, "gpt2")
    found, manifest = base_model(Folder(str(tmp_path / "runs")), str(tmp_path / "model"))
    assert found.url == str(tmp_path / "model") and manifest.kind == "model"
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("family", "task", "message"),
    [
        ("bert", {"kind": "translation"}, "base is a bert, an encoder, which cannot write"),
        ("t5", {"kind": "chat"}, "base is a t5: task.kind=chat needs a decoder"),
        ("t5", {"kind": "question_answering"}, "base is a t5, an encoder-decoder"),
        ("t5", {"kind": "text_classification"}, "takes an encoder or a decoder"),
        ("gpt2", {"kind": "translation", "max_tokens": 33}, "task.max_tokens=33 is more than the 32 positions"),
    ],
)
def test_a_base_that_cannot_learn_the_task_is_refused(
    tmp_path: Path, family: str, task: dict[str, Any], message: str
) -> None:
    made = build_task(TaskSettings.model_validate({"max_tokens": 16} | task), SetFacts(("a", "b")))
    base = Folder(str(write(tmp_path, family)))
    with pytest.raises(ConfigError, match=message):
        check_base(made, base)
    if family != "bert":
        check_base(build_task(TaskSettings(kind="translation", max_tokens=16), SetFacts()), base)


def test_a_folder_beside_the_files_is_not_the_tokenizers(tmp_path: Path) -> None:
    base = Folder(str(write(tmp_path, "gpt2")))
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter/adapter_config.json").write_text("{}")
    check_base(build_task(TaskSettings(kind="text_generation", max_tokens=16), SetFacts()), base)


def test_a_tokenizer_of_another_model_is_refused(tmp_path: Path) -> None:
    base = Folder(str(write(tmp_path, "gpt2", vocab_size=200)))
    with pytest.raises(ConfigError, match="has 330 entries, and the model 200: it belongs to another model"):
        check_base(build_task(TaskSettings(kind="text_generation", max_tokens=16), SetFacts()), base)
