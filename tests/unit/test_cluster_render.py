import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.render import load_job, render
from cluster.render.text import ray_version
from llmcore.config.cluster import ClusterConfig
from llmcore.config.loading import load_config
from llmcore.config.pretrain import PretrainConfig
from llmcore.errors import ConfigError
from tests.manifests import ROOT, documents

RENDERED = sorted([*ROOT.glob("cluster/kuberay/*.yaml"), *ROOT.glob("cluster/slurm/*.sh")])
RENDERED += [ROOT / "cluster/launcher/aws.yaml", ROOT / "cluster/launcher/gcp.yaml"]
GPT2 = Path("configs/pretrain/gpt2-124m.yaml")
PODS = [
    pytest.param(path, id=path.name) for path in RENDERED if path.parent.name == "kuberay" and "job" not in path.name
]


@pytest.fixture(autouse=True)
def _from_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def config(name: str, *overrides: str) -> ClusterConfig:
    return load_config(ClusterConfig, f"configs/cluster/{name}.yaml", overrides)


def told(name: str, *overrides: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        config(name, *overrides)
    return str(caught.value).splitlines()


@pytest.mark.parametrize("path", RENDERED, ids=lambda path: path.name)
def test_what_is_checked_in_is_what_is_rendered(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    found = re.search(r"^# Rendered by `python -m cluster render (.*)`: change that, not this\.$", text, re.MULTILINE)
    assert found is not None
    source, *rest = shlex.split(found[1])
    cluster = load_config(ClusterConfig, source)
    job = load_job(cluster, rest[1], Path(rest[2]), rest[3:]) if rest else None
    assert render(cluster, job, source=source) == text, f"run: python -m cluster render {found[1]} --out {path}"


def test_each_shipped_cluster_is_rendered() -> None:
    sources = {re.search(r"render (\S+\.yaml)", path.read_text(encoding="utf-8"))[1] for path in RENDERED}  # type: ignore[index]
    assert sources == {str(path) for path in Path("configs/cluster").iterdir()}


def test_a_jobs_configuration_travels_whole(tmp_path: Path) -> None:
    cluster = config("spot-gpus")
    job = load_job(cluster, "pretrain", GPT2)
    [carried] = [one for one in yaml.safe_load_all(render(cluster, job, source="x")) if one["kind"] == "ConfigMap"]
    path = tmp_path / "job.yaml"
    path.write_text(carried["data"]["job.yaml"], encoding="utf-8")
    assert isinstance(job.config, PretrainConfig)
    assert load_config(PretrainConfig, path) == job.config
    assert job.config.storage == cluster.storage
    assert job.config.cluster.autoscaling
    assert job.config.cluster.place.data == {"llmcore/role": "data"}
    assert job.config.cluster.place.train == {"llmcore/role": "train"}


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        (
            ["workers.num_workers=72", "train.global_batch_size=576"],
            "gpt2-124m needs 72 × 4 CPU + 1 GPU, nodes with llmcore/role=train have 64 GPU; ask for fewer workers or "
            "GPUs each, or use a larger cluster",
        ),
        (["workers.num_workers=2", "workers.cpus_per_worker=100"], "no single node with room for each"),
        (["cluster.place={train: {llmcore/role: gpu}}"], "cluster.place.train: no node has llmcore/role=gpu"),
        (["cluster.place={data: {ray.io/market-type: reserved}}"], "cluster.place.data: no node has"),
    ],
)
def test_a_job_that_does_not_fit_is_refused_with_the_fix(overrides: list[str], reason: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_job(config("spot-gpus"), "pretrain", GPT2, overrides)
    assert str(caught.value).startswith("configs/pretrain/gpt2-124m.yaml does not fit on cluster spot-gpus: ")
    assert reason in str(caught.value)


def test_each_stage_of_a_pipeline_is_held_against_the_cluster() -> None:
    smoke = Path("configs/pipeline/smoke.yaml")
    load_job(config("cpu-smoke"), "pipeline", smoke)
    with pytest.raises(ConfigError, match=r"smoke\.tune needs 99 × 0\.375 CPU"):
        load_job(
            config("cpu-smoke"),
            "pipeline",
            smoke,
            ["stages.tune.finetune.workers.num_workers=99", "stages.tune.finetune.train.global_batch_size=99"],
        )


def test_a_batch_script_needs_a_job() -> None:
    with pytest.raises(ConfigError, match="say which: --job COMMAND CONFIG"):
        render(config("slurm"), source="x")


def containers(path: Path) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """The pods of a cluster, and their containers."""
    spec = documents(path)[-1]["spec"]
    for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
        pod = group["template"]["spec"]
        for container in pod["containers"]:
            yield pod, container


@pytest.mark.parametrize("path", PODS)
def test_no_pod_has_privileges(path: Path) -> None:
    for pod, container in containers(path):
        assert pod["securityContext"]["runAsNonRoot"] and pod["securityContext"]["runAsUser"] == 1000
        own = container["securityContext"]
        assert own["seccompProfile"] == {"type": "RuntimeDefault"} and own["capabilities"] == {"drop": ["ALL"]}
        assert not own["allowPrivilegeEscalation"] and own["readOnlyRootFilesystem"]
        assert {"hostNetwork", "hostPID", "hostIPC"}.isdisjoint(pod)
        assert all("hostPath" not in volume for volume in pod["volumes"])
        mounted = {mount["mountPath"] for mount in container["volumeMounts"]}
        assert {"/tmp", "/home/ray", "/dev/shm"} <= mounted


@pytest.mark.parametrize("path", PODS)
def test_a_pod_asks_for_what_ray_is_told_it_has(path: Path) -> None:
    spec = documents(path)[-1]["spec"]
    assert spec["rayVersion"] == ray_version() and spec["authOptions"]["mode"] == "token"
    for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
        [container] = group["template"]["spec"]["containers"]
        resources = container["resources"]
        assert resources["requests"] == resources["limits"]
        if "groupName" in group:
            assert resources["limits"]["cpu"] == group["rayStartParams"]["num-cpus"]
        volumes = {volume["name"]: volume for volume in group["template"]["spec"]["volumes"]}
        shared = int(volumes["shared-memory"]["emptyDir"]["sizeLimit"].removesuffix("Mi"))
        assert int(group["rayStartParams"]["object-store-memory"]) == shared * 2**20 * 3 // 4
        assert shared < int(resources["limits"]["memory"].removesuffix("Mi"))
    assert spec["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"


def test_the_head_is_kept_off_spot_nodes_and_data_off_gpus() -> None:
    spec = documents(ROOT / "cluster/kuberay/spot-gpus.yaml")[-1]["spec"]

    def where(group: dict[str, Any]) -> dict[str, str]:
        affinity = group["template"]["spec"]["affinity"]["nodeAffinity"]
        [term] = affinity["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
        return {one["key"]: one["operator"] for one in term["matchExpressions"]}

    data, train = spec["workerGroupSpecs"]
    assert where(spec["headGroupSpec"]) == {"karpenter.sh/capacity-type": "NotIn", "nvidia.com/gpu.present": "NotIn"}
    assert where(data) == where(spec["headGroupSpec"])
    assert where(train)["karpenter.sh/capacity-type"] == where(train)["nvidia.com/gpu.present"] == "In"
    assert "tolerations" not in data["template"]["spec"] and "tolerations" in train["template"]["spec"]
    assert spec["headGroupSpec"]["labels"]["ray.io/market-type"] == "on-demand"
    assert train["labels"]["ray.io/market-type"] == "spot"


@pytest.mark.parametrize("path", PODS)
def test_nobody_reaches_the_cluster_but_its_own_pods_and_the_operator(path: Path) -> None:
    [policy] = [one for one in documents(path) if one["kind"] == "NetworkPolicy"]
    own, operator = policy["spec"]["ingress"]
    assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]
    assert own["from"] == [{"podSelector": policy["spec"]["podSelector"]}]
    assert [one["port"] for one in operator["ports"]] == [8265]
    assert all(set(one) == {"namespaceSelector", "podSelector"} for one in operator["from"])
    name = policy["spec"]["podSelector"]["matchLabels"]
    spec = documents(path)[-1]["spec"]
    for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
        assert name.items() <= group["template"]["metadata"]["labels"].items()


@pytest.mark.parametrize("path", RENDERED, ids=lambda path: path.name)
def test_no_dashboard_is_open_and_a_token_is_asked_for(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    if path.parent.name == "kuberay":
        assert "authOptions:\n" in text and "serviceType: ClusterIP" in text
        assert not re.search("LoadBalancer|NodePort|enableIngress", text)
        return
    hosts = re.findall(r"--dashboard-host=(\S+)", text)
    assert hosts and set(hosts) == {"127.0.0.1"}
    assert "RAY_AUTH_MODE=token" in text


def test_the_policies_name_the_shipped_cluster_and_nothing_wider() -> None:
    import botocore.session

    cluster = config("aws")
    assert cluster.aws is not None
    bucket, _, folder = cluster.storage.removeprefix("s3://").partition("/")
    operations = {f"ec2:{name}" for name in botocore.session.get_session().get_service_model("ec2").operation_names}
    for role in ("head", "worker"):
        policy = json.loads((ROOT / f"cluster/launcher/aws-{role}-policy.json").read_text(encoding="utf-8"))
        for statement in policy["Statement"]:
            actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
            assert statement["Effect"] == "Allow" and not any("*" in action for action in actions)
            assert {action for action in actions if action.startswith("ec2:")} <= operations
            if statement["Resource"] == "*":  # these know no resources
                assert all(re.match("ec2:Describe|ssm:Update|ssmmessages:", action) for action in actions)
            if any(action.startswith("s3:") for action in actions):
                assert statement["Resource"] in (f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/{folder}/*")
        text = json.dumps(policy)
        if role == "head":
            assert f'"aws:ResourceTag/ray-cluster-name": "{cluster.name}"' in text
            assert cluster.aws.image_id in text and all(subnet in text for subnet in cluster.aws.subnets)
            assert f"role/{cluster.aws.worker_profile}" in text
        else:
            assert "ec2:" not in text and "iam:" not in text


@pytest.mark.parametrize(
    ("name", "override", "line"),
    [
        ("cpu-smoke", "target=aws", "aws: missing; expected the section of target=aws"),
        ("cpu-smoke", "image=null", "missing; expected the container image of target=kuberay"),
        ("cpu-smoke", "head=null", "missing; expected the head node of target=kuberay"),
        ("cpu-smoke", "groups.train.count=null", "give either `count`, or `min` and `max`"),
        ("cpu-smoke", "groups.data.gpus=1", "role=data has no use for gpus=1"),
        ("cpu-smoke", "groups.train.shared_memory_gib=8", "shared_memory_gib=8 is no part of memory_gib=8"),
        ("cpu-smoke", "groups.Train={}", "groups.Train"),
        ("cpu-smoke", "storage=runs", "expected a URL that all nodes reach: s3://… or gs://…"),
        ("cpu-smoke", "environment={RAY_AUTH_MODE: disabled}", "RAY_AUTH_MODE is set by the cluster itself"),
        ("spot-gpus", "groups.train.min=9", "min=9 is more than max=8"),
        ("aws", "head.instance_type=null", "missing; expected a machine type of target=aws"),
        ("aws", "secrets=[{name: hub, variables: [HF_TOKEN]}]", "instances get what they need by their role"),
        (
            "slurm",
            "groups.train={role: train, min: 0, max: 2, cpus: 1, memory_gib: 2, shared_memory_gib: 1}",
            "groups: ",
        ),
    ],
)
def test_what_is_wrong_with_a_cluster_is_told(name: str, override: str, line: str) -> None:
    assert any(line in one for one in told(name, override)), told(name, override)
