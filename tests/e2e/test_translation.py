"""`make proof TOPIC=translation`: English to German, learnt from Multi30k alone, on the test set by sacrebleu."""

from pathlib import Path
from typing import Any

import pytest
import sacrebleu

from tests.shared_data import DATA, needs_data
from tests.workshop import Workshop

FILES = DATA / "multi30k_en_de"
BLEU = 30.0
WITHIN_S = 30 * 60
"""Of two cores, for each model: what it begins with, and its translations."""
GPT = {"family": "gpt2", "sizes": {"n_embd": 256, "n_layer": 6, "n_head": 4, "resid_pdrop": 0.1, "embd_pdrop": 0.1}}

pytestmark = [
    pytest.mark.proof,
    pytest.mark.proof_translation,
    pytest.mark.timeout(2 * WITHIN_S),
    needs_data,
]


def _pair(split: str) -> dict[str, str]:
    return {"source": str(FILES / f"{split}.en.gz"), "target": str(FILES / f"{split}.de.gz")}


def _train(workshop: Workshop, name: str, pretraining: dict[str, Any], **finetuning: Any) -> None:
    """What a model begins with, and then its fine-tuning on the pairs."""
    workshop.run_shipped("pretrain", f"{name}.base", "pretrain/translator.yaml", **pretraining)
    files = {"data.train": _pair("train"), "data.validation": _pair("val")}
    files["data.test"] = _pair("test_2016_flickr")
    workshop.run_shipped("finetune", name, "finetune/translation.yaml", base=f"{name}.base", **files, **finetuning)
    print(f"{name}: {workshop.seconds[f'{name}.base'] + workshop.seconds[name]:.0f} s of training")


def test_the_better_of_two_translators_is_good(tmp_path: Path) -> None:
    workshop = Workshop(tmp_path)
    sources = [
        {"name": name, "url": str(FILES / f"train.{name}.gz"), "format": "text", "unit": "line"}
        for name in ("en", "de")
    ]
    workshop.run_shipped("prepare", "sentences", "prepare/translation.yaml", sources=sources)
    _train(workshop, "transformer", {})
    # A token costs it half as much again, since each goes through all layers.
    _train(workshop, "gpt", {"objective": "causal_lm", "model": GPT}, **{"train.num_epochs": 6})
    for name in ("transformer", "gpt"):
        assert workshop.seconds[f"{name}.base"] + workshop.seconds[name] <= WITHIN_S

    models = {"transformer": "transformer", "gpt": "gpt"}
    workshop.run_shipped("evaluate", "judged", "evaluate/translation.yaml", models=models, baselines=["copy_source"])
    content = workshop.judged("judged")
    bleu = content["models"][0]["test"]["bleu"]
    print(f"{content['chosen']}: {bleu}, the source {content['baselines']['copy_source']['test']['bleu']}")
    chosen = workshop.test_rows("judged", content["chosen"])
    assert len(chosen) == 1000
    plain = sacrebleu.corpus_bleu([row["prediction"] for row in chosen], [[row["target"] for row in chosen]])
    assert bleu["value"] == pytest.approx(plain.score)
    assert bleu["value"] >= BLEU
