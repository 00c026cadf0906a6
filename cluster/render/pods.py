"""Pods of a Ray cluster on Kubernetes: without privileges, with as much as they ask for, each on its kind of node."""

from typing import Any

from cluster.render.kubernetes import NAME_LABEL, head_account, worker_account
from llmcore.config.cluster import ClusterConfig, HeadSettings, NodeGroup
from llmcore.config.cluster_targets import KubeRaySettings, NodeLabel

__all__ = ["JOB_FOLDER", "USER", "autoscaler_options", "head_pod", "submitter_pod", "worker_pod"]

USER = 1000
"""As in `cluster/docker/Dockerfile`."""

JOB_FOLDER = "/etc/llmcore"
"""Where the job's configuration is mounted in the head's pod."""

_GRACE_S = {True: 30, False: 120}
"""Of a pod, by whether its node may be taken away: clouds leave half a minute then."""
_GPU = "nvidia.com/gpu"
_UNPRIVILEGED = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}


def head_pod(config: ClusterConfig, *, mounts_job: bool) -> dict[str, Any]:
    """The head's, never on a node that may be taken away; with `mounts_job`, the job's configuration is in it."""
    assert config.head is not None and config.kuberay is not None
    container = _container("ray-head", config, config.head)
    container["ports"] = [
        {"containerPort": 6379, "name": "gcs-server"},
        {"containerPort": 8265, "name": "dashboard"},
        {"containerPort": 10001, "name": "client"},
    ]
    volumes = _volumes(config.kuberay, config.head)
    if mounts_job:
        container["volumeMounts"].append({"name": "job", "mountPath": JOB_FOLDER, "readOnly": True})
        volumes.append({"name": "job", "configMap": {"name": config.name}})
    spec = {
        "serviceAccountName": head_account(config),
        # The autoscaler asks Kubernetes for pods; nobody else of the cluster has anything to ask it.
        "automountServiceAccountToken": config.autoscaling,
        "securityContext": _pod_security(),
        "terminationGracePeriodSeconds": _GRACE_S[False],
        **_affinity(_where_for(config.kuberay, spot=False, gpus=False)),
        "containers": [container],
        "volumes": volumes,
    }
    return {"metadata": {"labels": {NAME_LABEL: config.name}}, "spec": spec}


def worker_pod(config: ClusterConfig, group: NodeGroup) -> dict[str, Any]:
    """That of a group's nodes."""
    assert config.kuberay is not None
    where = _where_for(config.kuberay, spot=group.spot, gpus=group.gpus > 0)
    spec = {
        "serviceAccountName": worker_account(config),
        "automountServiceAccountToken": False,
        "securityContext": _pod_security(),
        "terminationGracePeriodSeconds": _GRACE_S[group.spot],
        **_affinity(where),
        **_tolerations(config.kuberay, group),
        "containers": [_container("ray-worker", config, group)],
        "volumes": _volumes(config.kuberay, group),
    }
    return {"metadata": {"labels": {NAME_LABEL: config.name}}, "spec": spec}


def submitter_pod(config: ClusterConfig) -> dict[str, Any]:
    """The one from which KubeRay submits a job: it only waits for it, and follows its log."""
    assert config.kuberay is not None
    few = {"cpu": "500m", "memory": "1Gi"}
    spec = {
        "restartPolicy": "Never",
        "serviceAccountName": worker_account(config),
        "automountServiceAccountToken": False,
        "securityContext": _pod_security(),
        "containers": [
            {
                "name": "ray-job-submitter",
                "image": config.image,
                "resources": {"requests": dict(few), "limits": dict(few)},
                "securityContext": _security(config.kuberay),
                "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
            }
        ],
        "volumes": [{"name": "tmp", "emptyDir": {"sizeLimit": "1Gi"}}],
    }
    return {"metadata": {"labels": {NAME_LABEL: config.name}}, "spec": spec}


