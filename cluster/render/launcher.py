"""YAML of Ray's cluster launcher (`ray up`) for AWS and GCP: private addresses, roles of instances, a token."""

from collections.abc import Callable
from typing import Any

from llmcore.config.cluster import ClusterConfig, HeadSettings, NodeGroup
from llmcore.config.cluster_targets import AwsSettings, GcpSettings

__all__ = ["aws_launcher", "gcp_launcher"]

_TOKEN = "~/.ray/auth_token"
"""Where Ray looks for it by itself, on the machine of who runs `ray up` and on the nodes."""
_PORT = 6379
_HEAD = "head"

Machine = HeadSettings | NodeGroup


def aws_launcher(config: ClusterConfig) -> dict[str, Any]:
    """For AWS. Nodes are reached by Systems Manager's port, so that no port of theirs is open to anybody outside."""
    aws = config.aws
    assert aws is not None
    session = f"aws ssm start-session --region {aws.region} --target %h"
    whole = _common(config, aws.ssh_user, lambda machine: _aws_instance(config, aws, machine))
    whole["provider"] = {
        "type": "aws",
        "region": aws.region,
        "use_internal_ips": True,
        "cache_stopped_nodes": False,  # or the head's role would need to stop and start instances, too
    }
    whole["auth"] |= {
        "ssh_proxy_command": f"{session} --document-name AWS-StartSSHSession --parameters portNumber=%p",
        "ssh_proxy_use_node_id": True,
    }
    return whole


def gcp_launcher(config: ClusterConfig) -> dict[str, Any]:
    """For GCP. Nodes are reached through Identity-Aware Proxy, and have no address outside."""
    gcp = config.gcp
    assert gcp is not None
    tunnel = f"gcloud compute start-iap-tunnel %h %p --listen-on-stdin --project {gcp.project} --zone {gcp.zone}"
    whole = _common(config, gcp.ssh_user, lambda machine: _gcp_instance(gcp, machine))
    whole["provider"] = {
        "type": "gcp",
        "region": gcp.region,
        "availability_zone": gcp.zone,
        "project_id": gcp.project,
        "use_internal_ips": True,
    }
    whole["auth"] |= {"ssh_proxy_command": tunnel, "ssh_proxy_use_node_id": True}
    return whole


def _common(config: ClusterConfig, ssh_user: str, instance_of: Callable[[Machine], dict[str, Any]]) -> dict[str, Any]:
    """All but `provider`, which each has of its own; `instance_of` says a machine as its cloud takes it."""
    assert config.head is not None
    machines: dict[str, Machine] = {_HEAD: config.head, **config.groups}
    return {
        "cluster_name": config.name,
        "max_workers": sum(group.most for group in config.groups.values()),
        "upscaling_speed": 1.0,
        "idle_timeout_minutes": max(group.idle_minutes for group in config.groups.values()),
        "provider": {},
        "auth": {"ssh_user": ssh_user},
        "docker": _docker(config),
        "head_node_type": _HEAD,
        "available_node_types": {name: _node_type(machine, instance_of(machine)) for name, machine in machines.items()},
        "file_mounts": {_TOKEN: _TOKEN},
        # The copy is the user's own, whatever the umask of who copied it.
        "setup_commands": [f"chmod 700 {_folder(_TOKEN)} && chmod 600 {_TOKEN}"],
        "head_start_ray_commands": [
            _start("--head", f"--port={_PORT}", "--autoscaling-config=~/ray_bootstrap_config.yaml")
        ],
        "worker_start_ray_commands": [_start(f"--address=$RAY_HEAD_IP:{_PORT}")],
    }


def _docker(config: ClusterConfig) -> dict[str, Any]:
    """Shared memory is that of the largest group: the launcher has one option for all, and it is only a bound."""
    most = max(machine.shared_memory_gib for machine in (config.head, *config.groups.values()) if machine is not None)
    variables = [f"--env={name}={value}" for name, value in config.environment.items()]
    return {
        "image": config.image,
        "container_name": "llmcore",
        "pull_before_run": True,
        "disable_shm_size_detection": True,
        "run_options": [
            f"--shm-size={most:g}g",
            "--ulimit=nofile=65536:65536",
            "--cap-drop=ALL",
            "--security-opt=no-new-privileges",
            *variables,
        ],
    }


