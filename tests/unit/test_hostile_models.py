"""Model and tokenizer folders from strangers: each is refused with one message, or does no harm."""

import ast
import hashlib
import json
import pickle
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel

from jobs.runtime.references import existing_model
from llmcore.errors import ConfigError, CorpusError, LLMCoreError, StorageError, UserError
from llmcore.models.build import load_language_model
from llmcore.models.foundation import find_foundation
from llmcore.models.generation.loading import load_writer
from llmcore.models.vetting import INDEX, vet_folder
from llmcore.storage import Folder, canonical_json, read_manifest, readable_json
from llmcore.tasks.bases import base_model, find_base
from llmcore.tokens.conversation import written_down
from llmcore.tokens.tokenizer import find_tokenizer
from llmcore.train.tensor_files import TensorReader

ROOT = Path(__file__).parents[2]
VOCABULARY = {"<|end|>": 0, "a": 1, "b": 2, "c": 3}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A good folder: a GPT-2 of a few weights with its tokenizer."""
    config = GPT2Config(vocab_size=4, n_positions=8, n_embd=4, n_layer=1, n_head=1, bos_token_id=0, eos_token_id=0)
    GPT2LMHeadModel(config).save_pretrained(tmp_path / "model")
    content: dict[str, Any] = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [],
        "normalizer": None,
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": None,
        "model": {"type": "WordLevel", "vocab": VOCABULARY, "unk_token": "<|end|>"},
    }
    (tmp_path / "model/tokenizer.json").write_text(json.dumps(content))
    about = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|end|>", "pad_token": "<|end|>"}
    (tmp_path / "model/tokenizer_config.json").write_text(json.dumps(about))
    return tmp_path / "model"


def _change(folder: Path, name: str, **changes: Any) -> None:
    file = folder / name
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def test_a_good_folder_is_taken(folder: Path) -> None:
    assert find_foundation(str(folder)).url == str(folder)
    assert existing_model("runs", str(folder)).url == str(folder)
    model, _ = load_writer(folder, device=torch.device("cpu"), dtype=torch.float32)
    assert isinstance(model, GPT2LMHeadModel)
    assert find_tokenizer(str(folder)).tokenizer.get_vocab_size() == len(VOCABULARY)


class _Mine:
    """Leaves a file when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return exec, ("open('/tmp/llmcore-unpickled', 'w')",)


