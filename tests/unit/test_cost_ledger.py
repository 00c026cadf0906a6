"""The ledger: each second once, and what follows from seconds."""

import json
import time
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmcore.cost import CATEGORIES, Ledger

Tree = tuple[str, float, list["Tree"]]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    now = [100.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    return now  # type: ignore[return-value]


def test_inner_measures_are_not_counted_twice(clock: list[float]) -> None:
    ledger = Ledger(2, "cpu")
    with ledger.measure("start_up"):
        clock[0] += 1
        with ledger.measure("start_up", "imports"):
            clock[0] += 2
            with ledger.measure("data_wait"):
                clock[0] += 4
        with ledger.measure("start_up", "model"):
            clock[0] += 8
        with ledger.measure("start_up", "imports"):
            clock[0] += 16
    with ledger.measure("compute"):
        clock[0] += 32
    cost = ledger.to_json()
    assert cost["seconds"] == dict.fromkeys(CATEGORIES, 0.0) | {"start_up": 27.0, "data_wait": 4.0, "compute": 32.0}
    assert cost["device_seconds"]["start_up"] == 54.0
    assert cost["start_up_parts"] == {"imports": 18.0, "model": 8.0}


trees = st.recursive(
    st.tuples(st.sampled_from(CATEGORIES), st.integers(0, 100).map(float), st.just([])),
    lambda inner: st.tuples(st.sampled_from(CATEGORIES), st.integers(0, 100).map(float), st.lists(inner, max_size=3)),
    max_leaves=10,
)


@given(st.lists(trees, max_size=3))
@settings(max_examples=60, deadline=None)
def test_categories_add_up_to_the_time_that_passed_however_measures_nest(forest: list[Tree]) -> None:
    now = [0.0]
    own: dict[str, float] = dict.fromkeys(CATEGORIES, 0.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "perf_counter", lambda: now[0])
        ledger = Ledger(1, "cpu")

        def spend(tree: Tree) -> None:
            category, seconds, inner = tree
            with ledger.measure(category):  # type: ignore[arg-type]
                now[0] += seconds
                own[category] += seconds
                for child in inner:
                    spend(child)

        for tree in forest:
            spend(tree)
    assert ledger.to_json()["seconds"] == own and sum(own.values()) == now[0]


def test_a_block_that_raises_is_counted(clock: list[float]) -> None:
    ledger = Ledger(1, "cpu")
    with pytest.raises(ZeroDivisionError), ledger.measure("compute"), ledger.measure("checkpoint"):
        clock[0] += 3
        _ = 1 // 0
    with ledger.measure("compute"):
        clock[0] += 1
    seconds = ledger.to_json()["seconds"]
    assert (seconds["checkpoint"], seconds["compute"]) == (3.0, 1.0)


def test_what_nobody_claims_is_idle() -> None:
    ledger = Ledger(2, "cpu")
    ledger.add("compute", 6.0)
    ledger.fill_idle(10.0)
    assert ledger.to_json()["seconds"]["idle"] == 4.0 and ledger.to_json()["device_seconds"]["idle"] == 8.0
    ledger.fill_idle(5.0)
    assert ledger.to_json()["seconds"]["idle"] == 4.0


def test_devices_that_are_known_late_were_held_before() -> None:
    ledger = Ledger(1, "cpu")
    ledger.add_before(3.0, "connect")
    ledger.add("compute", 5.0)
    ledger.hold(4, "NVIDIA L4")
    ledger.fill_idle(10.0)
    cost = ledger.to_json()
    assert (cost["devices"], cost["device"]) == (4, "NVIDIA L4")
    assert sum(cost["seconds"].values()) == 13.0, "before it, and ten"
    assert cost["device_seconds"] == {category: 4 * seconds for category, seconds in cost["seconds"].items()}


def test_rates_and_money_follow_from_seconds() -> None:
    ledger = Ledger(4, "NVIDIA H100", peak_flops_per_s=100.0, price_per_device_hour=2.0)
    ledger.add("compute", 8.0)
    ledger.add("data_wait", 2.0)
    ledger.add("idle", 890.0)
    assert ledger.to_json()["flops"] is None and ledger.to_json()["mfu"] is None
    ledger.count(flops=1000.0, tokens=5)
    ledger.count(flops=1000.0)
    cost = ledger.to_json()
    assert (cost["flops"], cost["tokens"], cost["flops_per_s"]) == (2000.0, 5, 200.0)
    assert cost["mfu"] == 0.5 and cost["money"] == pytest.approx(900 * 4 / 3600 * 2.0)
    assert (cost["devices"], cost["device"]) == (4, "NVIDIA H100")


def test_what_is_not_known_is_null_and_never_guessed() -> None:
    ledger = Ledger(1, "cpu")
    ledger.count(flops=10.0)
    cost = json.loads(json.dumps(ledger.to_json()))
    assert [cost[key] for key in ("tokens", "flops_per_s", "mfu", "money")] == [None] * 4


def test_ledgers_of_workers_are_merged() -> None:
    worker = Ledger(2, "cpu")
    worker.add("compute", 5.0)
    worker.add("start_up", 3.0, "model")
    worker.count(flops=7.0)
    driver = Ledger(1, "cpu")
    driver.add("start_up", 1.0, "connect")
    for _ in range(2):
        driver.merge(json.loads(json.dumps(worker.to_json())))
    cost = driver.to_json()
    assert cost["seconds"]["compute"] == 10.0 and cost["device_seconds"]["compute"] == 20.0
    assert cost["start_up_parts"] == {"connect": 1.0, "model": 6.0} and cost["seconds"]["start_up"] == 7.0
    assert cost["flops"] == 14.0 and cost["tokens"] is None


def test_unknown_categories_and_misplaced_parts_are_mistakes() -> None:
    with pytest.raises(ValueError, match="category='lunch' is none of start_up"):
        Ledger(1, "cpu").add("lunch", 1.0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="only start_up has parts"):
        Ledger(1, "cpu").add("compute", 1.0, "model")
