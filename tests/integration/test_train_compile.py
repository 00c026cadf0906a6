"""Compiled layers give the losses of eager ones, and are compiled once for all documents."""

from typing import Any

import numpy as np
import pytest

from tests.engines import batch_of, steps, tiny_engine
from tests.ranks import run_ranks


def _compiled() -> dict[str, Any]:
    from torch._dynamo.utils import counters

    eager = steps(tiny_engine(3), 0, 3)
    engine = tiny_engine(3, compile=True, activation_checkpointing=True)
    losses = steps(engine, 0, 3)
    graphs = counters["stats"]["unique_graphs"]
    engine.step(3, [batch_of(np.array(rows)) for rows in ([0, 3], [4, 7], [6])])
    return {"eager": eager, "compiled": losses, "graphs": (graphs, counters["stats"]["unique_graphs"])}


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    [found] = run_ranks(1, _compiled, out=tmp_path_factory.mktemp("compiled"))
    return dict(found)


def test_losses_are_those_of_eager_layers(compiled: dict[str, Any]) -> None:
    """Sharded by ZeRO-3, and with activations computed anew besides."""
    assert compiled["compiled"] == pytest.approx(compiled["eager"], abs=2e-6)


def test_other_documents_compile_nothing_anew(compiled: dict[str, Any]) -> None:
    before, after = compiled["graphs"]
    assert before == after > 0