def test_pickled_weights_are_never_opened(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    trace = Path("/tmp/llmcore-unpickled")
    trace.unlink(missing_ok=True)
    torch.save({"transformer.wte.weight": _Mine()}, folder / "pytorch_model.bin")
    (folder / "model.safetensors").with_suffix(".bin").write_bytes(pickle.dumps(_Mine()))
    with pytest.raises(ConfigError, match="pickled weights"):
        find_foundation(str(folder))
    with pytest.raises(UserError):
        load_writer(folder, device=torch.device("cpu"), dtype=torch.float32)
    assert not trace.exists()


def _code(folder: Path) -> Path:
    """Python beside the model, which leaves a file when it is imported."""
    trace = folder.parent / "imported"
    (folder / "modeling_mine.py").write_text(f"open({str(trace)!r}, 'w').close()\nclass Mine: pass\n")
    return trace


def test_code_of_a_model_is_never_run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("builtins.input", lambda _: "y")  # nobody is asked, either
    trace = _code(folder)
    mine = {"AutoConfig": "modeling_mine.Mine", "AutoModelForCausalLM": "modeling_mine.Mine"}
    _change(folder, "config.json", auto_map=mine)
    load_writer(folder, device=torch.device("cpu"), dtype=torch.float32)  # transformers' own GPT-2
    _change(folder, "config.json", model_type="mine")
    for load in (find_foundation, lambda given: existing_model("runs", given)):
        with pytest.raises(ConfigError, match="code of its own"):
            load(str(folder))
    with pytest.raises(ConfigError):
        load_writer(folder, device=torch.device("cpu"), dtype=torch.float32)
    assert not trace.exists()


def test_code_of_a_tokenizer_is_never_run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("builtins.input", lambda _: "y")
    trace = _code(folder)
    _change(
        folder,
        "tokenizer_config.json",
        tokenizer_class="Mine",
        auto_map={"AutoTokenizer": ["modeling_mine.Mine", None]},
    )
    for load in (find_foundation, find_tokenizer):
        with pytest.raises(ConfigError, match="code of its own"):
            load(str(folder))
    assert not trace.exists()


def test_whatever_loads_from_a_folder_says_that_it_trusts_no_code() -> None:
    """Left out, transformers would ask whoever is at standard input, and wait for an answer."""
    trusting = []
    for file in [*ROOT.glob("llmcore/**/*.py"), *ROOT.glob("jobs/**/*.py"), *ROOT.glob("cluster/**/*.py")]:
        for node in ast.walk(ast.parse(file.read_text())):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            named = {keyword.arg: keyword.value for keyword in node.keywords}
            trusts = named.get("trust_remote_code")
            if isinstance(trusts, ast.Constant) and trusts.value is False:
                continue
            if node.func.attr in ("from_pretrained", "from_config") or trusts is not None:
                trusting.append(f"{file.relative_to(ROOT)}:{node.lineno}")
    assert trusting == []


@pytest.mark.parametrize("name", ["../other.safetensors", "/etc/passwd", "..\\x.safetensors", "weights.bin", 7, None])
def test_an_index_names_files_of_its_folder_alone(folder: Path, name: Any) -> None:
    weights = folder / "model.safetensors"
    weights.rename(folder.parent / "other.safetensors")
    (folder / "weights.bin").write_bytes(pickle.dumps(_Mine()))
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": {"transformer.wte.weight": name}}))
    with pytest.raises(ConfigError, match="names"):
        vet_folder(Folder(str(folder)))
    with pytest.raises(LLMCoreError):
        load_language_model("causal_lm", folder, vocab_size=4, seed=0)


@pytest.mark.parametrize("index", [[], {"weight_map": []}, {}, "x"])
def test_an_index_that_is_none(folder: Path, index: Any) -> None:
    (folder / INDEX).write_text(json.dumps(index))
    with pytest.raises(ConfigError, match=INDEX):
        vet_folder(Folder(str(folder)))


@pytest.mark.parametrize("key", ["vocab_file", "tokenizer_file", "merges_file"])
def test_a_tokenizer_reads_files_of_its_folder_alone(folder: Path, key: str) -> None:
    for path in ("/etc/passwd", "../../secret"):
        _change(folder, "tokenizer_config.json", **{key: path})
        with pytest.raises(ConfigError, match="outside the folder"):
            find_tokenizer(str(folder))


def test_links_out_of_a_folder_are_not_followed(folder: Path) -> None:
    secret = folder.parent / "secret"
    secret.write_text("mine")
    (folder / "vocab.txt").symlink_to(secret)
    for load in (find_foundation, find_tokenizer):
        with pytest.raises(ConfigError, match=r"vocab.txt is a link"):
            load(str(folder))


def test_links_of_the_hubs_own_cache_are(folder: Path) -> None:
    model = folder.parent / "models--owner--name"
    (model / "blobs").mkdir(parents=True)
    snapshot = model / "snapshots" / "0123"
    snapshot.mkdir(parents=True)
    for number, file in enumerate(folder.iterdir()):
        file.rename(model / "blobs" / str(number))
        (snapshot / file.name).symlink_to(Path("../../blobs", str(number)))
    assert find_foundation(str(snapshot)).url == str(snapshot)


@pytest.mark.parametrize("length", [1 << 62, 80_000_000_000, 99_000_000])
def test_headers_of_gigabytes_are_not_read(folder: Path, length: int) -> None:
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", length) + b"{}")
    with pytest.raises(ConfigError, match="header"):
        find_foundation(str(folder))
    with pytest.raises(LLMCoreError):
        TensorReader(Folder(str(folder)), "model.safetensors")


@pytest.mark.parametrize(
    "header",
    [
        b"[" * 200_000,
        b"{}garbage",
        b'{"a": 1}',
        b'{"a": {"shape": "x"}}',
        b'{"a": {"shape": [1e400]}}',
        b"[]",
        b"\xff\xfe",
    ],
)
def test_headers_that_are_none(folder: Path, header: bytes) -> None:
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    with pytest.raises(ConfigError, match="header"):
        find_foundation(str(folder))


@pytest.mark.parametrize("offsets", [[0, 1 << 40], [-8, 8], [8, 0], ["a", "b"], [0]])
def test_weights_with_wild_offsets(folder: Path, offsets: list[Any]) -> None:
    header = json.dumps({"transformer.wte.weight": {"dtype": "F32", "shape": [4, 4], "data_offsets": offsets}}).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + b"\0" * 64)
    with pytest.raises(ConfigError, match="header"):
        find_foundation(str(folder))
    with pytest.raises(UserError):
        load_writer(folder, device=torch.device("cpu"), dtype=torch.float32)


