"""A cluster that jobs run on: `configs/cluster/*.yaml`, from which manifests and scripts are rendered.

Nothing in it is a secret: names of secrets alone, and of accounts that the nodes have.
"""

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import StringConstraints, model_validator

from llmcore.config.base import Section, free
from llmcore.config.cluster_targets import AwsSettings, GcpSettings, KubeRaySettings, SlurmSettings
from llmcore.config.place import MARKET, ROLE

__all__ = ["ClusterConfig", "HeadSettings", "NodeGroup"]

Target = Literal["kuberay", "aws", "gcp", "slurm"]
GroupName = Annotated[str, StringConstraints(pattern=r"^[a-z]([a-z0-9-]{0,30}[a-z0-9])?$")]
EnvironmentName = Annotated[str, StringConstraints(pattern=r"^[A-Z_][A-Z0-9_]*$")]

_OBJECT_STORE_SHARE = 0.75
"""Of the shared memory, in which Ray keeps its objects; the rest is for the buffers of gloo, NCCL and DeepSpeed."""


class _Machine(Section):
    """What the head and each node of a group have in common."""

    cpus: int = free(ge=1, description="CPUs of a node, all of which Ray gives away.")
    memory_gib: float = free(gt=0, description="Memory of a node, in GiB, shared memory included.")
    shared_memory_gib: float = free(
        gt=0,
        description="Of it, what /dev/shm may hold: Ray's objects, and the buffers in which ranks of a node exchange "
        "gradients. Three quarters are Ray's.",
    )
    instance_type: str | None = free(None, description="Machine type of the cloud: `aws`, `gcp`.")

    @property
    def object_store_bytes(self) -> int:
        """What Ray may use for its objects."""
        return int(self.shared_memory_gib * _OBJECT_STORE_SHARE * 2**30)

    @model_validator(mode="after")
    def _shared_memory_is_a_part(self) -> "_Machine":
        if self.shared_memory_gib >= self.memory_gib:
            raise ValueError(
                f"shared_memory_gib={self.shared_memory_gib:g} is no part of memory_gib={self.memory_gib:g}: give a "
                "third or half of it"
            )
        return self


class HeadSettings(_Machine):
    """The head node: never a spot one, and it holds no tasks, but the drivers of jobs."""

    @property
    def labels(self) -> dict[str, str]:
        """The node's labels in Ray."""
        return {ROLE: "head", MARKET: "on-demand"}


class NodeGroup(_Machine):
    """Nodes that are alike."""

    role: Literal["train", "data", "driver"] = free(
        description="What they are for: the node label `llmcore/role`, which `cluster.place` of a job names."
    )
    count: int | None = free(None, ge=1, description="How many there are, always; or `min` and `max`.")
    min: int | None = free(None, ge=0, description="The fewest; more come when they are asked for.")
    max: int | None = free(None, ge=1, description="The most.")
    gpus: int = free(0, ge=0, description="GPUs of a node.")
    accelerator: str | None = free(
        None,
        pattern=r"^[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$",
        description="Kind of GPU: by KubeRay the node label `ray.io/accelerator-type`, on GCP the name of what is "
        "attached (`nvidia-l4`), on Slurm the type in `--gpus-per-node`.",
    )
    spot: bool = free(
        False, description="Nodes that may be taken away: the node label `ray.io/market-type: spot`. Never drivers."
    )
    idle_minutes: float = free(5.0, gt=0, description="After which a node more than `min` is given back.")

    @property
    def fewest(self) -> int:
        """Nodes that are always there."""
        return self.count if self.count is not None else self.min or 0

    @property
    def most(self) -> int:
        """Nodes that there may be."""
        return self.count if self.count is not None else self.max or 0

    @property
    def labels(self) -> dict[str, str]:
        """A node's labels in Ray."""
        return {ROLE: self.role, MARKET: "spot" if self.spot else "on-demand"}

    @model_validator(mode="after")
    def _has_a_number(self) -> "NodeGroup":
        if (self.count is None) == (self.max is None):
            raise ValueError("give either `count`, or `min` and `max`")
        if self.count is not None and self.min is not None:
            raise ValueError(f"min={self.min} beside count={self.count} says nothing: leave one of them out")
        if self.fewest > self.most:
            raise ValueError(f"min={self.min} is more than max={self.max}: lower it")
        return self

    @model_validator(mode="after")
    def _does_what_it_can(self) -> "NodeGroup":
        if self.role != "train" and self.gpus:
            raise ValueError(f"role={self.role} has no use for gpus={self.gpus}: set 0, or role=train")
        if self.role == "driver" and self.spot:
            raise ValueError("role=driver with spot=true: who loses a driver loses the job; set spot=false")
        if self.accelerator is not None and not self.gpus:
            raise ValueError(f"accelerator={self.accelerator} without GPUs: set gpus, or leave it out")
        return self


