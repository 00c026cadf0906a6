"""Points on real ranks without Ray: a fault in the midst, a stop, a rate that diverges."""

import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from llmcore.config.transfer import Point, TransferConfig
from llmcore.evaluation.transfer import PREDICTIONS, finished_points, point_folder
from llmcore.records import ask_to_stop, attempt_folder
from llmcore.storage import Folder
from llmcore.tasks.columns import KINDS
from llmcore.tasks.evaluation_set import EvaluationSet
from llmcore.tasks.subsets import Subset, publish_subsets
from tests.bases import write_base
from tests.ranks import run_ranks
from tests.transfers import labelled_set

WORLD_SIZE = 2


def _config(**changes: Any) -> TransferConfig:
    train = {"global_batch_size": 5, "micro_batch_size": 2, "precision": "fp32", "zero_stage": 2, "log_every": 1}
    given = {"name": "bought", "base": "base", "data": "p/d", "labels": [5, 10], "epochs": [2], "train": train}
    return TransferConfig.model_validate(given | {"task": {"max_tokens": 16}} | changes)


def _points(root: Path, config: TransferConfig) -> list[tuple[Point, str]]:
    storage = Folder(str(root))
    subsets = [Subset(point.labels, point.seed) for point in config.points()]
    found = publish_subsets(storage, _whole(root), KINDS["text_classification"], subsets)
    return [(point, found[Subset(point.labels, point.seed)].folder.url) for point in config.points()]


def _whole(root: Path) -> EvaluationSet:
    write_base(root / "base", "bert")
    return labelled_set(Folder(str(root)))


def _train(
    root: str,
    given: dict[str, Any],
    data: list[tuple[Any, str]],
    attempt: int,
    fault_at: int | None,
    watts: float | None,
) -> dict[str, Any]:
    """The outcome; `fault_at` is the sign of life, of all points together, at which a rank fails.

    With `watts` each rank has a device whose driver counts so many joules a second.
    """
    import sys

    from llmcore.cost import Ledger
    from llmcore.train import energy
    from llmcore.train.place import Place
    from llmcore.train.transfer import train_points

    signs = 0

    def pulse() -> None:
        nonlocal signs
        signs += 1
        if signs == fault_at:
            raise RuntimeError("a fault")

    if watts is not None:
        sys.modules["pynvml"] = Driver(watts)
        energy._uuid = lambda device: "GPU-1"
    ledger = Ledger(WORLD_SIZE, "cpu")
    outcome = train_points(
        TransferConfig.model_validate(given),
        Path(root) / "base",
        "0" * 64,
        [(Point(*point), url) for point, url in data],
        Place(Folder(root) / "bought", attempt),
        device=torch.device("cpu"),
        pulse=pulse,
        ledger=ledger,
    )
    return {**outcome, "ledger": ledger.to_json()}


class Driver(ModuleType):
    """NVML as its package has it, of a device that takes as many watts all the time."""

    class NVMLError(Exception):
        """What it never says."""

    def __init__(self, watts: float) -> None:
        super().__init__("pynvml")
        self._watts = watts

    def nvmlInit(self) -> None:  # noqa: N802  # its names are not ours
        """Nothing."""

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:  # noqa: N802
        """The only one."""
        return uuid

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: str) -> float:  # noqa: N802
        """In millijoules."""
        return 1000 * self._watts * time.monotonic()


def _ranks(
    root: Path,
    config: TransferConfig,
    data: Any,
    attempt: int = 1,
    fault_at: int | None = None,
    watts: float | None = None,
) -> list[Any]:
    plain = [(tuple(point), url) for point, url in data]
    given = config.model_dump(mode="json")
    return run_ranks(WORLD_SIZE, _train, str(root), given, plain, attempt, fault_at, watts, out=root / "out")


def test_a_fault_leaves_what_was_finished_and_the_others_follow(tmp_path: Path) -> None:
    config = _config()
    data, run, points = _points(tmp_path, config), Folder(str(tmp_path)) / "bought", config.points()
    with pytest.raises(Exception, match="a fault"):
        _ranks(tmp_path, config, data, fault_at=8)  # the first two points have a sign and two steps each
    there = finished_points(run, points)
    assert [*there] == points[:2]
    outcomes = _ranks(tmp_path, config, data, attempt=2)
    assert [(one["stopped"], one["num_trained"], one["num_steps"]) for one in outcomes] == [(False, 2, 12)] * 2
    after = finished_points(run, points)
    assert [*after] == points and [after[point].about["attempt"] for point in points] == [1, 1, 2, 2]
    assert all(after[point] == there[point] for point in there)
    (again, _) = _ranks(tmp_path, config, data, attempt=3)
    assert (again["num_trained"], again["num_steps"]) == (0, 12)


def test_what_a_point_has_cost_is_told_of_its_steps(tmp_path: Path) -> None:
    config = _config(labels=[10])
    (outcome, _) = _ranks(tmp_path, config, _points(tmp_path, config))
    found = [one.about for one in finished_points(Folder(str(tmp_path)) / "bought", config.points()).values()]
    assert [(one["num_steps"], one["world_size"]) for one in found] == [(4, WORLD_SIZE)] * 2
    spent = outcome["ledger"]["device_seconds"]
    assert sum(one["device_seconds"] for one in found) == pytest.approx(spent["compute"] + spent["data_wait"])
    assert outcome["ledger"]["energy_j"] is None and found[0]["energy_j"] is None, "a CPU tells nothing"
    assert outcome["ledger"]["flops"] == sum(one["flops"] for one in found) > 0
    assert outcome["ledger"]["tokens"] == sum(one["tokens"] for one in found) > 0


def test_the_energy_of_all_ranks_is_told_of_each_point_and_of_all(tmp_path: Path) -> None:
    config = _config(labels=[10])
    (outcome, _) = _ranks(tmp_path, config, _points(tmp_path, config), watts=50.0)
    found = [one.about for one in finished_points(Folder(str(tmp_path)) / "bought", config.points()).values()]
    parts, whole = [one["energy_j"] for one in found], outcome["ledger"]["energy_j"]
    assert all(part > 50.0 * one["device_seconds"] for part, one in zip(parts, found, strict=True))
    assert sum(parts) <= whole, "once, though each point is measured, too"


def test_who_is_asked_to_stop_leaves_no_half_of_a_point(tmp_path: Path) -> None:
    config = _config(epochs=[20_000])
    data, run = _points(tmp_path, config), Folder(str(tmp_path)) / "bought"
    ask_to_stop(attempt_folder(run, 1), "a test")
    outcomes = _ranks(tmp_path, config, data)
    assert [(one["stopped"], one["num_trained"]) for one in outcomes] == [(True, 0)] * 2
    assert finished_points(run, config.points()) == {}


def test_a_rate_that_diverges_ends_its_points_alone(tmp_path: Path) -> None:
    config = _config(labels=[10], epochs=[4], random_learning_rate=1e38)
    _ranks(tmp_path, config, _points(tmp_path, config))
    run = Folder(str(tmp_path)) / "bought"
    found = finished_points(run, config.points())
    errors = {point.weights: manifest.about["error"] for point, manifest in found.items()}
    assert errors["pretrained"] is None and "is nan" in errors["random"]
    diverged = point_folder(run, config.points()[1])
    assert not diverged.exists(PREDICTIONS), "there is nothing to be judged by"