NESTED = "[" * 100_000 + "]" * 100_000


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json", INDEX])
def test_json_nested_without_end(folder: Path, name: str) -> None:
    (folder / name).write_text(NESTED)
    with pytest.raises(ConfigError, match="nested too deeply"):
        find_foundation(str(folder))
    (folder / name).write_text('{"a": ' * 100_000 + "1" + "}" * 100_000)
    with pytest.raises(ConfigError, match="nested too deeply"):
        find_foundation(str(folder))


def test_records_nested_without_end_are_torn(tmp_path: Path) -> None:
    for name in ("manifest.json", "run.json"):
        (tmp_path / name).write_text(NESTED)
    assert read_manifest(Folder(str(tmp_path))) is None
    assert Folder(str(tmp_path)).find_json("run.json") is None
    with pytest.raises(StorageError, match="nested too deeply"):
        Folder(str(tmp_path)).read_json("run.json")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("n_layer", 10**9),
        ("num_hidden_layers", 10**12),
        ("n_layer", 10**300),
        ("vocab_size", 10**12),
        ("n_embd", 1 << 40),
        ("n_head", 0),
    ],
)
def test_a_config_that_asks_for_more_than_there_is(folder: Path, key: str, value: int) -> None:
    _change(folder, "config.json", **{key: value})
    for load in (find_foundation, lambda given: existing_model("runs", given)):
        with pytest.raises(ConfigError, match="and"):
            load(str(folder))


@pytest.mark.parametrize(("key", "value"), [("n_positions", 1 << 40), ("n_inner", 1 << 50)])
def test_a_config_of_other_sizes_than_the_weights(folder: Path, key: str, value: int) -> None:
    _change(folder, "config.json", **{key: value})
    find_foundation(str(folder))
    with pytest.raises(ConfigError, match="there, and the model's is"):
        load_language_model("causal_lm", folder, vocab_size=4, seed=0)


def test_weights_that_are_not_numbers_end_in_a_message(folder: Path) -> None:
    weights = {
        name: torch.full_like(value, torch.nan)
        for name, value in GPT2LMHeadModel.from_pretrained(folder).state_dict().items()
    }
    weights.pop("lm_head.weight")
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    find_foundation(str(folder))
    model, _ = load_writer(folder, device=torch.device("cpu"), dtype=torch.float32)
    assert not model(torch.zeros(1, 2, dtype=torch.long)).logits.isfinite().any()


ESCAPES = [
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
    "{{ messages.append('x') }}",
    "{{ namespace.__init__.__globals__ }}",
    "{% for i in range(10 ** 12) %}x{% endfor %}",
    "{{ raise_exception('x') }}",
    "{% include '/etc/passwd' %}",
    "{% if %}",
]


@pytest.mark.parametrize("template", ESCAPES)
def test_a_chat_template_does_not_escape(folder: Path, template: str) -> None:
    _change(folder, "tokenizer_config.json", chat_template=template)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    with pytest.raises(ConfigError, match="chat template"):
        written_down(tokenizer, [{"role": "user", "content": "a"}], tokenize=False)


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/../../x", "C:\\x", "a//b", ".", ""])
def test_a_manifest_does_not_leave_its_folder(tmp_path: Path, name: str) -> None:
    body = {"format": 1, "kind": "k", "files": {name: {"size": 1, "sha256": "0" * 64}}, "about": {}}
    whole = body | {"sha256": hashlib.sha256(canonical_json(body)).hexdigest()}
    (tmp_path / "manifest.json").write_bytes(readable_json(whole))
    assert read_manifest(Folder(str(tmp_path))) is None
    body["files"] = {"x": {"size": 1, "sha256": "0" * 64}}  # and this is how a good one looks
    whole = body | {"sha256": hashlib.sha256(canonical_json(body)).hexdigest()}
    (tmp_path / "manifest.json").write_bytes(readable_json(whole))
    assert read_manifest(Folder(str(tmp_path))) is not None


def test_a_result_does_not_lead_out_of_its_storage(tmp_path: Path, folder: Path) -> None:
    run = Folder(str(tmp_path / "runs/base"))
    run.write_json("run.json", {"kind": "pretrain", "fingerprint": "x", "parents": []})
    (run / "attempts/01").write_json("end.json", {"status": "succeeded", "result": {"model": "../model"}})
    with pytest.raises((StorageError, CorpusError)):
        find_base(run.parent, "base")
    with pytest.raises((StorageError, CorpusError)):
        base_model(run.parent, "base")
