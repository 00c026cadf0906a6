"""Scorers that have nothing to judge hold nothing that a trial may wait for."""

from typing import Any

import pytest

from cluster.resources import Need
from jobs.runtime import scorers as module
from jobs.runtime.scorers import Scorers
from llmcore.config.common import WorkerSettings


@pytest.fixture
def killed(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    gone: list[Any] = []
    monkeypatch.setattr("ray.kill", gone.append)
    return gone


def test_they_rest_once_they_have_been_idle_for_a_while(monkeypatch: pytest.MonkeyPatch, killed: list[Any]) -> None:
    now = 1000.0
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    scorers = Scorers(1, 0.5, 0.0)
    scorers.actors = ["one"]
    scorers.used()
    now += 15
    scorers.rest()
    assert scorers.actors == ["one"]
    now += 1
    scorers.rest()
    assert not scorers.actors and killed == ["one"]
    scorers.rest()
    assert killed == ["one"]


@pytest.mark.parametrize("fit", [True, False])
def test_they_make_room_where_others_may_find_none(
    monkeypatch: pytest.MonkeyPatch, killed: list[Any], fit: bool
) -> None:
    asked: list[list[Need]] = []
    monkeypatch.setattr("cluster.resources.fit_anyhow", lambda needs: asked.append(needs) or fit)
    scorers, workers = Scorers(2, 0.5, 0.0), WorkerSettings(num_workers=2, cpus_per_worker=0.75, gpus_per_worker=0)
    scorers.make_room_for("twin", workers)
    assert not asked, "there are none"
    scorers.actors = ["one", "two"]
    scorers.make_room_for("twin", workers)
    assert asked == [[Need("twin", 0.75, 0.0, 2), Need("num_scorers", 0.5, 0.0, 2)]]
    assert killed == ([] if fit else ["one", "two"])
