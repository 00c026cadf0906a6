"""A RayCluster, or a RayJob with a cluster of its own, for KubeRay (`ray.io/v1`), and what goes with it."""

from typing import Any

from cluster.render.job import JobOnCluster
from cluster.render.kubernetes import NAME_LABEL, config_map, network_policy, service_accounts
from cluster.render.pods import JOB_FOLDER, autoscaler_options, head_pod, submitter_pod, worker_pod
from cluster.render.text import ray_version
from llmcore.config.cluster import ClusterConfig, HeadSettings, NodeGroup
from llmcore.config.cluster_targets import KubeRaySettings

__all__ = ["kuberay_objects"]


def kuberay_objects(config: ClusterConfig, job: JobOnCluster | None) -> list[dict[str, Any]]:
    """The Kubernetes objects, in the order in which they are applied; the cluster or the job is the last one."""
    assert config.kuberay is not None
    objects = [*service_accounts(config), network_policy(config)]
    about = {"name": config.name, "namespace": config.kuberay.namespace, "labels": {NAME_LABEL: config.name}}
    cluster = _cluster(config, config.kuberay, mounts_job=job is not None)
    if job is None:
        return [*objects, {"apiVersion": "ray.io/v1", "kind": "RayCluster", "metadata": about, "spec": cluster}]
    return [
        *objects,
        config_map(config, job.text()),
        {
            "apiVersion": "ray.io/v1",
            "kind": "RayJob",
            "metadata": about,
            "spec": {
                "entrypoint": f"python -m jobs {job.command} {JOB_FOLDER}/job.yaml",
                # Each is a new cluster, on which the job goes on from its last checkpoint.
                "backoffLimit": config.kuberay.retries,
                "submissionMode": "K8sJobMode",
                "submitterPodTemplate": submitter_pod(config),
                "shutdownAfterJobFinishes": True,
                "ttlSecondsAfterFinished": 60 * config.kuberay.keep_minutes,
                "rayClusterSpec": cluster,
            },
        },
    ]


def _cluster(config: ClusterConfig, kuberay: KubeRaySettings, *, mounts_job: bool) -> dict[str, Any]:
    assert config.head is not None
    spec: dict[str, Any] = {
        "rayVersion": ray_version(),
        "authOptions": {"mode": "token"} | ({"secretName": kuberay.token_secret} if kuberay.token_secret else {}),
    }
    if config.autoscaling:
        spec |= {"enableInTreeAutoscaling": True, "autoscalerOptions": autoscaler_options()}
    if kuberay.gcs is not None:
        password = {"name": kuberay.gcs.password_secret, "key": kuberay.gcs.password_key}
        spec["gcsFaultToleranceOptions"] = {
            "redisAddress": kuberay.gcs.redis_address,
            "redisPassword": {"valueFrom": {"secretKeyRef": password}},
        }
    spec["headGroupSpec"] = {
        "serviceType": "ClusterIP",
        "labels": config.head.labels,
        # No task runs there, and the dashboard is for the pods' network, which the network policy closes.
        "rayStartParams": {"num-cpus": "0", "dashboard-host": "0.0.0.0"} | _object_store(config.head),  # nosec B104
        "template": head_pod(config, mounts_job=mounts_job),
    }
    spec["workerGroupSpecs"] = [_group(config, name, group) for name, group in config.groups.items()]
    return spec


def _group(config: ClusterConfig, name: str, group: NodeGroup) -> dict[str, Any]:
    given: dict[str, Any] = {
        "groupName": name,
        "replicas": group.fewest,
        "minReplicas": group.fewest,
        "maxReplicas": group.most,
        "labels": _labels(group),
        "rayStartParams": {"num-cpus": str(group.cpus)} | _object_store(group),
        "template": worker_pod(config, group),
    }
    if config.autoscaling:
        given["idleTimeoutSeconds"] = int(60 * group.idle_minutes)
    return given


def _labels(group: NodeGroup) -> dict[str, str]:
    return group.labels | ({"ray.io/accelerator-type": group.accelerator} if group.accelerator else {})


def _object_store(machine: HeadSettings | NodeGroup) -> dict[str, str]:
    return {"object-store-memory": str(machine.object_store_bytes)}
