"""Over which network interface the ranks of a node reach the others: the one that has the node's address in Ray."""

import os

__all__ = ["interface_of", "name_interface"]

_VARIABLE = "GLOO_SOCKET_IFNAME"


def interface_of(address: str) -> str:
    """The network interface of this machine with that address; empty where there is none."""
    import psutil

    interfaces = psutil.net_if_addrs().items()
    return next((name for name, found in interfaces if address in {one.address for one in found}), "")


def name_interface(address: str) -> None:
    """Has gloo take the interface with this node's address, where the environment names none.

    By itself gloo takes what the host's own name resolves to, which is loopback on many a machine, where no other node
    reaches it. NCCL looks for an interface by itself.
    """
    if _VARIABLE not in os.environ and (interface := interface_of(address)):
        os.environ[_VARIABLE] = interface