class SecretSettings(Section):
    """A secret whose entries become environment variables of the nodes; who runs the cluster puts it there."""

    name: str = free(
        pattern=r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$", description="Of the secret; of a Kubernetes Secret's object."
    )
    variables: list[EnvironmentName] = free(
        min_length=1, description="Names of its entries, which are those of the variables (`HF_TOKEN`)."
    )


class ClusterConfig(Section):
    """`python -m cluster render`: a cluster, as one file that its target understands.

    A token is always asked for, dashboards are on loopback or inside the cluster's own network, and containers have
    no privileges: none of this can be configured away.
    """

    name: str = free(
        pattern=r"^[a-z]([a-z0-9-]{0,38}[a-z0-9])?$",
        description="Of the cluster and of what belongs to it: lower case letters, digits, `-`.",
    )
    target: Target = free(description="What runs it; its own section has what nobody else needs.")
    image: str | None = free(
        None,
        pattern=r"^[a-z0-9][a-z0-9._/:-]*(@sha256:[0-9a-f]{64})?$",
        description="Container image, as `cluster/docker/Dockerfile` makes it; best with its digest. Slurm runs "
        "without one, in `slurm.environment`.",
    )
    head: HeadSettings | None = free(
        None,
        description="The head node, by itself. With Slurm it is left out: the first node of the group is the head.",
    )
    groups: dict[GroupName, NodeGroup] = free(min_length=1, description="Groups of nodes, by name.")
    storage: str = free(
        description="URL of the storage that jobs use, which all nodes reach with their own identity: `s3://…`, "
        "`gs://…`, or a folder of a file system that all of them have."
    )
    secrets: list[SecretSettings] = free(
        list,
        description="Secrets that become environment variables of all nodes. Storage needs none: nodes have an "
        "identity.",
    )
    environment: dict[EnvironmentName, str] = free(
        dict, description="Environment variables of all nodes that are no secrets (`AWS_REGION`, `HF_HUB_OFFLINE`)."
    )
    kuberay: KubeRaySettings | None = free(None, description="Of `target: kuberay`.")
    aws: AwsSettings | None = free(None, description="Of `target: aws`.")
    gcp: GcpSettings | None = free(None, description="Of `target: gcp`.")
    slurm: SlurmSettings | None = free(None, description="Of `target: slurm`.")

    @property
    def autoscaling(self) -> bool:
        """Whether nodes come and go."""
        return any(group.fewest < group.most for group in self.groups.values())

    def mistakes(self) -> Iterator[tuple[tuple[str | int, ...], str]]:
        """What does not go with the target."""
        for target in ("kuberay", "aws", "gcp", "slurm"):
            if (getattr(self, target) is not None) != (target == self.target):
                told = "missing; expected" if target == self.target else "leave it out: expected only"
                yield (target,), f"{told} the section of target={self.target}"
        if "://" not in self.storage and not (self.target == "slurm" and self.storage.startswith("/")):
            yield (
                ("storage",),
                "expected a URL that all nodes reach"
                + (", or an absolute path of a shared file system" if self.target == "slurm" else ": s3://… or gs://…"),
            )
        yield from self._mistakes_of_nodes()
        yield from self._mistakes_of_variables()

    def _mistakes_of_nodes(self) -> Iterator[tuple[tuple[str | int, ...], str]]:
        if self.target == "slurm":
            if self.head is not None:
                yield ("head",), "leave it out: with Slurm the first node of the group is the head"
            if len(self.groups) != 1 or self.autoscaling:
                yield (
                    ("groups",),
                    "got several sizes; expected one group with `count`: a Slurm job has nodes of one kind",
                )
            if self.secrets:
                yield ("secrets",), "leave them out: a Slurm job has the environment of who submits it"
            return
        if self.head is None:
            yield ("head",), f"missing; expected the head node of target={self.target}"
        if self.image is None:
            yield ("image",), f"missing; expected the container image of target={self.target}"
        if self.target == "kuberay":
            return
        machines = {("head",): self.head, **{("groups", name): group for name, group in self.groups.items()}}
        for place, machine in machines.items():
            if machine is not None and machine.instance_type is None:
                yield (*place, "instance_type"), f"missing; expected a machine type of target={self.target}"
        if self.secrets:
            yield (
                ("secrets",),
                f"leave them out: with target={self.target} instances get what they need by their role, or from the "
                "cloud's own secret store",
            )

    def _mistakes_of_variables(self) -> Iterator[tuple[tuple[str | int, ...], str]]:
        seen = set(self.environment)
        for number, secret in enumerate(self.secrets):
            for variable in secret.variables:
                if variable in seen:
                    yield ("secrets", number, "variables"), f"{variable} is given twice; keep one"
                seen.add(variable)
        for variable in sorted(seen):
            if variable.startswith("RAY_AUTH"):
                yield ("environment",), f"{variable} is set by the cluster itself; leave it out"