def autoscaler_options() -> dict[str, Any]:
    """Of the container beside the head's that asks for nodes."""
    few = {"cpu": "500m", "memory": "512Mi"}
    return {
        "version": "v2",
        "upscalingMode": "Default",
        "resources": {"requests": dict(few), "limits": dict(few)},
        "securityContext": dict(_UNPRIVILEGED),
    }


def _container(name: str, config: ClusterConfig, machine: HeadSettings | NodeGroup) -> dict[str, Any]:
    assert config.kuberay is not None
    whole = {"cpu": str(machine.cpus), "memory": _mebibytes(machine.memory_gib)}
    if isinstance(machine, NodeGroup) and machine.gpus:
        whole[_GPU] = str(machine.gpus)
    whole["ephemeral-storage"] = _mebibytes(config.kuberay.scratch_gib + 2)  # logs of containers count, too
    variables: list[dict[str, Any]] = [{"name": key, "value": value} for key, value in config.environment.items()]
    for secret in config.secrets:
        variables += [
            {"name": key, "valueFrom": {"secretKeyRef": {"name": secret.name, "key": key}}} for key in secret.variables
        ]
    return {
        "name": name,
        "image": config.image,
        **({"env": variables} if variables else {}),
        # Ray believes what it is given: less would let the kernel end it.
        "resources": {"requests": dict(whole), "limits": dict(whole)},
        "securityContext": _security(config.kuberay),
        "volumeMounts": [
            {"name": "tmp", "mountPath": "/tmp"},
            {"name": "home", "mountPath": "/home/ray"},
            {"name": "shared-memory", "mountPath": "/dev/shm"},
        ],
    }


def _volumes(kuberay: KubeRaySettings, machine: HeadSettings | NodeGroup) -> list[dict[str, Any]]:
    shared = {"medium": "Memory", "sizeLimit": _mebibytes(machine.shared_memory_gib)}
    return [
        {"name": "tmp", "emptyDir": {"sizeLimit": _mebibytes(kuberay.scratch_gib * 0.8)}},
        {"name": "home", "emptyDir": {"sizeLimit": _mebibytes(kuberay.scratch_gib * 0.2)}},
        {"name": "shared-memory", "emptyDir": shared},
    ]


def _pod_security() -> dict[str, Any]:
    return {
        "runAsNonRoot": True,
        "runAsUser": USER,
        "runAsGroup": USER,
        "fsGroup": USER,
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def _security(kuberay: KubeRaySettings) -> dict[str, Any]:
    return {**_UNPRIVILEGED, "readOnlyRootFilesystem": kuberay.read_only_root}


def _where_for(kuberay: KubeRaySettings, *, spot: bool, gpus: bool) -> list[dict[str, Any]]:
    """What must be true of a node: it may be taken away or not, has GPUs or not, and lies in the zone."""
    where = []
    for label, wanted in ((kuberay.spot_nodes, spot), (kuberay.gpu_nodes, gpus)):
        if label is not None:
            where.append({"key": label.key, "operator": "In" if wanted else "NotIn", "values": [label.value]})
    if kuberay.zone is not None and gpus:
        where.append({"key": "topology.kubernetes.io/zone", "operator": "In", "values": [kuberay.zone]})
    return where


def _affinity(where: list[dict[str, Any]]) -> dict[str, Any]:
    if not where:
        return {}
    terms = {"nodeSelectorTerms": [{"matchExpressions": where}]}
    return {"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}}


def _tolerations(kuberay: KubeRaySettings, group: NodeGroup) -> dict[str, Any]:
    """Nodes of these kinds keep others off by a taint."""
    tolerated = []
    if group.spot and kuberay.spot_nodes is not None:
        tolerated.append(_tolerated(kuberay.spot_nodes))
    if group.gpus:
        tolerated.append({"key": _GPU, "operator": "Exists", "effect": "NoSchedule"})
    return {"tolerations": tolerated} if tolerated else {}


def _tolerated(label: NodeLabel) -> dict[str, Any]:
    return {"key": label.key, "operator": "Equal", "value": label.value, "effect": "NoSchedule"}


def _mebibytes(gib: float) -> str:
    return f"{round(gib * 1024)}Mi"
