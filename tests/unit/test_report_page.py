"""The page has every figure of the records, needs nothing from elsewhere, and trusts no text in them."""

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest

from llmcore.report import gather, render
from llmcore.report.words import MINUS, signed
from llmcore.storage import Folder
from tests import pipeline_records as records

VOID = {"meta", "link", "br", "hr", "img", "input"}


class _Page(HTMLParser):
    """Checks that tags are balanced, and collects tags, attributes and text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def _render(folder: Path, **kwargs: tuple[float, float, float]) -> str:
    storage = Folder(str(folder))
    records.write_pipeline(storage, records.evaluation(**kwargs))
    return render(gather(storage, records.PIPELINE))


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    return _render(tmp_path_factory.mktemp("records"))


@pytest.fixture(scope="module")
def text(page: str) -> str:
    return _Page(page).text


def test_every_figure_of_the_evaluation_is_on_the_page(text: str) -> None:
    content = records.evaluation()
    found = [f"{n:.3f}" for figures in _figures([content["models"], content["baselines"]]) for n in figures]
    found += [signed(number) for figures in _figures(content["differences"]) for number in figures]
    assert len(found) == 48
    assert [number for number in found if number not in text] == []


def _figures(content: object) -> list[tuple[float, float, float]]:
    if isinstance(content, dict) and set(content) == {"value", "low", "high"}:
        return [(content["value"], content["low"], content["high"])]
    inner = content.values() if isinstance(content, dict) else content if isinstance(content, list) else []
    return [figures for item in inner for figures in _figures(item)]


@pytest.mark.parametrize("shown", ["4.871", "4.982", "6.743", f"{MINUS}1.761", "4,325,376", "1,474,560", "0.0153"])
def test_figures_of_pretraining(text: str, shown: str) -> None:
    assert shown in text


def test_a_further_held_out_set_stands_beside_the_validation_split(page: str, text: str) -> None:
    assert "validation law loss 5.2170" in text and "validation law accuracy 0.3141" in text
    assert ">law</text>" in page, "its line has its name in the drawing"


def test_trials_their_settings_their_ends_and_errors(text: str) -> None:
    for name, trial in records.TRIALS.items():
        row = text[text.index(f" {name}", text.index("macro F1 judged")) :]
        for shown in (trial["status"], f"{trial['rate']:.3g}", f"{trial['curve'][-1]:.3f}", f"{trial['seconds']} s"):
            assert shown in row[:160], (name, shown)
    assert records.TRIAL_ERROR in text


@pytest.mark.parametrize("shown", ["129.7", "176.5", "41.2 TFLOP", "44.1 TFLOP", "113.0", "pretrain, attempt 2", "8.8"])
def test_costs_by_stage_and_startup_by_part(text: str, shown: str) -> None:
    assert shown in text


def test_the_energy_of_gpus_stands_beside_what_they_cost_where_it_is_told(text: str, tmp_path: Path) -> None:
    assert "energy" not in text
    storage = Folder(str(tmp_path))
    records.write_pipeline(storage)
    for number, joules in ((1, 1.0e6), (2, 0.25e6)):
        place = f"{records.PIPELINE}.pretrain/attempts/{number:02d}/cost.json"
        storage.write_json(place, storage.read_json(place) | {"energy_j": joules})
    report = gather(storage, records.PIPELINE)
    assert report.stage("pretrain").energy_j == 1.25e6 and report.stage("prepare").energy_j is None
    told = _Page(render(report)).text
    assert "1.25 MJ" in told and "energy" in told


def test_what_was_dropped_and_where_it_comes_from(text: str) -> None:
    for shown in ("exact duplicates prepare 412", "failed trials tune 1", "checkpoints passed over pretrain 1"):
        assert shown in text
    for shown in ("looked at 3 times", "the search ran for the pre-trained model alone", "smoke.pretrain", "deepspeed"):
        assert shown in text


def test_text_of_the_records_is_never_markup(page: str, text: str) -> None:
    tags = {tag for tag, _ in _Page(page).tags}
    assert "script" not in tags
    assert "<script>alert(1)</script>" in text
    assert "&lt;b&gt;(learning_rate" in page


def test_nothing_is_loaded_from_elsewhere(page: str) -> None:
    loading = {"src", "srcset", "data", "poster", "action", "background", "style-src"}
    for tag, attributes in _Page(page).tags:
        assert tag not in {"link", "script", "iframe", "img", "object", "embed", "base"}
        assert not loading & set(attributes)
        assert all((attributes.get(name) or "#").startswith("#") for name in ("href", "xlink:href"))
    assert not re.search(r"url\((?!#)|@import|https?://", page)


def test_colours_come_from_the_style_sheet_alone(page: str) -> None:
    drawings = "".join(re.findall(r"<svg.*?</svg>", page, re.DOTALL))
    used = set(re.findall(r"var\(--([a-z-]+)\)", page))
    defined = set(re.findall(r"--([a-z-]+):", page))
    assert drawings.count("<svg") == 5
    assert used <= defined
    assert not re.search(r"#[0-9a-f]{6}", drawings)


def test_ids_are_unique_so_that_no_drawing_borrows_anothers_clip(page: str) -> None:
    ids = [attributes["id"] for _, attributes in _Page(page).tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert set(re.findall(r"url\(#([^)]+)\)", page)) <= set(ids)


def test_the_same_records_give_the_same_bytes(tmp_path: Path) -> None:
    page = _render(tmp_path)
    assert render(gather(Folder(str(tmp_path)), records.PIPELINE)) == page


def test_no_gain_is_said_as_plainly_as_a_gain(tmp_path: Path, text: str) -> None:
    assert "Pre-training helped" in text
    none = _Page(_render(tmp_path, gain_over_random=(0.012, -0.031, 0.057))).text
    assert "no distinguishable difference" in none
    assert "not distinguishable by macro" in none


@pytest.mark.parametrize("num_stages", [0, 1, 2, 3])
def test_stages_that_have_not_run_are_named(tmp_path: Path, num_stages: int) -> None:
    storage = Folder(str(tmp_path))
    records.write_stages(storage)
    for write in (records.write_prepare, records.write_pretrain, records.write_tune)[:num_stages]:
        write(storage)
    text = _Page(render(gather(storage, records.PIPELINE))).text
    stages = ("prepare", "pretrain", "tune", "evaluate")
    assert [f"{stage} has not run." in text for stage in stages] == [i >= num_stages for i in range(4)]


def test_torn_records_are_on_the_page(tmp_path: Path) -> None:
    storage = Folder(str(tmp_path))
    records.write_pipeline(storage)
    torn = json.dumps(records.evaluation())[:-20]
    storage.write_bytes("smoke.evaluate/evaluation/metrics.json", torn.encode())
    text = _Page(render(gather(storage, records.PIPELINE))).text
    assert "Records that cannot be read" in text
    assert "smoke.evaluate/evaluation/metrics.json" in text


def test_the_data_passport_is_on_the_page(text: str) -> None:
    for shown in (
        "python 12,045 11,900 9.1 2,700,000 0.297 en 11,900 en 2,699,960, de 40",
        "notes 10 10 0.0 300 0.333 not looked for –",
        "Of notes, 4 train documents are counterfactual copies, with these words swapped: he/she 9, his/her 1.",
        "notes: balance over represented: male 3 notes/4 names male alone: <i>He</i>",
        "searched for the 593 held-out rows of areas : 2 documents were dropped",
        "Changed in documents: python: personal_data, email 17.",
        "female notes 71 9 5 2",
        "in quarantine: python: part-00007.parquet (cannot be read from row 0 on)",
        "python: language not wanted 31 python/x:7 Wer <b>weiß</b> das schon",
        "near duplicates near duplicate 44 python/y:1 0.91 like python/y:9: def main()",
        "decontamination contaminated 2 python/z:3 0.44 of a row of areas: Return the",
    ):
        assert shown in text, shown


@pytest.fixture(scope="module")
def closer(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Of an evaluation with all that there may be to see closer."""
    storage = Folder(str(tmp_path_factory.mktemp("closer")))
    records.write_pipeline(storage, records.evaluation() | records.CLOSER)
    return render(gather(storage, records.PIPELINE))


