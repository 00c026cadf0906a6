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
ran = [[task.name, roles[task.node_id]] for task in tasks]
ran += [[actor.class_name, roles[actor.node_id]] for actor in list_actors(**many) if actor.node_id]
print(json.dumps(ran))
"""


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    """Four nodes, each with a role."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        # Room for all but those who are somewhere else than they should be.
        yield local.up("labelled", num_nodes=4, labels=LABELS, namespaces=False, environment=environment())
        local.down("labelled")


def ran(cluster: LocalCluster) -> dict[str, set[str]]:
    """Of each task and actor the roles of the nodes that it ran on."""
    ended = run([sys.executable, "-c", RAN], cwd=Path("/"), env=environment(**cluster.environment), timeout_s=120)
    assert ended.code == 0, ended.out + ended.err
    found: dict[str, set[str]] = defaultdict(set)
    for name, role in json.loads(ended.out.splitlines()[-1]):
        found[name].add(role)
    return found


def pipeline(cluster: LocalCluster, folder: Path, place: dict[str, Any]) -> Ended:
    config = tiny_pipeline(write_corpus(folder / "corpus"), folder / "storage")
    config["cluster"] = {"address": cluster.address, "place": place}
    config["stages"]["pretrain"]["train"] |= {"num_steps": 20, "validate_every": 20}
    path = write_config(folder / "tiny.yaml", config)
    return run_jobs("pipeline", str(path), cwd=folder, **cluster.environment)


def test_each_part_of_a_pipeline_runs_where_it_is_placed(labelled: LocalCluster, tmp_path: Path) -> None:
    ended = pipeline(labelled, tmp_path, PLACE)
    assert ended.code == 0, ended.out + ended.err
    found = ran(labelled)
    actors = {"RayTrainWorker": {"train"}, "_Scorer": {"judge"}, "ImplicitFunc": {"head"}}
    assert {name: found.pop(name) for name in actors} == actors
    tasks = {name: roles for name, roles in found.items() if name[0] != "_" or name.startswith("_partition")}
    tasks = {name: roles for name, roles in found.items() if name.split(".")[0].lower() == name.split(".")[0]}
    assert {"_partition", "_make_bucket", "_count", "_pack", "_write", "make_tokenizer"} <= set(tasks)
    assert any("TokenRows" in name for name in found), "Ray Data's"
    elsewhere = {name: roles for name, roles in tasks.items() if roles != {"data"}}
    assert elsewhere == {}
    assert {roles for name, roles in found.items() if "TokenRows" in name for roles in roles} == {"data"}


def test_a_label_that_no_node_has_is_refused_at_the_door(labelled: LocalCluster, tmp_path: Path) -> None:
    ended = pipeline(labelled, tmp_path, PLACE | {"train": {"llmcore/role": "gpu"}})
    assert ended.code == 2
    assert "cluster.place.train: no node has llmcore/role=gpu; the labels that there are: " in ended.err
    assert "llmcore/role=data, llmcore/role=head, llmcore/role=judge, llmcore/role=train" in ended.err


def test_what_does_not_fit_on_the_nodes_that_have_the_label_is_refused(labelled: LocalCluster, tmp_path: Path) -> None:
    config = tiny_pipeline(write_corpus(tmp_path / "corpus"), tmp_path / "storage")
    config["cluster"] = {"address": labelled.address, "place": PLACE}
    config["stages"]["pretrain"]["workers"]["num_workers"] = 5
    config["stages"]["pretrain"]["train"]["global_batch_size"] = 10
    path = write_config(tmp_path / "tiny.yaml", config)
    ended = run_jobs("pipeline", str(path), cwd=tmp_path, **labelled.environment)
    assert ended.code == 2
    assert "needs 5 × 0.5 CPU, nodes with llmcore/role=in(train, other) have 2 CPU;" in ended.err
