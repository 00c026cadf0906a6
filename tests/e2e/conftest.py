"""What these tests share: a Ray, and one undisturbed run of the tiny pipeline, with which others are compared."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.drivers import ray_folder, run_jobs, shared_ray
from tests.tiny import tiny_pipeline, write_config, write_corpus


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny corpus."""
    return write_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="session")
def tiny(corpus: Path) -> dict[str, Any]:
    """The tiny pipeline on it; its storage is for each test to name."""
    return tiny_pipeline(corpus, Path("/give/a/storage"))


@pytest.fixture(scope="session")
def one_ray() -> Iterator[dict[str, str]]:
    """One Ray for the commands of all tests that do nothing to it: what they need in their environment."""
    with shared_ray() as environment:
        yield environment


@pytest.fixture(scope="session")
def reference(tmp_path_factory: pytest.TempPathFactory, tiny: dict[str, Any]) -> Path:
    """The storage of a tiny pipeline that nobody disturbed."""
    folder = tmp_path_factory.mktemp("reference")
    config = write_config(folder / "tiny.yaml", tiny | {"storage": str(folder / "runs")})
    with ray_folder() as ray:
        ended = run_jobs("pipeline", str(config), cwd=folder, RAY_TMPDIR=ray)
    assert ended.code == 0, ended.out + ended.err
    print(f"\nundisturbed: {ended.seconds:.0f} s\n{ended.out}{ended.err}")
    return folder / "runs"
