"""The page on any runs: what one tells, and what tells several apart."""

import re
from pathlib import Path

import pytest

from llmcore.report import gather_runs, render_runs
from llmcore.report.differing import differing, flat
from llmcore.report.plots import compared_columns, label_of
from llmcore.report.run_words import headline
from llmcore.storage import Folder
from tests import pipeline_records as records


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    folder = Folder(str(tmp_path_factory.mktemp("runs")))
    records.write_pipeline(folder, records.evaluation() | records.CLOSER)
    records.write_run(folder, "slow", learning_rate=1e-3)
    records.write_run(folder, "fast", learning_rate=1e-2)
    records.write_run(folder, "lost", learning_rate=1e-1, error=RuntimeError("rank <1> was lost"))
    return folder


def _page(storage: Folder, *names: str) -> str:
    return render_runs(gather_runs([storage / name for name in names]))


def _texts(page: str) -> list[str]:
    """What stands in drawings."""
    return re.findall(r"<text[^>]*>([^<]*)</text>", page)


def test_a_leaf_is_told_as_one_writes_it_and_equal_numbers_are_equal() -> None:
    config = {"a": {"b": 1.0, "c": None, "d": True}, "sources": [{"url": "x"}, {"url": "y"}], "betas": [0.9, 0.95]}
    assert dict(flat(config)) == {
        "a.b": "1",
        "a.c": "null",
        "a.d": "true",
        "sources.0.url": "x",
        "sources.1.url": "y",
        "betas": "[0.9, 0.95]",
    }
    configs = [dict(flat(one)) for one in ({"a": 1, "b": 2}, {"a": 1.0, "b": True}, {"a": 1, "c": 0})]
    assert differing(configs, ["finetune"] * 3) == (["b", "c"], {"a": "1"})


def test_what_only_another_kind_of_run_has_is_no_difference() -> None:
    configs = [{"seed": "0", "base": "x"}, {"seed": "1", "base": "x"}, {"seed": "0", "tokens": "y"}]
    assert differing(configs, ["finetune", "finetune", "pretrain"]) == (["seed"], {"base": "x", "tokens": "y"})


def test_only_keys_that_differ_stand_side_by_side(storage: Folder) -> None:
    report = gather_runs([storage / "slow", storage / "fast"])
    assert report.differing == (
        ["train.optimizer.learning_rate"],
        {"base": "base", "train.optimizer.kind": "adamw", "train.seed": "0"},
    )
    page = render_runs(report)
    assert "2 runs that differ in 1 key" in page
    shown, folded = page.split("<details>")[:2]
    assert "train.optimizer.learning_rate" in shown and "<td>0.001</td><td>0.01</td>" in shown
    assert "train.optimizer.kind" not in shown and "train.optimizer.kind" in folded


def test_curves_of_several_runs_are_drawn_over_steps_tokens_and_device_seconds(storage: Folder) -> None:
    page = _page(storage, "slow", "fast")
    drawings = re.findall(r'aria-label="([^"]*)"', page)
    for metric in ("Loss", "Validation loss", "Validation accuracy"):
        for axis in ("step", "tokens seen", "device-seconds of training"):
            assert f"{metric} by {axis}" in drawings
    texts = _texts(page)
    for label in ("loss, nats", "step", "tokens seen", "device-seconds of training"):
        assert label in texts
    assert page.count('class="swatch"') == 2


def test_a_run_without_tokens_or_seconds_stands_in_the_plots_over_steps_alone(storage: Folder) -> None:
    page = _page(storage, "smoke.pretrain", "slow")
    assert 'aria-label="Loss by step"' in page and 'aria-label="Loss by device-seconds of training"' in page
    over_seconds = page.split('aria-label="Loss by device-seconds of training"')[1].split("</svg>")[0]
    over_steps = page.split('aria-label="Loss by step"')[1].split("</svg>")[0]
    assert "var(--accent)" in over_steps and "var(--data-wait)" in over_steps
    assert "var(--accent)" not in over_seconds and "var(--data-wait)" in over_seconds


def test_figures_of_an_evaluation_have_their_intervals(storage: Folder) -> None:
    report = gather_runs([storage / name for name in ("smoke.tune", records.TWIN, "slow")])
    chosen, twin, none = report.judged["smoke.evaluate", "test", "macro_f1"]
    assert chosen is not None and (chosen.value, chosen.low, chosen.high) == (0.604, 0.553, 0.651)
    assert twin is not None and twin.value == 0.51 and none is None
    page = render_runs(report)
    assert "<b>0.604</b> <small>0.553 to 0.651</small>" in page and "<b>0.510</b> <small>0.457 to 0.559</small>" in page


