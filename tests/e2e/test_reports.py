"""Pages on the runs of a real tiny pipeline, by the command line, and in a browser where there is one."""

from pathlib import Path
from urllib.parse import urlparse

import pytest

from tests.browser import browser, look
from tests.drivers import run_jobs

RUNS = ("tiny.prepare", "tiny.pretrain", "tiny.tune", "tiny.evaluate", "tiny.evaluate.random-weights")


@pytest.fixture(scope="module")
def pages(reference: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What the command writes of each run alone, and of all together; none of it into the reference's storage."""
    folder = tmp_path_factory.mktemp("reports")
    urls = [str(reference / name) for name in RUNS]
    found: dict[str, str] = {}
    for runs in (*([url] for url in urls), urls):
        ended = run_jobs("report", *runs, "--storage", str(folder / "runs"), cwd=folder)
        assert ended.code == 0, ended.out + ended.err
        page = Path(urlparse(ended.out.splitlines()[-1].removeprefix("Report: ")).path)
        found[page.parent.name] = page.read_text(encoding="utf-8")
    return found


def test_each_run_has_its_page_and_all_have_one(pages: dict[str, str]) -> None:
    assert len(pages) == len(RUNS) + 1
    compared = next(page for name, page in pages.items() if "-and-4-more-" in name or "-vs-" in name)
    for axis in ("step", "tokens seen", "device-seconds of training"):
        assert f'aria-label="Loss by {axis}"' in compared
    for name in RUNS:
        assert "has succeeded" in pages[f"{name}.report"], name
        assert name in compared


def test_the_reports_look_right_in_a_browser(pages: dict[str, str], tmp_path: Path) -> None:
    browser()
    for scheme in ("light", "dark"):
        looks = look(pages, scheme, tmp_path)
        assert looks.console == []
        for page, found in looks.pages.items():
            assert (found["cut"], found["loaded"]) == ([], []), page
            assert found["scroll_width"] <= found["width"], page
            assert found["dark"] == (scheme == "dark")


def test_a_run_that_is_not_there_is_the_users_mistake(reference: Path, tmp_path: Path) -> None:
    ended = run_jobs("report", "tiny.pretrian", "--storage", str(reference), cwd=tmp_path)
    assert ended.code == 2
    assert "there is no run tiny.pretrian" in ended.err and "tiny.pretrain" in ended.err
