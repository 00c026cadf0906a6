"""A real Ray cluster of several nodes on this machine: for trying what a cluster does, and for the tests.

Its nodes are raylets of their own. On Linux, as root, each worker node has a network and processes of its own too, so
that its network can be cut and all of it can be lost, as on a real cluster; elsewhere all nodes are on loopback.
"""

from cluster.local.faults import cut, lose, restore
from cluster.local.lifecycle import down, up
from cluster.local.state import LocalCluster, Node, load, names

__all__ = ["LocalCluster", "Node", "cut", "down", "load", "lose", "names", "restore", "up"]
