"""Kubernetes' own objects beside a Ray cluster: who its pods are, whom they may talk to, what their job is."""

from typing import Any

from llmcore.config.cluster import ClusterConfig

__all__ = ["NAME_LABEL", "config_map", "head_account", "network_policy", "service_accounts", "worker_account"]

NAME_LABEL = "llmcore/cluster"
"""On all pods of a cluster; KubeRay's own label has a name that it makes itself for a RayJob."""

_DASHBOARD = 8265
_HTTPS = (443, 6443)
"""The store, the hub, and Kubernetes' own API, which the autoscaler asks."""


def worker_account(config: ClusterConfig) -> str:
    """The service account of the workers, who have the cloud's identity and nothing in Kubernetes."""
    return f"{config.name}-worker"


def head_account(config: ClusterConfig) -> str:
    """That of the head, to which KubeRay binds what its autoscaler may do: pods and this cluster, in its namespace."""
    return f"{config.name}-head"


def service_accounts(config: ClusterConfig) -> list[dict[str, Any]]:
    """Both, each with the identity by which the cloud knows them: no key is stored anywhere."""
    assert config.kuberay is not None
    return [
        {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {
                "name": name,
                "namespace": config.kuberay.namespace,
                "labels": {NAME_LABEL: config.name},
                **({"annotations": dict(config.kuberay.identity)} if config.kuberay.identity else {}),
            },
            "automountServiceAccountToken": False,
        }
        for name in (head_account(config), worker_account(config))
    ]


def network_policy(config: ClusterConfig) -> dict[str, Any]:
    """Pods of the cluster talk to each other, to names and to HTTPS; nobody else reaches them but the operator."""
    assert config.kuberay is not None
    kuberay = config.kuberay
    own = {"podSelector": {"matchLabels": {NAME_LABEL: config.name}}}
    operator = {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": kuberay.operator_namespace}},
        "podSelector": {"matchLabels": {"app.kubernetes.io/name": "kuberay-operator"}},
    }
    asking = [operator, *([{"podSelector": {"matchLabels": dict(kuberay.clients)}}] if kuberay.clients else [])]
    names = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}}}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {
            "name": config.name,
            "namespace": kuberay.namespace,
            "labels": {NAME_LABEL: config.name},
        },
        "spec": {
            "podSelector": {"matchLabels": {NAME_LABEL: config.name}},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [{"from": [own]}, {"from": asking, "ports": [_tcp(_DASHBOARD)]}],
            "egress": [
                {"to": [own]},
                {"to": [names], "ports": [{"protocol": "UDP", "port": 53}, _tcp(53)]},
                {"ports": [_tcp(port) for port in _HTTPS]},
                *(
                    {"to": [{"ipBlock": {"cidr": rule.cidr}}], "ports": [_tcp(port) for port in rule.ports]}
                    for rule in kuberay.egress
                ),
            ],
        },
    }


def config_map(config: ClusterConfig, job: str) -> dict[str, Any]:
    """The configuration of the job, which has no secret in it."""
    assert config.kuberay is not None
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": config.name,
            "namespace": config.kuberay.namespace,
            "labels": {NAME_LABEL: config.name},
        },
        "data": {"job.yaml": job},
    }


def _tcp(port: int) -> dict[str, Any]:
    return {"protocol": "TCP", "port": port}