def _start(*options: str) -> str:
    """Starts Ray on a node; the dashboard is on the head's own loopback, and `ray dashboard` makes a way to it."""
    own = ["ray", "start", *options, "--object-manager-port=8076", "--dashboard-host=127.0.0.1", *_MEMORY]
    return f"ray stop; export RAY_AUTH_MODE=token; {' '.join(own)}"


_MEMORY = ['--object-store-memory="$(( $(df --output=size -B1 /dev/shm | tail -1) * 3 / 4 ))"']
"""As everywhere: three quarters of the shared memory, whatever the node's is."""


def _node_type(machine: Machine, instance: dict[str, Any]) -> dict[str, Any]:
    if isinstance(machine, HeadSettings):
        return {"resources": {"CPU": 0}, "labels": machine.labels, "node_config": instance}
    has = {"CPU": machine.cpus} | ({"GPU": machine.gpus} if machine.gpus else {})
    return {
        "resources": has,
        "labels": machine.labels,
        "min_workers": machine.fewest,
        "max_workers": machine.most,
        "node_config": instance,
    }


def _aws_instance(config: ClusterConfig, aws: AwsSettings, machine: Machine) -> dict[str, Any]:
    """As EC2's RunInstances takes it."""
    profile = aws.head_profile if isinstance(machine, HeadSettings) else aws.worker_profile
    disk = {"VolumeSize": aws.disk_gib, "VolumeType": "gp3", "Encrypted": True, "DeleteOnTermination": True}
    instance: dict[str, Any] = {
        "InstanceType": machine.instance_type,
        "ImageId": aws.image_id,
        "SubnetIds": list(aws.subnets),
        "SecurityGroupIds": list(aws.security_groups),
        "IamInstanceProfile": {"Name": profile},
        # Credentials of the role are given for a session's token alone, and to nobody behind a further hop.
        "MetadataOptions": {"HttpTokens": "required", "HttpPutResponseHopLimit": 1},
        "BlockDeviceMappings": [{"DeviceName": "/dev/sda1", "Ebs": disk}],
        "TagSpecifications": [{"ResourceType": "instance", "Tags": [{"Key": "llmcore-cluster", "Value": config.name}]}],
    }
    if isinstance(machine, NodeGroup) and machine.spot:
        once = {"SpotInstanceType": "one-time", "InstanceInterruptionBehavior": "terminate"}
        instance["InstanceMarketOptions"] = {"MarketType": "spot", "SpotOptions": once}
    return instance


def _gcp_instance(gcp: GcpSettings, machine: Machine) -> dict[str, Any]:
    """As Compute Engine's `instances.insert` takes it."""
    instance: dict[str, Any] = {
        "machineType": machine.instance_type,
        "disks": [
            {
                "boot": True,
                "autoDelete": True,
                "type": "PERSISTENT",
                "initializeParams": {"diskSizeGb": str(gcp.disk_gib), "sourceImage": gcp.source_image},
            }
        ],
        # Without an access config there is no address outside.
        "networkInterfaces": [{"subnetwork": gcp.subnetwork}],
        "shieldedInstanceConfig": {"enableVtpm": True, "enableIntegrityMonitoring": True},
    }
    if isinstance(machine, NodeGroup):
        # The head's account is made and set by Ray itself, whatever stands here.
        scopes = ["https://www.googleapis.com/auth/cloud-platform"]
        instance["serviceAccounts"] = [{"email": gcp.service_account, "scopes": scopes}]
        if machine.gpus and machine.accelerator:
            kind = f"projects/{gcp.project}/zones/{gcp.zone}/acceleratorTypes/{machine.accelerator}"
            instance["guestAccelerators"] = [{"acceleratorType": kind, "acceleratorCount": machine.gpus}]
        if machine.spot:
            ended = {"instanceTerminationAction": "DELETE", "automaticRestart": False}
            instance["scheduling"] = {"provisioningModel": "SPOT", "onHostMaintenance": "TERMINATE", **ended}
        elif machine.gpus:
            instance["scheduling"] = {"onHostMaintenance": "TERMINATE"}
    return instance


def _folder(path: str) -> str:
    return path.rpartition("/")[0]
