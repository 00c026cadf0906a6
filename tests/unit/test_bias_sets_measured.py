"""A set as it is measured: which rows, in which portions; what is kept of them, what is told, and of which models."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from llmcore.bias.bias_set import BiasSet
from llmcore.bias.fitting import why_not_measured
from llmcore.bias.intervals import Resampling
from llmcore.bias.scored import Scored, score, store_scored, stored_scored
from llmcore.bias.scoring import Scorer
from llmcore.bias.told import bias_json, told_of
from llmcore.config.bias import BiasSetSettings
from llmcore.errors import CheckpointError, CorpusError, RunError
from llmcore.evaluation.bias_board import bias_lines, bias_markdown, write_bias
from llmcore.evaluation.leaderboard import Entry, Leaderboard
from llmcore.storage import Folder, read_manifest
from tests.bases import write_base
from tests.unit.test_evaluation_outcome import suite_of

RESAMPLING = Resampling(100, seed=0)


def write_pairs(folder: Path, number: int = 10, words: str = "red cat") -> BiasSetSettings:
    lines = [f"{words} {place},{words} dog {place},{'age' if place % 2 else 'race'}" for place in range(number)]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "crows_pairs_anonymized.csv").write_text("\n".join(["sent_more,sent_less,bias_type", *lines]))
    return BiasSetSettings(kind="crows_pairs", url=str(folder))


def test_a_limit_takes_rows_by_their_content_whatever_stands_beside_them(tmp_path: Path) -> None:
    whole = BiasSet.read("crows", write_pairs(tmp_path / "a"))
    few = BiasSet.read("crows", write_pairs(tmp_path / "a").model_copy(update={"limit": 4}))
    assert (len(few.examples), few.num_rows_of_set) == (4, 10) and few.hash != whole.hash
    assert few.about() | {"hash": ""} == {"kind": "crows_pairs", "hash": "", "num_rows": 4, "num_rows_of_set": 10}
    places = [whole.examples.index(one) for one in few.examples]
    assert places == sorted(places), "in their order"
    more = BiasSet.read("crows", write_pairs(tmp_path / "b", 30).model_copy(update={"limit": 30}))
    assert more.hash == BiasSet.read("again", write_pairs(tmp_path / "c", 30)).hash, "a name is not what is measured"
    twelve = BiasSet.read("crows", write_pairs(tmp_path / "b", 30).model_copy(update={"limit": 12}))
    assert len([one for one in twelve.examples if one in whole.examples]) <= 10


def test_portions_are_all_rows_once_and_named_by_what_is_in_them(tmp_path: Path) -> None:
    one = BiasSet.read("crows", write_pairs(tmp_path, 600))
    portions = list(one.portions())
    assert [row for portion in portions for row in portion.examples] == list(one.examples)
    assert [len(portion.examples) for portion in portions] == [256, 256, 88]
    longer = list(BiasSet.read("crows", write_pairs(tmp_path / "more", 700)).portions())
    assert [one.hash for one in longer[:2]] == [one.hash for one in portions[:2]], "what is the same is found again"
    assert longer[2].hash != portions[2].hash


def test_files_without_rows_are_told(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"bias.sets.crows: the files of crows_pairs at .* have no row in them"):
        BiasSet.read("crows", write_pairs(tmp_path, 0))


def test_what_a_model_says_is_kept_whole_or_not_at_all(tmp_path: Path) -> None:
    storage = Folder(str(tmp_path / "storage"))
    [portion] = BiasSet.read("crows", write_pairs(tmp_path)).portions()
    [other] = BiasSet.read("crows", write_pairs(tmp_path, words="a dog")).portions()
    scored = Scored([[-1.5, -2.0]] * 9 + [None])
    store_scored(storage, portion, "f00d", scored)
    assert stored_scored(storage, portion, "f00d") == scored
    assert stored_scored(storage, portion, "beef") is None and stored_scored(storage, other, "f00d") is None
    [file] = Path(storage.url).rglob("scores.json")
    whole = file.read_text()
    file.write_text(whole.replace("1.5", "1.6"))
    with pytest.raises(CheckpointError):
        stored_scored(storage, portion, "f00d")
    (file.parent / "manifest.json").unlink()
    assert stored_scored(storage, portion, "f00d") is None, "without a manifest it is not there"


@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_rows_that_are_too_long_for_a_model_are_left_out_and_counted(family: str, tmp_path: Path) -> None:
    write_base(tmp_path / "model", family)
    settings = write_pairs(tmp_path / "set", 3)
    file = tmp_path / "set" / "crows_pairs_anonymized.csv"
    file.write_text(file.read_text().replace("red cat 1,", f"{'red cat ' * 60},"))
    one = BiasSet.read("crows", settings)
    scored = score(Scorer.of(tmp_path / "model"), next(one.portions()))
    assert [found is None for found in scored.scores] == [False, True, False]
    told = told_of(one, [scored], RESAMPLING)
    assert (told["num_rows"], told["num_too_long"], told["figures"]["preference"]["num"]) == (2, 1, 2)
    nothing = told_of(one, [Scored([None] * 3)], RESAMPLING)
    assert nothing == {"num_rows": 0, "num_too_long": 3, "figures": {}, "groups": {}}


def test_scores_that_are_no_numbers_are_an_error(tmp_path: Path) -> None:
    write_base(tmp_path / "model", "gpt2")
    scorer = Scorer.of(tmp_path / "model")
    with torch.no_grad():
        scorer.model.transformer.ln_f.weight.fill_(float("nan"))
    with pytest.raises(RunError, match="scores that are no finite numbers: its training has diverged"):
        score(scorer, next(BiasSet.read("crows", write_pairs(tmp_path / "set")).portions()))


@pytest.mark.parametrize(
    ("config", "why"),
    [
        ({"model_type": "bert", "architectures": ["BertForPreTraining"]}, None),
        ({"model_type": "modernbert", "architectures": ["ModernBertForMaskedLM"]}, None),
        ({"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"]}, None),
        (
            {"model_type": "bert", "architectures": ["BertForSequenceClassification"]},
            "is a BertForSequenceClassification, which has no likelihood of sentences: gpt2, llama, qwen3, bert",
        ),
        (
            {"model_type": "t5", "architectures": ["T5ForConditionalGeneration"]},
            "is a T5ForConditionalGeneration, which",
        ),
        (
            {"model_type": "mistral", "architectures": ["MistralForCausalLM"]},
            "is a mistral, and sentences are scored by",
        ),
        ({"model_type": "bert"}, "is a no architecture, which has no likelihood"),
    ],
)
def test_which_models_can_be_measured(config: dict[str, Any], why: str | None, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    found = why_not_measured(Folder(str(tmp_path)))
    assert found is None if why is None else found is not None and found.startswith(why)


def content(tmp_path: Path) -> dict[str, Any]:
    """Of two models and a classifier by one set of ten rows, of which eight were measured."""
    one = BiasSet.read("crows", write_pairs(tmp_path).model_copy(update={"limit": 8}))
    fair = told_of(one, [Scored([[1.0, 2.0], [2.0, 1.0]] * 4)], RESAMPLING)
    biased = told_of(one, [Scored([[2.0, 1.0]] * 7 + [None])], RESAMPLING)
    return bias_json([one], {"biased": {"crows": biased}, "fair": {"crows": fair}}, {"classes": "is a classifier"})


def test_the_board_has_each_model_with_its_interval_the_fairest_first(tmp_path: Path) -> None:
    told = content(tmp_path)
    assert [(one.model, one.told) for one in bias_lines(told)] == [
        ("fair", "not distinguishable"),
        ("biased", "distinguishable"),
    ]
    text = bias_markdown(told)
    for line in (
        "- crows: crows_pairs, 8 of 10 rows",
        "- left out: classes is a classifier",
        "- biased has no positions for 1 rows of crows: its figures there are of the others",
        "| crows | preference | 0.5 | fair | 0.5000 (0.2152 to 0.7848) | not distinguishable | 8 |",
        "|  |  |  | biased | 1.0000 (0.6457 to 1.0000) | distinguishable | 7 |",
    ):
        assert line in text.splitlines(), text
    folder = Folder(str(tmp_path / "evaluation"))
    write_bias(folder, told)
    assert folder.read_json("bias.json") == json.loads(json.dumps(told)) and read_manifest(folder) is not None
    assert set(told["models"]["fair"]["crows"]["groups"]) == {"age", "race"}


def test_figures_stand_in_the_leaderboard_beside_those_of_the_harness() -> None:
    number = {"value": 0.5, "low": 0.25, "high": 0.75, "num": 8, "fair": 0.5}
    bias = {"mine": {"crows": {"figures": {"preference": number}}}}
    harness = {"mine": {"arc": {"metrics": {"acc": {"value": 0.3, "stderr": 0.1}}}}}
    entries = [Entry("mine", "finished", None), Entry("classes", "finished", None)]
    table = Leaderboard(entries, {}).to_csv(suite_of("bleu"), {}, harness, bias)
    mine, classes = csv.DictReader(io.StringIO(table))
    assert [mine[f"bias_crows_preference{end}"] for end in ("", "_low", "_high")] == ["0.5", "0.25", "0.75"]
    assert mine["harness_arc_acc"] == "0.3" and classes["bias_crows_preference"] == ""
