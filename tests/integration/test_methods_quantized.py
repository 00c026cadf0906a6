"""LoRA beside matrices of 4 bits, where its extra is installed; bitsandbytes computes on CPUs, too, only slowly."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSeq2SeqLM, AutoModelForSequenceClassification

from llmcore.config.method import MethodSettings
from llmcore.storage import Folder, read_manifest
from tests.fine_tuned import NUM_STEPS, fine_tuning, logits, plain_logits, steps, write_base
from tests.ranks import run_ranks
from tests.tiny_run import write_tokenizer

pytest.importorskip("bitsandbytes", reason="the extra qlora is not installed")

METHOD = MethodSettings(name="qlora", rank=4, alpha=8)


def _train(root: str, family: str) -> dict[str, Any]:
    from bitsandbytes.nn import modules

    from llmcore.models import methods
    from llmcore.train.checkpoint import load_checkpoint, save_checkpoint
    from llmcore.train.export import export_model
    from llmcore.train.progress import Progress

    methods.check_quantizable = lambda: None  # what it asks for is speed
    modules.has_avx512bf16 = lambda: False  # in evaluation it would lay the weights out anew, for CPUs alone
    engine, run = fine_tuning(family, Path(root, family), METHOD, 1), Folder(f"{root}/{family}-run")
    losses = steps(engine, family, 0, 4)
    save_checkpoint(engine, run / "checkpoints", Progress(step=4), attempt=1)
    losses += steps(engine, family, 4, NUM_STEPS)
    export_model(engine, run / "model", Path(root, "tokenizer"), "# A card\n", {})
    found = {"losses": losses, "logits": logits(engine, family)}
    found["packed"] = sum(parameter.dtype == torch.uint8 for parameter in engine.model.parameters())
    engine, checkpoint = (
        fine_tuning(family, Path(root, family), METHOD, 2),
        run / "checkpoints/step-00000004-attempt-01",
    )
    manifest = read_manifest(checkpoint)
    assert manifest is not None
    load_checkpoint(engine, checkpoint, manifest)
    return found | {"resumed": steps(engine, family, 4, NUM_STEPS)}


@pytest.mark.parametrize("family", ["llama", "t5"])
def test_a_base_of_4_bits_is_trained_beside_resumed_and_merged(tmp_path: Path, family: str) -> None:
    write_tokenizer(tmp_path / "tokenizer")
    write_base(family, tmp_path / family)
    [found] = run_ranks(1, _train, str(tmp_path), family, out=tmp_path / "out")
    assert found["packed"] == {"llama": 14, "t5": 28}[family], "all of the layers', but for T5's wo"
    assert found["losses"][-1] < found["losses"][0]
    assert found["resumed"] == pytest.approx(found["losses"][4:], abs=1e-6)
    kind: Any = AutoModelForSeq2SeqLM if family == "t5" else AutoModelForSequenceClassification
    merged = kind.from_pretrained(tmp_path / f"{family}-run/model")
    assert torch.allclose(plain_logits(merged, family), found["logits"], atol=1e-5, rtol=0)
