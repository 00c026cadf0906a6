"""What a process tells Ray's metrics, without Ray: which numbers, whose they are, and what they cost a step."""

import sys
import time
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from jobs.runtime import metrics
from jobs.runtime.budget import fractions
from jobs.runtime.metrics import RunMetrics
from llmcore.config.budget import BudgetSettings
from llmcore.storage import Folder
from llmcore.train.place import Place

OF_RUN = RunMetrics("demo.pretrain", 2, "pretrain")


@pytest.fixture
def connected(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As if this process were on a cluster, whose agent nobody asks."""
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(is_initialized=lambda: True))
    monkeypatch.setattr(metrics, "_keep", lambda: None)
    yield
    metrics._kept.clear()


def kept() -> dict[str, float]:
    return {name if label is None else f"{name}/{label}": value for (_, name, label), value in metrics._kept.items()}


def test_without_ray_nothing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "ray", raising=False)
    OF_RUN.set("llmcore_loss", 1.0)
    assert metrics._kept == {} and "ray" not in sys.modules
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(is_initialized=lambda: False))
    OF_RUN.set("llmcore_loss", 1.0)
    assert metrics._kept == {}


def test_a_place_says_whose_the_numbers_are() -> None:
    run = Folder("/storage/demo.tune")
    assert RunMetrics.of(Place(run, 3, (), run), "pretrain") == RunMetrics("demo.tune", 3, "pretrain")
    for folder in (run / "trials/trial-007", run / "trials/trial-007/lives/02"):
        assert RunMetrics.of(Place(folder, 3, (), run), "finetune").who() == {
            "run": "demo.tune",
            "attempt": 3,
            "kind": "finetune",
            "trial": "trial-007",
        }


def test_a_row_and_a_checkpoint_are_told(connected: None) -> None:
    OF_RUN.launched(1000.0)
    assert kept()["llmcore_checkpoint_timestamp_seconds"] == 1000.0
    before = time.time()
    row = {"step": 7, "loss": 2.5, "tokens_per_s": 1e4, "data_wait_fraction": 0.1, "grad_norm": 3.0}
    OF_RUN.told(row)
    OF_RUN.told({"checkpoint_time": 2000.0, "checkpoint_s": 4.0})
    found = kept()
    assert found["llmcore_progress_timestamp_seconds"] >= before
    assert (
        found
        | {
            "llmcore_step": 7,
            "llmcore_loss": 2.5,
            "llmcore_tokens_per_second": 1e4,
            "llmcore_data_wait_fraction": 0.1,
            "llmcore_checkpoint_timestamp_seconds": 2000.0,
            "llmcore_checkpoint_duration_seconds": 4.0,
        }
        == found
    )
    assert "llmcore_mfu" not in found  # no peak is known


def test_a_loss_that_is_none_does_not_hide_the_last_one(connected: None) -> None:
    OF_RUN.set("llmcore_loss", 2.0)
    OF_RUN.set("llmcore_loss", float("nan"))
    assert kept() == {"llmcore_loss": 2.0}


def test_a_name_that_is_not_in_the_list_is_a_mistake(connected: None) -> None:
    with pytest.raises(KeyError):
        OF_RUN.set("llmcore_los", 1.0)
    with pytest.raises(AssertionError):
        OF_RUN.set("llmcore_trials", 1.0)


def test_money_is_told_where_there_is_a_price(connected: None) -> None:
    budget = BudgetSettings(hours=10, money=100, price_per_device_hour=2.0)
    spent = fractions(budget, 5.0, 20.0)
    assert spent == {"hours": 0.5, "money": 0.4}
    OF_RUN.spent(budget, spent, 20.0)
    assert kept() == {
        "llmcore_budget_fraction/hours": 0.5,
        "llmcore_budget_fraction/money": 0.4,
        "llmcore_money_spent": 40.0,
    }
    metrics._kept.clear()
    OF_RUN.spent(BudgetSettings(), fractions(BudgetSettings(), 5.0, 20.0), 20.0)
    assert kept() == {}


def test_what_a_process_is_done_with_is_forgotten(connected: None) -> None:
    twin = RunMetrics("demo.evaluate.random-weights", 1, "finetune")
    OF_RUN.set("llmcore_loss", 1.0)
    twin.set("llmcore_loss", 2.0)
    twin.forget()
    assert [key[0] for key in metrics._kept] == [OF_RUN]


def test_a_row_costs_a_step_microseconds(connected: None) -> None:
    row = {"step": 7.0, "loss": 2.5, "tokens_per_s": 1e4, "data_wait_fraction": 0.1, "mfu": 0.4}
    best_s = float("inf")
    for _ in range(20):
        began = time.perf_counter()
        for _ in range(100):
            OF_RUN.told(row)
        best_s = min(best_s, (time.perf_counter() - began) / 100)
    print(f"{best_s * 1e6:.1f} µs a row")
    assert best_s < 200e-6
