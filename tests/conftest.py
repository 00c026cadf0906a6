"""What all tests share: one local Ray for a whole session, started when a test first asks for it."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from cluster.connect import Session


@pytest.fixture(scope="session")
def ray_session() -> "Iterator[Session]":
    """A local Ray with two CPUs."""
    from cluster.connect import connect
    from jobs.runtime.console import quiet
    from llmcore.config.common import ClusterSettings

    quiet(verbose=False)
    with connect(ClusterSettings(address="local", num_cpus=2)) as session:
        yield session
