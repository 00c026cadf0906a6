import os

import pytest
from hypothesis import given as drawn
from hypothesis import strategies as st

from cluster.placement import given, matches, place_environment, placed, selector_of, why_nowhere
from cluster.resources import Need, why_not
from llmcore.config.common import ClusterSettings
from llmcore.config.loading import load_settings
from llmcore.errors import ConfigError

NODES = [{"market": "spot", "zone": "a"}, {"market": "on-demand", "ray.io/node-id": "0f"}, {}]


@pytest.mark.parametrize(
    ("selector", "fitting"),
    [
        ({}, [True, True, True]),
        ({"market": "spot"}, [True, False, False]),
        ({"market": "!spot"}, [False, True, True]),
        ({"market": "in(spot, on-demand)"}, [True, True, False]),
        ({"market": "!in(spot,on-demand)"}, [False, False, True]),
        ({"market": "spot", "zone": "!a"}, [False, False, False]),
    ],
)
def test_a_selector_means_the_nodes_that_ray_means(selector: dict[str, str], fitting: list[bool]) -> None:
    assert [matches(selector, labels) for labels in NODES] == fitting


WORDS = st.text("ab1._-/!(), ", max_size=12)


@drawn(WORDS, WORDS)
def test_what_is_accepted_is_what_ray_accepts(name: str, value: str) -> None:
    from ray._private.label_utils import validate_label_selector

    try:
        ClusterSettings.model_validate({"place": {"data": {name: value}}})
        accepted = True
    except ValueError:
        accepted = False
    assert not accepted or validate_label_selector({name: value}) is None


def test_a_place_is_known_to_all_processes_of_a_job(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load_settings(ClusterSettings, ["place={data: {role: data}}", "autoscaling=true"])
    for name, value in place_environment(settings).items():
        monkeypatch.setenv(name, value)
    assert given() == settings
    assert selector_of("data") == {"role": "data"} and selector_of("train") == {}
    assert placed("data") == {"label_selector": {"role": "data"}} and placed("train") == {}


def test_a_job_that_runs_anywhere_adds_nothing() -> None:
    assert place_environment(ClusterSettings(address="auto")) == {}
    assert "LLMCORE_PLACE" not in os.environ and given() == ClusterSettings()


def test_a_part_without_a_node_is_told_the_labels_that_there_are() -> None:
    settings = load_settings(ClusterSettings, ["place={train: {market: reserved}}"])
    assert why_nowhere(settings, NODES) == (
        "cluster.place.train: no node has market=reserved; the labels that there are: market=on-demand, market=spot, "
        "zone=a. Start nodes with them (`ray start --labels=…`), or name others"
    )
    assert why_nowhere(load_settings(ClusterSettings, ["place={train: {market: spot}}"]), NODES) is None


def test_a_misspelt_part_or_selector_is_refused() -> None:
    for override in ("place={driver: {a: b}}", "place={data: {a: 'in()'}}", "place={data: {'a b': c}}"):
        with pytest.raises(ConfigError, match="place"):
            load_settings(ClusterSettings, [override])


def test_a_need_is_held_against_the_nodes_with_its_labels() -> None:
    nodes = [{"CPU": 8.0, "GPU": 8.0}, {"CPU": 4.0}]
    labels = [{"role": "train"}, {"role": "data"}]
    assert why_not([Need("train", 1, 1, 8, {"role": "train"})], nodes, labels) is None
    reason = why_not([Need("reading", 2, count=3, labels={"role": "data"})], nodes, labels)
    assert reason is not None and reason.startswith("reading needs 3 × 2 CPU, nodes with role=data have 4 CPU; ")
    both = [Need("reading", 2, count=1, labels={"role": "data"}), Need("lanes", 1, count=3, labels={"role": "data"})]
    reason = why_not(both, nodes, labels)
    assert reason is not None and "need 5 CPU together, nodes with role=data have 4; " in reason
