"""What the tests of this folder share: one local Ray, started when a test first asks for it."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.drivers import local_ray

if TYPE_CHECKING:
    from cluster.connect import Session


@pytest.fixture(scope="package")
def ray_session() -> "Iterator[Session]":
    """A local Ray with two CPUs; it ends with these tests, since an idle one takes CPU from those that follow."""
    with local_ray() as session:
        yield session