def test_results_stand_side_by_side(storage: Folder) -> None:
    page = _page(storage, "fast", "lost")
    row = re.search(r'<th scope="row">steps</th>(.*?)</tr>', page)
    assert row is not None and row[1] == '<td class="n">60</td><td class="n">–</td>'


def test_costs_are_stacked_and_told_with_devices(storage: Folder) -> None:
    page = _page(storage, "slow", "fast")
    assert 'aria-label="Wall seconds of each stage by category"' in page
    assert "wall seconds" in _texts(page) and "start up" in _texts(page)
    assert "2 cpu" in page


def test_the_energy_of_a_run_is_told_in_joules_and_kilowatt_hours(storage: Folder) -> None:
    assert "energy of the GPUs" not in _page(storage, "slow")
    place = "slow/attempts/01/cost.json"
    storage.write_json(place, storage.read_json(place) | {"energy_j": 7.2e6})
    page = _page(storage, "slow")
    assert "energy of the GPUs" in page and "7.20 MJ" in page and "2 kWh" in page


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("smoke.prepare", ["the preparation of a corpus that has succeeded", "documents read", "12,045"]),
        ("smoke.pretrain", ["a pre-training that has succeeded, with a validation loss of 4.982", "What it writes"]),
        (
            "smoke.tune",
            ["a search that has succeeded, whose model reaches macro\xa0F1 0.604", "4 trials", "0.553 to 0.651"],
        ),
        (
            "smoke.evaluate",
            [
                "an evaluation that has succeeded, whose model reaches macro\xa0F1 0.604",
                "Leaderboard",
                "looked at 3 times",
            ],
        ),
        ("slow", ["a fine-tuning that has succeeded", "train.optimizer.learning_rate", "0.001", "slow  (finetune"]),
        ("lost", ["a fine-tuning that has failed", "RuntimeError: rank &lt;1&gt; was lost"]),
    ],
)
def test_a_run_of_any_kind_has_its_page(storage: Folder, name: str, shown: list[str]) -> None:
    page = _page(storage, name)
    for words in (*shown, "Attempts", "Time and FLOPs", "Provenance"):
        assert words in page, words
    assert not re.search(r"url\((?!#)|@import|https?://|<script", page)
    assert page.count("<table") == page.count('<div class="scroll"><table'), "what is wide scrolls in its own box"
    assert render_runs(gather_runs([storage / name])) == page


def test_runs_of_one_name_in_two_storages_are_told_apart(storage: Folder, tmp_path: Path) -> None:
    other = Folder(str(tmp_path))
    records.write_run(other, "slow", learning_rate=3e-3)
    report = gather_runs([storage / "slow", other / "slow"])
    assert [run.name for run in report.runs] == [f"{storage.url}/slow", f"{other.url}/slow"]
    assert "differ in 1 key" in render_runs(report)


@pytest.mark.parametrize(
    ("column", "kind", "label"),
    [
        ("loss", "pretrain", "loss, nats a token"),
        ("validation_law_loss", "pretrain", "loss, nats a token"),
        ("validation_loss", "finetune", "loss, nats"),
        ("tokens_per_s", "finetune", "tokens a second"),
        ("validation_accuracy", "pretrain", "accuracy (0 to 1), validation"),
        ("compute_fraction", "finetune", "share of the time"),
        ("validation_macro_f1", "finetune", "macro\N{NO-BREAK SPACE}F1, validation"),
    ],
)
def test_a_vertical_axis_has_its_unit(column: str, kind: str, label: str) -> None:
    assert label_of(column, kind) == label


def test_what_is_compared_begins_with_losses(storage: Folder) -> None:
    report = gather_runs([storage / "slow", storage / "smoke.pretrain"])
    assert compared_columns(run.curves for run in report.runs)[:3] == ["validation_loss", "loss", "validation_accuracy"]


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (("slow", "fast"), "2 runs that differ in 1 key"),
        (("slow", "slow"), "2 runs that are configured alike"),
        (("slow", "smoke.evaluate"), "2 runs that are of different kinds"),
    ],
)
def test_the_headline_claims_no_more_than_what_was_compared(storage: Folder, names: tuple[str, str], told: str) -> None:
    assert headline(gather_runs([storage / name for name in names])) == told
