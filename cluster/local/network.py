"""The network of a local cluster: a bridge with the head's address, and a namespace with one cable for each worker.

Nodes see each other and this machine, by a private network that nothing else here uses; they do not see the internet.
Everything is done by `ip` of iproute2.
"""

import ipaddress
import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmcore.errors import ConfigError, RunError

__all__ = ["MOST_WORKERS", "Network", "checked_subnet", "free_subnet", "used_subnets", "why_no_namespaces"]

MOST_WORKERS = 99
"""As many as have two digits: a network interface has a name of 15 characters."""
_INSIDE = "eth0"
"""A worker's end of its cable."""
_FIRST_WORKER = 10
_PRIVATE = tuple(map(ipaddress.IPv4Network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")))
"""RFC 1918."""
_LONGEST_PREFIX, _HOST_BITS = 24, 8
_SHORTEST_PREFIX = 8
"""A route to more addresses than that is one to everywhere, as the two halves that some VPNs set."""
_NAMESPACES = Path("/run/netns")


@dataclass(frozen=True)
class Network:
    """Names and addresses, all of which are known before anything is made."""

    bridge: str
    """The bridge's name, of at most 11 characters; the names of all else begin with it."""
    subnet: str
    """A private one, as `10.20.30.0/24`."""

    @property
    def head(self) -> str:
        """The address of the bridge, on which the head node and this machine are found."""
        return str(ipaddress.ip_network(self.subnet)[1])

    def worker(self, number: int) -> str:
        """The address of a worker, which are counted from 1."""
        return str(ipaddress.ip_network(self.subnet)[_FIRST_WORKER + number])

    def namespace(self, number: int) -> str:
        """The name of a worker's namespace, and of the end of its cable that is outside."""
        return f"{self.bridge}-{number}"

    def make(self, num_workers: int) -> None:
        """Make it all, up and running; raises RunError where something cannot be made."""
        length = ipaddress.ip_network(self.subnet).prefixlen
        _ip("link", "add", self.bridge, "type", "bridge")
        _ip("address", "add", f"{self.head}/{length}", "dev", self.bridge)
        _ip("link", "set", self.bridge, "up")
        for number in range(1, num_workers + 1):
            name = self.namespace(number)
            _ip("netns", "add", name)
            _ip("link", "add", name, "type", "veth", "peer", "name", _INSIDE, "netns", name)
            _ip("link", "set", name, "master", self.bridge, "up")
            _ip("-n", name, "address", "add", f"{self.worker(number)}/{length}", "dev", _INSIDE)
            _ip("-n", name, "link", "set", "lo", "up")
            _ip("-n", name, "link", "set", _INSIDE, "up")
            # It leads nowhere, but who looks for a node's own address asks which one it would leave by.
            _ip("-n", name, "route", "add", "default", "via", self.head, "dev", _INSIDE)

    def plug(self, namespace: str) -> None:
        """Have the cable carry something again."""
        _ip("link", "set", namespace, "up")

    def unplug(self, namespace: str) -> None:
        """Cut the cable: nothing comes and nothing leaves, and nobody is told."""
        _ip("link", "set", namespace, "down")

    def remove(self) -> None:
        """Remove what there is of it, also of what was made by halves; the processes in it must have ended."""
        ours = (self.bridge, f"{self.bridge}-")
        for link in _links():
            if link == ours[0] or link.startswith(ours[1]):
                _ip("link", "delete", link)  # a cable goes with either of its ends
        for namespace in _namespaces():
            if namespace.startswith(ours[1]):
                _ip("netns", "delete", namespace)


def why_no_namespaces() -> str | None:
    """Why worker nodes cannot have networks of their own here; None where they can."""
    if not sys.platform.startswith("linux"):
        return "there are network namespaces on Linux alone"
    if os.geteuid() != 0:
        return "network namespaces are made by root alone"
    for program, package in (("ip", "iproute2"), ("nsenter", "util-linux"), ("unshare", "util-linux")):
        if shutil.which(program) is None:
            return f"there is no `{program}`: apt-get install {package}"
    tried = ["unshare", "--net", "--pid", "--fork", "--mount-proc", "ip", "link", "add", "tried", "type", "bridge"]
    done = subprocess.run(tried, check=False, capture_output=True, text=True)
    return f"this root may not make them: {done.stderr.strip()}" if done.returncode else None


def used_subnets() -> list[ipaddress.IPv4Network]:
    """What this machine has addresses in, or a route to; not what stands for the whole internet."""
    used = []
    for device in _told("-4", "address", "show"):
        used += [f"{address['local']}/{address['prefixlen']}" for address in device.get("addr_info", [])]
    used += [route["dst"] for route in _told("-4", "route", "show", "table", "all") if route["dst"] != "default"]
    subnets = [ipaddress.IPv4Network(subnet, strict=False) for subnet in used]
    return [subnet for subnet in subnets if subnet.prefixlen >= _SHORTEST_PREFIX]


def free_subnet(used: Iterable[ipaddress.IPv4Network]) -> str:
    """A private network of 256 addresses that overlaps with none of the used ones, drawn at random from all there are.

    At random, so that two clusters that begin at the same moment do not draw the same one.
    Raises RunError where all are used.
    """
    free = set[int]().union(*map(_numbers, _PRIVATE)).difference(*map(_numbers, used))
    if not free:
        raise RunError("no private network is free on this machine: use --no-namespaces")
    number = random.SystemRandom().choice(sorted(free))
    return str(ipaddress.IPv4Network((number << _HOST_BITS, _LONGEST_PREFIX)))


def _numbers(network: ipaddress.IPv4Network) -> range:
    """The networks of 256 addresses that it overlaps with, each by a number."""
    return range(int(network.network_address) >> _HOST_BITS, (int(network.broadcast_address) >> _HOST_BITS) + 1)


def checked_subnet(subnet: str, used: Iterable[ipaddress.IPv4Network]) -> str:
    """The network that a user names; raises ConfigError where it is none, is too small, or overlaps with a used one."""
    try:
        network = ipaddress.IPv4Network(subnet)
    except ValueError as error:
        raise ConfigError(f"--subnet={subnet}: {error}; give one as 10.20.30.0/24") from None
    if network.prefixlen > _LONGEST_PREFIX:
        raise ConfigError(
            f"--subnet={subnet} has {network.num_addresses} addresses: give a /{_LONGEST_PREFIX}, or more"
        )
    for other in used:
        if network.overlaps(other):
            raise ConfigError(
                f"--subnet={subnet} overlaps with {other}, which this machine uses: give another, or none"
            )
    return str(network)


def _links() -> list[str]:
    return [link["ifname"] for link in _told("link", "show")]


def _namespaces() -> list[str]:
    return sorted(file.name for file in _NAMESPACES.glob("*"))


def _told(*arguments: str) -> list[dict[str, Any]]:
    """What `ip` says, as JSON; without the empty entries that it has for what it filters out."""
    return [entry for entry in json.loads(_ip("-json", *arguments) or "[]") if entry]


def _ip(*arguments: str) -> str:
    done = subprocess.run(["ip", *arguments], check=False, capture_output=True, text=True)
    if done.returncode:
        raise RunError(f"`ip {' '.join(arguments)}` failed: {done.stderr.strip()}")
    return done.stdout
