"""What each target of a cluster needs to know, and no other."""

from typing import Annotated

from pydantic import StringConstraints

from llmcore.config.base import Section, free
from llmcore.config.place import LABEL

__all__ = ["AwsSettings", "EgressRule", "GcpSettings", "GcsStorage", "KubeRaySettings", "NodeLabel", "SlurmSettings"]

DnsName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]
Cidr = Annotated[str, StringConstraints(pattern=r"^[0-9a-f.:]+/[0-9]{1,3}$")]
Line = Annotated[str, StringConstraints(pattern=r"^[^\n]+$")]


class NodeLabel(Section):
    """A label of Kubernetes nodes, and the taint of the same name that pods tolerate."""

    key: str = free(
        pattern=LABEL, description="Of the label: `karpenter.sh/capacity-type`, `cloud.google.com/gke-spot`."
    )
    value: str = free(description="Its value on such nodes: `spot`, `true`.")


class EgressRule(Section):
    """Where else pods may connect to."""

    cidr: Cidr = free(description="Addresses: `169.254.169.254/32`.")
    ports: list[int] = free(min_length=1, description="TCP ports.")


class GcsStorage(Section):
    """Where the head keeps its tables, so that workers outlive it: a Redis of yours, for this cluster alone."""

    redis_address: str = free(
        pattern=r"^(rediss?://)?[^\s/@]+:[0-9]+$", description="`host:port`, or `rediss://host:port`."
    )
    password_secret: DnsName = free(description="Secret that has the password.")
    password_key: str = free("password", description="Its entry.")


class KubeRaySettings(Section):
    """KubeRay 1.5.1 or newer on Kubernetes 1.29 or newer."""

    namespace: DnsName = free("default", description="Where the cluster lives; all its objects are made there.")
    operator_namespace: DnsName = free(
        "kuberay-system", description="Where KubeRay's operator runs: it may reach the head."
    )
    clients: dict[str, str] = free(
        dict,
        description="Labels of pods in the namespace that may reach the dashboard and the Jobs API; without any, only "
        "`kubectl port-forward` may, which Kubernetes' own access rules guard.",
    )
    token_secret: DnsName | None = free(
        None,
        description="Secret with the token, entry `auth_token`; without one KubeRay makes it, named as the cluster.",
    )
    identity: dict[str, str] = free(
        dict,
        description="Annotations of the service account by which pods get the cloud's credentials: "
        "`iam.gke.io/gcp-service-account`, `eks.amazonaws.com/role-arn`, `azure.workload.identity/client-id`.",
    )
    spot_nodes: NodeLabel | None = free(None, description="How nodes that may be taken away are known.")
    gpu_nodes: NodeLabel | None = free(
        None, description="How nodes with GPUs are known; what needs none is kept off them."
    )
    zone: str | None = free(
        None, description="Availability zone of all groups with GPUs, so that ranks are near each other."
    )
    read_only_root: bool = free(
        True, description="Whether containers can write in /tmp, the home folder and shared memory alone."
    )
    scratch_gib: float = free(
        50.0, gt=0, description="Of a node's disk, what /tmp may hold: Ray's spilled objects, logs."
    )
    egress: list[EgressRule] = free(
        list,
        description="Beside the cluster itself, DNS, and HTTPS (443, 6443) anywhere: metadata servers of workload "
        "identity, an object store on another port.",
    )
    gcs: GcsStorage | None = free(
        None, description="Fault tolerance of the head; without it the end of the head is that of the job."
    )
    retries: int = free(
        2, ge=0, description="Of a RayJob, each on a new cluster; the job goes on from its last checkpoint."
    )
    keep_minutes: int = free(10, ge=0, description="That a RayJob's cluster stays after its end, for logs.")


class AwsSettings(Section):
    """Ray's cluster launcher on AWS. Instances have private addresses, and are reached through Systems Manager."""

    region: str = free(pattern=r"^[a-z]{2}(-[a-z]+)+-[0-9]$", description="`eu-central-1`.")
    subnets: list[Annotated[str, StringConstraints(pattern=r"^subnet-[0-9a-z]+$")]] = free(
        min_length=1, description="Private ones, with a way out (NAT or endpoints)."
    )
    security_groups: list[Annotated[str, StringConstraints(pattern=r"^sg-[0-9a-z]+$")]] = free(
        min_length=1, description="Inbound from themselves alone."
    )
    image_id: str = free(
        pattern=r"^ami-[0-9a-z]+$", description="AMI with Docker; for GPUs, with NVIDIA's driver and runtime."
    )
    head_profile: str = free(description="Instance profile with `cluster/launcher/aws-head-policy.json`.")
    worker_profile: str = free(description="Instance profile with `cluster/launcher/aws-worker-policy.json`.")
    ssh_user: str = free("ubuntu", description="Of the AMI.")
    disk_gib: int = free(200, ge=30, description="Disk of each node, encrypted.")


class GcpSettings(Section):
    """Ray's cluster launcher on GCP. Instances have private addresses, and are reached through Identity-Aware Proxy."""

    project: str = free(pattern=r"^[a-z][a-z0-9-]{4,28}[a-z0-9]$", description="Project id.")
    region: str = free(pattern=r"^[a-z]+-[a-z]+[0-9]$", description="`europe-west4`.")
    zone: str = free(pattern=r"^[a-z]+-[a-z]+[0-9]-[a-z]$", description="`europe-west4-a`.")
    subnetwork: str = free(
        pattern=r"^projects/[^/]+/regions/[^/]+/subnetworks/[^/]+$",
        description="Private, with Cloud NAT and Private Google Access.",
    )
    source_image: str = free(
        pattern=r"^projects/[^/]+/global/images/",
        description="With Docker; for GPUs, with NVIDIA's driver and runtime.",
    )
    service_account: str = free(
        pattern=r"^[^@\s]+@[^@\s]+\.iam\.gserviceaccount\.com$",
        description="Of the workers, with the role of `cluster/launcher/gcp-worker-role.yaml`. The head's is made "
        "by Ray.",
    )
    ssh_user: str = free("ubuntu", description="Of the image.")
    disk_gib: int = free(200, ge=30, description="Disk of each node.")


class SlurmSettings(Section):
    """One batch job: a Ray head on its first node, workers on the others."""

    environment: str = free(
        pattern=r"^/[^\s'\"$`\\]*$", description="Virtual environment with this package, at the same path on all nodes."
    )
    shared: str = free(
        "$HOME/.local/state/llmcore/slurm",
        pattern=r"^(/|\$HOME/)[^\s'\"$`\\;&|]*$",
        description="Folder that all nodes see, and nobody else: the token of each job is there, mode 0600.",
    )
    partition: str | None = free(None, pattern=r"^[\w.,-]+$", description="Null: the cluster's default.")
    account: str | None = free(None, pattern=r"^[\w.-]+$", description="Who pays.")
    time_limit: str = free(
        "24:00:00", pattern=r"^([0-9]+-)?[0-9]{1,2}:[0-9]{2}:[0-9]{2}$", description="`[days-]hours:minutes:seconds`."
    )
    stop_before_s: int = free(
        300,
        ge=60,
        description="Seconds before the time limit at which training saves its step and leaves, to be queued again.",
    )
    requeue: bool = free(True, description="Whether the job is queued again when its time is up, or a node is lost.")
    setup: list[Line] = free(list, description="Shell lines before all else, on each node: `module load cuda`.")
