"""Where the parts of jobs run, on a cluster whose nodes have labels."""

import json
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster import local
from cluster.local.state import LocalCluster
from tests.drivers import Ended, environment, run, run_jobs
from tests.tiny import tiny_pipeline, write_config, write_corpus

LABELS = {
    "head": {"llmcore/role": "head", "ray.io/market-type": "on-demand"},
    "worker-1": {"llmcore/role": "data", "ray.io/market-type": "on-demand"},
    "worker-2": {"llmcore/role": "train", "ray.io/market-type": "spot"},
    "worker-3": {"llmcore/role": "judge", "ray.io/market-type": "on-demand"},
}
PLACE = {
    "data": {"llmcore/role": "data"},
    "train": {"llmcore/role": "in(train, other)"},
    "evaluate": {"llmcore/role": "judge"},
    "drivers": {"llmcore/role": "head", "ray.io/market-type": "!spot"},
}
RAN = """
import json, ray
from ray.util.state import list_actors, list_tasks
ray.init(log_to_driver=False, logging_level="ERROR")
roles = {node["NodeID"]: node["Labels"]["llmcore/role"] for node in ray.nodes()}
many = {"limit": 10_000, "detail": True, "raise_on_missing_output": False}
tasks = [task for task in list_tasks(**many) if task.type == "NORMAL_TASK" and task.node_id]
actors = [actor for actor in list_actors(**many) if actor.node_id]
print(json.dumps({
    "tasks": [[task.func_or_class_name, roles[task.node_id]] for task in tasks],
    "actors": [[actor.class_name, roles[actor.node_id]] for actor in actors],
}))
"""


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    """Four nodes, each with a role."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        # As in the clusters that are rendered, the head has no CPUs to give away.
        yield local.up("labelled", num_nodes=4, head_cpus=0, labels=LABELS, namespaces=False, environment=environment())
        local.down("labelled")


def ran(cluster: LocalCluster) -> dict[str, dict[str, set[str]]]:
    """Of all tasks and actors so far, by name, the roles of the nodes that they ran on."""
    ended = run([sys.executable, "-c", RAN], cwd=Path("/"), env=environment(**cluster.environment), timeout_s=120)
    assert ended.code == 0, ended.out + ended.err
    found: dict[str, dict[str, set[str]]] = {}
    for kind, all_of_them in json.loads(ended.out.splitlines()[-1]).items():
        found[kind] = defaultdict(set)
        for name, role in all_of_them:
            found[kind][name].add(role)
    return found


def pipeline(cluster: LocalCluster, folder: Path, place: dict[str, Any]) -> Ended:
    config = tiny_pipeline(write_corpus(folder / "corpus"), folder / "storage")
    config["cluster"] = {"address": "auto", "place": place}  # RAY_ADDRESS says which one that is
    config["stages"]["pretrain"]["train"] |= {"num_steps": 20, "validate_every": 20}
    config["stages"]["tune"] |= {"num_trials": 1}
    config["stages"]["evaluate"] |= {"baselines": ["majority"]}
    path = write_config(folder / "tiny.yaml", config)
    return run_jobs("pipeline", str(path), cwd=folder, timeout_s=1200, **cluster.environment)


def test_each_part_of_a_pipeline_runs_where_it_is_placed(labelled: LocalCluster, tmp_path: Path) -> None:
    ended = pipeline(labelled, tmp_path, PLACE)
    assert ended.code == 0, ended.out + ended.err
    found = ran(labelled)
    assert {name: roles for name, roles in found["tasks"].items() if roles != {"data"}} == {}, "all tasks work on data"
    told = " ".join(found["tasks"])
    # Ray Data reads rows, too; it calls its tasks by a name of its own.
    expected = ("_partition", "_make_bucket", "_pack", "_write", "make_tokenizer", "_map_task")
    assert [name for name in expected if name not in told] == [], told
    where = {name: found["actors"][name] for name in ("RayTrainWorker", "_Scorer", "ImplicitFunc")}
    assert where == {"RayTrainWorker": {"train"}, "_Scorer": {"judge"}, "ImplicitFunc": {"head"}}


def test_a_label_that_no_node_has_is_refused_at_the_door(labelled: LocalCluster, tmp_path: Path) -> None:
    ended = pipeline(labelled, tmp_path, PLACE | {"train": {"llmcore/role": "gpu"}})
    assert ended.code == 2
    assert "cluster.place.train: no node has llmcore/role=gpu; the labels that there are: " in ended.err
    assert "llmcore/role=data, llmcore/role=head, llmcore/role=judge, llmcore/role=train" in ended.err


def test_what_does_not_fit_on_the_nodes_that_have_the_label_is_refused(labelled: LocalCluster, tmp_path: Path) -> None:
    config = tiny_pipeline(write_corpus(tmp_path / "corpus"), tmp_path / "storage")
    config["cluster"] = {"address": labelled.address, "place": PLACE}
    config["stages"]["pretrain"]["workers"] = config["stages"]["pretrain"]["workers"] | {"num_workers": 5}
    config["stages"]["pretrain"]["train"]["global_batch_size"] = 10
    path = write_config(tmp_path / "tiny.yaml", config)
    ended = run_jobs("pipeline", str(path), cwd=tmp_path, timeout_s=1200, **labelled.environment)
    assert ended.code == 2
    assert "needs 5 × 0.5 CPU, nodes with llmcore/role=in(train, other) have 2 CPU;" in ended.err
