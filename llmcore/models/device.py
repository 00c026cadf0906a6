"""Where a model computes that a process has for itself."""

import torch

__all__ = ["own_device"]


def own_device() -> torch.device:
    """The GPU of this process, where it has one, else the CPU; Ray shows an actor or a task those alone that it has."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
