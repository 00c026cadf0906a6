"""The shipped comparison of corpora, made small: one is planted, two undo it, and one evaluation holds all three."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.drivers import ROOT, run_jobs
from tests.planted_people import about_people, made_up_sentences, write_people

GOES_WITH = 0.95
SMALL = {
    "storage": "runs",
    "cluster.num_cpus": 2,
    "stages.plain.tokenizer.vocab_size": 400,
    "stages.plain.packing.sequence_length": 48,
    **{f"stages.{stage}.packing.sequence_length": 48 for stage in ("swapped", "balanced", "prose")},
    **{
        f"stages.{stage}.{key}": value
        for stage in ("as_it_is", "of_swapped", "of_balanced")
        for key, value in (("train.num_steps", 100), ("train.global_batch_size", 16), ("model.sizes.n_embd", 64))
    },
}


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory, one_ray: dict[str, str]) -> tuple[Path, dict[str, Any]]:
    """The folder of the runs, and what the sets say."""
    folder = tmp_path_factory.mktemp("bias")
    spoken = [*about_people(made_up_sentences({"she": 700, "he": 700}, seed=0))]
    write_people(folder / "data", spoken, goes_with=GOES_WITH, num_held_out=60)
    (folder / "data/books").mkdir()
    prose = [one.text.format("Somebody") for one in about_people(made_up_sentences({"she": 200, "he": 200}, seed=1))]
    (folder / "data/books/part-0.jsonl").write_text("".join(json.dumps({"text": one}) + "\n" for one in prose))
    changes = [f"{key}={value}" for key, value in SMALL.items()]
    ended = run_jobs("pipeline", str(ROOT / "configs/pipeline/bias.yaml"), *changes, cwd=folder, **one_ray)
    assert ended.code == 0, ended.out + ended.err
    print(f"\nthe pipeline: {ended.seconds:.0f} s")
    runs = folder / "runs"
    return runs, json.loads((runs / "bias.judged/evaluation/bias.json").read_text())


def test_what_was_planted_is_found_and_undone_by_both(judged: tuple[Path, dict[str, Any]]) -> None:
    runs, content = judged
    print((runs / "bias.judged/evaluation/bias.md").read_text())
    told = {name: sets["people"]["figures"]["preference"] for name, sets in content["models"].items()}
    assert told["as_it_is"]["low"] > 0.5 and content["against"] == "as_it_is"
    for name in ("swapped", "balanced"):
        apart = content["differences"][name]["people"]["preference"]
        assert apart["high"] < 0 and apart["value"] == pytest.approx(told[name]["value"] - told["as_it_is"]["value"])


def test_the_page_holds_them_against_each_other(judged: tuple[Path, dict[str, Any]]) -> None:
    runs, _ = judged
    page = (runs / "bias.report/report.html").read_text()
    assert "model, less as_it_is" in page and "Bias by published sets" in page
    assert (runs / "bias.judged/evaluation/bias.md").read_text().count("Less as_it_is, of the same rows:") == 1
