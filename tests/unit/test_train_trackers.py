"""TensorBoard's files on any storage; W&B and MLflow for real, offline, where they are installed."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmcore.errors import ConfigError
from llmcore.storage import Folder
from llmcore.train import trackers
from llmcore.train.tensorboard import EventsWriter
from llmcore.train.trackers import check_trackers, numbers_of, open_trackers
from tests.events import read_events


def test_a_second_writer_goes_on_and_every_number_is_read_back_in_order(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path))
    told = [(step, "loss", 1.0 / step) for step in range(1, 4000)]
    for part in (told[:3000], told[3000:]):
        writer = EventsWriter(folder)
        for step, name, value in part:
            writer.log(step, {name: value})
        writer.close()
    names = (folder / "tensorboard").names()
    assert len(names) == 3, "a file has 2,048 events at most, and a writer begins its own"
    found = read_events(folder / "tensorboard")
    assert [(step, name) for step, name, _ in found] == [(step, name) for step, name, _ in told]
    assert [value for *_, value in found] == pytest.approx([value for *_, value in told], rel=1e-6)


def test_it_needs_no_file_that_can_be_appended_to() -> None:
    folder = Folder("memory://test_train_trackers")
    writer = EventsWriter(folder)
    writer.log(1, {"loss": 2.0})
    writer.close()
    assert read_events(folder / "tensorboard") == [(1, "loss", 2.0)]


@given(st.dictionaries(st.text(min_size=1), st.one_of(st.floats(), st.integers(-9, 9), st.booleans(), st.text())))
def test_numbers_are_the_finite_ones(row: dict[str, Any]) -> None:
    numbers = numbers_of({"step": 3} | row)
    assert "step" not in numbers
    assert all(isinstance(value, float) and value - value == 0 for value in numbers.values())


def test_a_tracker_that_is_not_installed_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trackers, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"names wandb, which is not installed: pip install 'llmcore\[wandb\]'"):
        check_trackers(["wandb"])


def test_mlflow_is_told_numbers_by_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlflow", reason="an extra")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    [tracker] = open_trackers(["mlflow"], "a-run", {"seed": 3})
    for step in (1, 2):
        tracker.log(step, {"loss": 4.0 / step})
    tracker.close()
    [metric] = tmp_path.glob("mlruns/0/*/metrics/loss")
    assert [line.split()[1:] for line in metric.read_text().splitlines()] == [["4.0", "1"], ["2.0", "2"]]
    [parameter] = tmp_path.glob("mlruns/0/*/params/seed")
    assert parameter.read_text() == "3"


def test_wandb_is_told_numbers_by_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wandb = pytest.importorskip("wandb", reason="an extra")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    [tracker] = open_trackers(["wandb"], "a-run", {"seed": 3})
    told = wandb.run
    assert dict(told.config) == {"seed": 3}
    for step in (1, 2):
        tracker.log(step, {"loss": 4.0 / step})
    tracker.close()
    [record] = tmp_path.glob("wandb/offline-run-*/run-*.wandb")
    assert b"loss" in record.read_bytes()
