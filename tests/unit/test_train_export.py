"""What is exported loads in plain transformers, for each family, and computes the same."""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, distributed, nn
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoModelForSeq2SeqLM

from llmcore.config.model import ModelSettings
from llmcore.models.build import build_language_model, model_config
from llmcore.storage import Folder, read_manifest
from llmcore.train.export import export_model
from llmcore.train.model_folder import shard_layouts
from llmcore.train.tensor_files import TensorSpec
from tests.tiny_run import write_tokenizer

DECODER = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
SIZES: dict[str, dict[str, Any]] = {
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 2},
    "llama": DECODER,
    "qwen3": DECODER | {"num_key_value_heads": 2, "head_dim": 16},
    "bert": DECODER,
    "roberta": DECODER,
    "modernbert": DECODER,
    "t5": {"d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 2, "num_heads": 2},
    "bart": {
        "d_model": 32,
        "encoder_layers": 1,
        "decoder_layers": 1,
        "encoder_attention_heads": 2,
        "decoder_attention_heads": 2,
        "encoder_ffn_dim": 64,
        "decoder_ffn_dim": 64,
    },
}
OBJECTIVES = {"bert": "masked_lm", "roberta": "masked_lm", "modernbert": "masked_lm"}
OBJECTIVES |= {"t5": "span_corruption", "bart": "span_corruption"}
AUTO = {"causal_lm": AutoModelForCausalLM, "masked_lm": AutoModelForMaskedLM, "span_corruption": AutoModelForSeq2SeqLM}


class Whole:
    """An engine of one process, as far as an export sees it."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.num_whole = 0

    def let_go(self) -> None:
        assert self.num_whole == 0

    @contextmanager
    def whole(self, parameter: nn.Parameter) -> Iterator[Tensor]:
        self.num_whole += 1
        assert self.num_whole == 1, "one parameter at a time"
        yield parameter
        self.num_whole -= 1


@pytest.fixture(scope="module", autouse=True)
def process_group() -> Iterator[None]:
    """Of this process alone."""
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tokenizer(tmp_path_factory.mktemp("tokenizer"))


@pytest.mark.parametrize(("dtype", "shard_bytes"), [(torch.float32, 1 << 30), (torch.bfloat16, 20_000)])
@pytest.mark.parametrize("family", sorted(SIZES))
def test_each_family_loads_in_plain_transformers(
    family: Any, dtype: torch.dtype, shard_bytes: int, tokenizer: Path, tmp_path: Path
) -> None:
    objective: Any = OBJECTIVES.get(family, "causal_lm")
    settings = ModelSettings(family=family, sizes=SIZES[family])
    config = model_config(settings, vocab_size=50, sequence_length=16, eos_id=0, pad_id=1)
    model = build_language_model(objective, config, seed=3).to(dtype).eval()
    for number, (name, buffer) in enumerate(model.named_buffers()):  # not what they are initialized with
        if name in model.state_dict():
            buffer.add_(torch.randn(buffer.shape, generator=torch.Generator().manual_seed(number)))
    engine: Any = Whole(model)
    export_model(engine, Folder(str(tmp_path)), tokenizer, "# A card\n", {"step": 1}, shard_bytes=shard_bytes)
    manifest = read_manifest(Folder(str(tmp_path)))
    assert manifest is not None and manifest.about == {"step": 1}
    assert manifest.files.keys() == {path.name for path in tmp_path.iterdir()} - {"manifest.json"}
    assert ("model.safetensors.index.json" in manifest.files) == (shard_bytes < 1 << 30)
    plain, told = AUTO[objective].from_pretrained(tmp_path, dtype="auto", output_loading_info=True)
    assert not told["missing_keys"] and not told["unexpected_keys"] and not told["mismatched_keys"]
    assert plain.dtype == dtype
    assert type(plain) is type(model)
    # Ours has another attention; the same class with the same state is what it must equal.
    twin = AUTO[objective].from_config(plain.config, dtype=dtype).eval()
    twin.load_state_dict(model.state_dict())
    ids = torch.randint(2, 50, (2, 12), generator=torch.Generator().manual_seed(1))
    given = {"input_ids": ids} | ({"decoder_input_ids": ids} if objective == "span_corruption" else {})
    with torch.inference_mode():
        assert torch.equal(plain.eval()(**given).logits, twin(**given).logits)


@pytest.mark.parametrize("shard_bytes", [1, 100, 1000, 10_000])
def test_shards_hold_each_tensor_once_and_no_more_than_they_may(shard_bytes: int) -> None:
    specs = {f"layer.{number}": TensorSpec(torch.float32, (number, 7)) for number in range(1, 12)}
    layouts = shard_layouts(specs, shard_bytes)
    names = list(itertools.chain.from_iterable(layout.specs for layout in layouts.values()))
    assert sorted(names) == sorted(specs)
    assert all(layout.num_bytes <= shard_bytes or len(layout.specs) == 1 for layout in layouts.values())
    if len(layouts) > 1:
        assert next(iter(layouts)) == f"model-00001-of-{len(layouts):05d}.safetensors"
