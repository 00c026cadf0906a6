"""What the tests of this folder share: one local Ray, started when a test first asks for it; models to judge."""

from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.drivers import local_ray

if TYPE_CHECKING:
    from cluster.connect import Session
    from tests.judged import InProcess, World


@pytest.fixture(scope="package")
def ray_session() -> "Iterator[Session]":
    """A local Ray with two CPUs; it ends with these tests, since an idle one takes CPU from those that follow."""
    with local_ray() as session:
        yield session


@pytest.fixture(scope="package")
def classifiers(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """Published random classifiers by seed, each made once."""
    from tests.judged import write_classifier

    @cache
    def made(seed: int) -> Path:
        path = tmp_path_factory.mktemp("classifier")
        write_classifier(path, seed)
        return path

    return made


@pytest.fixture
def world(tmp_path: Path, classifiers: Callable[[int], Path]) -> "World":
    """A storage with a labelled set, whose records a test writes by hand."""
    from tests.judged import World

    return World(tmp_path, classifiers)


@pytest.fixture
def judge(monkeypatch: pytest.MonkeyPatch) -> "type[InProcess]":
    """What judges without an actor."""
    import jobs.runtime.judging
    from tests.judged import InProcess

    InProcess.scored, InProcess.heard, InProcess.die_after = Counter(), {}, float("inf")
    monkeypatch.setattr(jobs.runtime.judging, "Evaluator", InProcess)
    return InProcess
