from collections.abc import Iterator
from datetime import datetime
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.resources import Need, _age_s, always_room, check_fits, fit_anyhow, why_not
from llmcore.config.common import ClusterSettings
from llmcore.errors import ConfigError

amounts = st.sampled_from([0.25, 0.5, 1.0, 2.0, 4.0])
nodes = st.lists(st.builds(lambda cpus, gpus: {"CPU": cpus, "GPU": gpus}, amounts, st.integers(0, 4)), max_size=4)
needs = st.lists(st.builds(Need, st.just("job"), amounts, st.sampled_from([0, 1.0]), st.integers(1, 5)), max_size=3)


def test_a_need_is_held_against_what_the_cluster_has() -> None:
    assert why_not([Need("pretrain", cpus=4, count=2)], [{"CPU": 2.0}]) == (
        "pretrain needs 2 × 4 CPU, the cluster has 2 CPU; ask for fewer workers or CPUs each, raise cluster.num_cpus "
        "of a local Ray, or use a larger cluster"
    )
    assert why_not([Need("pretrain", cpus=0.5, count=2)], [{"CPU": 2.0}]) is None


def test_gpus_are_named_where_they_lack() -> None:
    reason = why_not([Need("pretrain", cpus=1, gpus=1, count=2)], [{"CPU": 8.0, "GPU": 1.0}])
    assert reason is not None
    assert reason.startswith("pretrain needs 2 × 1 CPU + 1 GPU, the cluster has 1 GPU;")


def test_a_process_takes_its_share_of_one_node() -> None:
    reason = why_not([Need("pretrain", cpus=3)], [{"CPU": 2.0}, {"CPU": 2.0}])
    assert reason is not None
    assert "no single node with room for each" in reason
    assert why_not([Need("pretrain", cpus=3, count=2)], [{"CPU": 4.0}, {"CPU": 4.0}]) is None
    assert why_not([Need("pretrain", cpus=3, count=3)], [{"CPU": 4.0}, {"CPU": 5.0}])


def test_what_runs_at_the_same_time_is_added_up() -> None:
    reason = why_not([Need("pretrain", cpus=1, count=2), Need("Ray Data", cpus=0.5)], [{"CPU": 2.0}])
    assert reason is not None
    assert reason.startswith(
        "pretrain (2 × 1 CPU) and Ray Data (1 × 0.5 CPU) need 2.5 CPU together, the cluster has 2;"
    )


def test_fractions_add_up_without_rounding_errors() -> None:
    assert why_not([Need("pretrain", cpus=0.1, count=10)], [{"CPU": 1.0}]) is None


@given(needs, nodes)
def test_what_can_be_placed_is_never_refused(asked: list[Need], has: list[dict[str, float]]) -> None:
    room = [dict(node) for node in has]
    for need in asked:
        for _ in range(need.count):
            fitting = [node for node in room if node["CPU"] >= need.cpus and node["GPU"] >= need.gpus]
            if not fitting:
                return
            fitting[0]["CPU"] -= need.cpus
            fitting[0]["GPU"] -= need.gpus
    assert why_not(asked, has) is None


def test_a_little_on_each_node_is_no_room_for_a_task() -> None:
    workers = Need("pretrain", cpus=0.75, count=2)
    assert not always_room(Need("reading", 0.5), workers, [{"CPU": 1.0}, {"CPU": 1.0}])
    assert always_room(Need("reading", 0.25), workers, [{"CPU": 1.0}, {"CPU": 1.0}])
    assert always_room(Need("reading", 0.5), workers, [{"CPU": 1.0}, {"CPU": 1.0}, {"CPU": 1.0}])


def test_room_is_looked_for_where_a_task_may_run() -> None:
    nodes, labels = [{"CPU": 4.0}, {"CPU": 1.0}], [{"role": "train"}, {"role": "data"}]
    workers = Need("pretrain", cpus=1, count=2, labels={"role": "train"})
    assert always_room(Need("reading", 1, labels={"role": "data"}), workers, nodes, labels)
    assert not always_room(Need("reading", 2, labels={"role": "data"}), workers, nodes, labels)


@given(
    st.builds(Need, st.just("task"), amounts),
    st.builds(Need, st.just("job"), amounts, st.just(0), st.integers(1, 4)),
    nodes,
)
def test_there_is_room_wherever_the_others_are_placed(task: Need, beside: Need, has: list[dict[str, float]]) -> None:
    def placements(count: int, room: list[float]) -> Iterator[list[float]]:
        if count == 0:
            yield room
        for at, free in enumerate(room):
            if count and free >= beside.cpus:
                yield from placements(count - 1, [*room[:at], free - beside.cpus, *room[at + 1 :]])

    for room in placements(beside.count, [node["CPU"] for node in has]):
        assert any(free >= task.cpus for free in room) or not always_room(task, beside, has)


def test_needs_fit_anyhow_on_one_node_and_never_surely_on_several(monkeypatch: pytest.MonkeyPatch) -> None:
    workers, scorer = Need("trial", 0.75, count=2), Need("num_scorers", 0.5)
    for nodes, fit in (
        ([{"CPU": 2.0}], True),
        ([{"CPU": 1.9}], False),
        ([{}, {"CPU": 2.0}], True),  # a head without any
        ([{"CPU": 1.0}, {"CPU": 1.0}], False),  # a scorer on one leaves it too little for a worker
    ):
        monkeypatch.setattr("cluster.resources.cluster_nodes", lambda nodes=nodes: nodes)
        assert fit_anyhow([workers, scorer]) is fit
    monkeypatch.setattr("cluster.resources.cluster_nodes", lambda: [{"CPU": 2.0}])
    monkeypatch.setattr("cluster.resources.given", lambda: ClusterSettings(autoscaling=True))
    assert not fit_anyhow([workers, scorer]), "others may come, or none"


@pytest.mark.parametrize(("age_s", "submitted"), [(5.0, True), (5.0, False), (500.0, True)])
def test_a_submitted_job_waits_for_nodes_of_a_head_that_has_just_begun(
    age_s: float, submitted: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if submitted:
        monkeypatch.setenv("LLMCORE_SUBMISSION", "tiny-0123456789-02")
    else:
        monkeypatch.delenv("LLMCORE_SUBMISSION", raising=False)
    joined = iter([[{"CPU": 1.0}], [{"CPU": 1.0}], [{"CPU": 1.0}, {"CPU": 1.0}]])
    monkeypatch.setattr("cluster.resources.cluster_nodes", lambda: next(joined))
    monkeypatch.setattr("cluster.resources.labels_of_nodes", lambda: ())
    monkeypatch.setattr("cluster.resources._age_s", lambda: age_s)
    monkeypatch.setattr("cluster.resources.time.sleep", lambda seconds: None)
    if submitted and age_s < 120:
        check_fits([Need("pretrain", 0.75, count=2)])
        assert capsys.readouterr().err.count("waiting for its nodes: pretrain needs 2 × 0.75 CPU") == 1
    else:
        with pytest.raises(ConfigError, match="the cluster has 1 CPU"):
            check_fits([Need("pretrain", 0.75, count=2)])


def test_when_a_cluster_began_is_in_the_name_of_its_session(monkeypatch: pytest.MonkeyPatch) -> None:
    named = datetime.now().strftime("session_%Y-%m-%d_%H-%M-%S_123456_789")
    context = SimpleNamespace(get_session_name=lambda: named)
    monkeypatch.setattr("ray.get_runtime_context", lambda: context)
    assert 0 <= _age_s() < 60