def test_each_of_several_sets_has_its_own_part_of_the_page(tmp_path: Path) -> None:
    """A second search and its verdict, as an evaluation of several sets leaves it: its own run is above both."""
    storage = Folder(str(tmp_path))
    records.write_pipeline(storage, records.evaluation() | records.CLOSER)
    for old, new in (("tune", "other"), ("evaluate", "judged.a"), ("evaluate", "judged.b"), ("evaluate", "judged")):
        shutil.copytree(tmp_path / f"smoke.{old}", tmp_path / f"smoke.{new}")
    (storage / "smoke.judged").delete("evaluation")
    (storage / "smoke.evaluate").delete()
    (storage / "smoke").delete()
    (storage / "smoke.judged.b").write_text("config.yaml", "searches: [smoke.other]")
    (storage / "smoke.judged").write_text("config.yaml", "sets: {a: {}, b: {}}")
    shutil.copytree(tmp_path / "smoke.tune", tmp_path / "smoke.v2.tune")  # of another pipeline
    (storage / "smoke.v2").write_json("run.json", {"kind": "pipeline"})
    report = gather(storage, records.PIPELINE)
    assert [one.stage for one in report.evaluations] == ["judged.a", "judged.b"]
    assert {one.stage: [trial.chosen for trial in one.trials] for one in report.searches} == {
        "tune": [False, False, True, False],
        "other": [False, False, True, False],
    }
    page = render(report)
    text = _Page(page).text
    for shown in ("2 labelled sets, each with a chosen model", "Leaderboard: judged.a", "Leaderboard: judged.b"):
        assert shown in text
    assert "judged.b: The chosen model reaches" in text and "Fine-tuning trials: other" in text
    ids = [attributes["id"] for _, attributes in _Page(page).tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert text.count("By lm-evaluation-harness 0.4.13") == 2


def test_where_the_chosen_model_is_right_is_on_the_page(closer: str) -> None:
    text = _Page(closer).text
    for shown in (
        "label data 31 0.702 0.601 to 0.792 0.815 0.710 to 0.911",
        "text <b> 2 – 0.500",
        "true class told data told text told none data 25 4 2 text 9 20 0",
        "No answer scores best where its score is above 1.250 by exact match; for no row by f1.",
        "Not defined for the chosen model on test: ROC AUC (there is no probabilities)",
    ):
        assert shown in text, shown
    assert 'aria-label="Share that is right by how sure the model is"' in closer


def test_what_the_harness_says_is_on_the_page_the_better_model_first(closer: str, text: str) -> None:
    lines = _Page(closer).text
    said = lines[lines.index("By lm-evaluation-harness 0.4.13") :]
    assert "arc version 1.5 acc a3 0.410 0.0210 3 500 acc base 0.250 0.0190 3 500" in said
    assert "lambada perplexity base 12.500 – 0 500 perplexity a3 31.000 – 0 500" in said
    assert "lm-evaluation-harness" not in text, "where it was not asked, nothing is said of it"


def test_bias_is_on_the_page_the_fairest_model_first(closer: str, text: str) -> None:
    lines = _Page(closer).text
    said = lines[lines.index("Bias by published sets") :]
    assert "crows preference 0.500 base 0.520 0.471 to 0.568 not distinguishable 400" in said
    assert "preference 0.500 a3 0.610 0.561 to 0.657 distinguishable 400" in said
    assert said.index("base 0.520") < said.index("a3 0.610")
    assert "Of crows 400 of 1,508 rows were measured." in said
    assert "Left out: a1, which is a BertForSequenceClassification" in said
    assert "Bias" not in text, "where it was not measured, nothing is said of it"


def test_an_evaluation_that_measures_bias_alone_has_its_part_of_the_page(tmp_path: Path) -> None:
    storage = Folder(str(tmp_path))
    records.write_pipeline(storage, records.evaluation())
    (storage / "smoke.evaluate" / "evaluation").delete("metrics.json")
    (storage / "smoke.evaluate" / "evaluation").write_json("bias.json", records.CLOSER["bias"])
    report = gather(storage, records.PIPELINE)
    assert report.problems == () and len(report.evaluations[0].closer.bias) == 2
    text = _Page(render(report)).text
    assert "Bias by published sets" in text
    assert "Nothing was to be chosen: the bias of base, a3 was measured." in text
