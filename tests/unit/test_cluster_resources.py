from hypothesis import given
from hypothesis import strategies as st

from cluster.resources import Need, why_not

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
