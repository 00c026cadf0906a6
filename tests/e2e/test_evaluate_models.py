"""One whole `finetune` on aligned files of text, and then `evaluate` by its name, by the command line."""

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import sacrebleu

from llmcore.records import newest_result
from llmcore.storage import Folder, publish
from tests.drivers import Ended, run_jobs
from tests.tiny import write_config
from tests.writers import write_writer

WORDS = {"open": "auf", "close": "zu", "read": "lies", "write": "schreib", "seek": "such", "path": "Pfad"}
NUM_TEST = 12


def _pairs(first: int, num: int) -> list[tuple[str, str]]:
    words = list(WORDS.items())
    return [
        tuple(" ".join(pair) for pair in zip(words[n % 6], words[n // 6 % 6], words[n // 36 % 6], strict=True))  # type: ignore[misc]
        for n in range(first, first + num)
    ]


def _aligned(folder: Path, name: str, pairs: list[tuple[str, str]]) -> dict[str, str]:
    files = {"source": folder / f"{name}.en", "target": folder / f"{name}.de"}
    for place, column in enumerate(files):
        files[column].write_text("".join(f"{pair[place]}\n" for pair in pairs))
    return {column: str(path) for column, path in files.items()}


def _base(folder: Path) -> str:
    with publish(Folder(str(folder)), "model", {}) as publication, publication.staging() as staged:
        write_writer(staged, "gpt2")
    return str(folder)


def _run(folder: Path, job: str, config: dict[str, Any], one_ray: dict[str, str]) -> Ended:
    ended = run_jobs(job, str(write_config(folder / f"{job}.yaml", config)), cwd=folder, **one_ray)
    assert ended.code == 0, ended.out + ended.err
    print(f"\n{job}: {ended.seconds:.0f} s\n{ended.out}")
    return ended


def test_a_translator_is_trained_on_aligned_files_and_judged_beside_its_source(
    tmp_path: Path, one_ray: dict[str, str]
) -> None:
    workers = {"num_workers": 1, "cpus_per_worker": 0.5}
    common = {"storage": str(tmp_path / "runs"), "cluster": {"num_cpus": 2}, "workers": workers}
    test = _pairs(100, NUM_TEST)
    train = {"num_steps": 6, "global_batch_size": 8, "precision": "fp32", "optimizer": {"learning_rate": 3e-3}}
    finetune = {
        "name": "translator",
        "base": _base(tmp_path / "base"),
        "task": {"kind": "translation", "max_tokens": 60, "max_answer_tokens": 30},
        "data": {
            "name": "words",
            "train": _aligned(tmp_path, "train", _pairs(0, 60)),
            "test": _aligned(tmp_path, "test", test),
        },
        "train": train,
    }
    _run(tmp_path, "finetune", common | finetune, one_ray)
    evaluate = {
        "name": "judged",
        "models": {"mine": "translator"},
        "metrics": ["bleu", "perplexity"],
        "choose_by": "chrf",
        "generation": {"method": "beam", "num_beams": 2, "max_new_tokens": 12},
        "num_resamples": 100,
    }
    ended = _run(tmp_path, "evaluate", common | evaluate, one_ray)
    assert "evaluate: model mine has test chrf" in ended.out and "learnt other data" not in ended.out

    content = Folder(f"{tmp_path}/runs/judged/evaluation").read_json("metrics.json")
    trained = newest_result(Folder(f"{tmp_path}/runs/translator"))
    assert trained is not None
    assert content["set"]["hash"] == trained["data"]["hash"], "what it has learnt"
    assert content["suite"]["generation"]["num_beams"] == 2
    assert set(content["baselines"]) == {"copy_source", "random_weights"}
    copied = content["baselines"]["copy_source"]["test"]
    sources, targets = zip(*test, strict=True)
    assert copied["chrf"]["value"] == pytest.approx(sacrebleu.corpus_chrf(sources, [targets]).score)
    assert "perplexity" not in copied and "perplexity" in content["differences"]["chosen - random_weights"]
    assert content["baselines"]["random_weights"]["num_steps"] == 6

    table = pq.read_table(tmp_path / "runs/judged/evaluation/predictions.parquet").to_pylist()
    mine = [row for row in table if row["model"] == "mine" and row["split"] == "test"]
    assert [row["target"] for row in mine] == list(targets)
    chrf = sacrebleu.corpus_chrf([row["prediction"] for row in mine], [list(targets)])
    assert content["models"][0]["test"]["chrf"]["value"] == pytest.approx(chrf.score) != 0
    assert len({row["id"] for row in mine}) == NUM_TEST
