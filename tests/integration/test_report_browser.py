"""Every kind of page in a real browser, on a phone and on a laptop, light and dark."""

from pathlib import Path

import pytest

from llmcore.config.common import LONGEST_NAME
from llmcore.config.transfer import WEIGHTS, Point
from llmcore.cost.plan import RankMemory
from llmcore.report import gather, gather_runs, render, render_runs
from llmcore.report.planned import PlannedJob, render_plan
from llmcore.report.transfer import render_transfer
from llmcore.storage import Folder
from tests import pipeline_records as records
from tests.browser import WIDTHS, Looks, browser, look
from tests.transfers import given_outcome

_COMPARED = ("smoke.pretrain", "smoke.tune", "smoke.evaluate", records.TWIN)
_POINTS = {
    Point(weights, labels, epochs, 0): (20 + (weights == "pretrained") * 8 + labels // 100, labels * epochs / 10)
    for weights in WEIGHTS
    for labels in (20, 100, 1000)
    for epochs in (1.0, 3.0)
}
"""Right answers and device-seconds of each point."""
_LONG = "a-run-whose-name-is-as-long-as-a-name-may-be".ljust(LONGEST_NAME, "x")


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A page of each kind: a pipeline, its runs one by one, some side by side, a transfer, a plan."""
    storage = Folder(str(tmp_path_factory.mktemp("runs")))
    records.write_pipeline(storage, records.evaluation() | records.CLOSER)
    records.write_run(storage, _LONG, learning_rate=1e-3)
    alone = ("smoke.prepare", *_COMPARED, _LONG)
    memory = {stage: RankMemory(6e9 / (stage + 1), 3e9, 4e10, 0.0, 1e9) for stage in range(4)}
    planned = PlannedJob(
        name="gpt2-124m",
        lines=("Tokens: 524,288 a step", "FLOPs: 8.5e+08 a token"),
        stage=1,
        memory=memory,
        device="H100",
        usable=7.9e10,
        num_parameters=124_000_000,
        num_tokens=1e10,
        optimum=(2.7e8, 5.3e9),
        device_hours=(4.8, 8.0),
        money=(9.1, 98.0),
        currency="USD",
    )
    return {
        "pipeline": render(gather(storage, records.PIPELINE)),
        **{name: render_runs(gather_runs([storage / name])) for name in alone},
        "compared": render_runs(gather_runs([storage / name for name in (*_COMPARED, _LONG)])),
        "transfer": render_transfer(
            given_outcome(
                tmp_path_factory.mktemp("transfer"), _POINTS, pretraining=100.0, labels=[20, 100, 1000], epochs=[1, 3]
            )
        ),
        "plan": render_plan("gpt2-124m", [planned, PlannedJob("judged", ("trains no model of its own",))]),
    }


@pytest.fixture(scope="module", params=["light", "dark"])
def looks(request: pytest.FixtureRequest, pages: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Looks:
    browser()
    return look(pages, request.param, tmp_path_factory.mktemp(request.param))


def test_nothing_is_cut_off_and_no_page_moves_sideways(looks: Looks, pages: dict[str, str]) -> None:
    assert looks.pages.keys() == {(name, width) for name in pages for width in WIDTHS}
    for page, found in looks.pages.items():
        assert found["cut"] == [], page
        assert found["scroll_width"] <= found["width"] <= page[1], page


def test_drawings_can_be_read_on_a_phone(looks: Looks) -> None:
    sizes = {page: found["smallest_text"] for page, found in looks.pages.items() if found["smallest_text"]}
    assert min(sizes.values()) >= 9, sizes


def test_nothing_is_asked_for_and_the_console_is_silent(looks: Looks) -> None:
    assert looks.console == []
    assert {page: found["loaded"] for page, found in looks.pages.items() if found["loaded"]} == {}


def test_the_scheme_is_the_readers(looks: Looks) -> None:
    backgrounds = {(found["dark"], found["background"]) for found in looks.pages.values()}
    assert len(backgrounds) == 1
    assert backgrounds <= {(False, "rgb(255, 255, 255)"), (True, "rgb(20, 23, 27)")}


def test_a_page_that_is_cut_off_and_loads_something_is_found_out(tmp_path: Path) -> None:
    browser()
    page = (
        '<div style="width: 2000px">wide</div><img src="http://127.0.0.1:9/x.png">'
        '<svg role="img" aria-label="drawing" viewBox="0 0 10 10" width="10"><text x="9">beyond</text></svg>'
        '<script>console.error("something is wrong")</script>'
    )
    found = look({"bad": page}, "light", tmp_path)
    on_a_phone = found.pages["bad", 390]
    assert on_a_phone["scroll_width"] > 390
    assert any("drawing: beyond" in one for one in on_a_phone["cut"])
    assert on_a_phone["loaded"] == ["http://127.0.0.1:9/x.png"]
    assert any("something is wrong" in line for line in found.console)
