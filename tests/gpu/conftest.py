"""What only a GPU shows; without one all of it is skipped. The tests' own process is the only rank of an NCCL group."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import distributed

from tests.ranks import free_port


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Also called for tests of other folders, where those are collected too."""
    if not torch.cuda.is_available():
        for item in items:
            if Path(__file__).parent in item.path.parents:
                item.add_marker(pytest.mark.skip(reason="PyTorch finds no GPU here"))


@pytest.fixture(scope="session")
def gpu() -> Iterator[torch.device]:
    """The device of the group's only rank; before DeepSpeed is imported, which looks at the environment."""
    about = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1"}
    os.environ |= about | {"MASTER_PORT": str(free_port())}
    device = torch.device("cuda", 0)
    torch.cuda.set_device(device)
    distributed.init_process_group("nccl", rank=0, world_size=1)
    yield device
    distributed.destroy_process_group()
    for name in (*about, "MASTER_PORT"):
        os.environ.pop(name, None)
