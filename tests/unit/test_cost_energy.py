"""The energy of a GPU by NVML, as its package has it: what was taken since, in joules, or nothing at all."""

import sys
from types import ModuleType
from typing import Any

import pytest

from llmcore.cost import Ledger
from llmcore.cost.energy import EnergyMeter


class _NVML(ModuleType):
    """One GPU, whose counter is in millijoules, as that of nvidia-ml-py."""

    class NVMLError(Exception):
        """Anything that the driver refuses."""

    millijoules: float | None = 5_000_000

    def nvmlInit(self) -> None:  # noqa: N802  # its names are not ours
        """Nothing."""

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:  # noqa: N802
        """The only one."""
        if uuid != "GPU-1":
            raise self.NVMLError("not found")
        return uuid

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: str) -> float:  # noqa: N802
        """Since the driver was loaded."""
        if self.millijoules is None:
            raise self.NVMLError("not supported")
        return self.millijoules


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> _NVML:
    made = _NVML("pynvml")
    monkeypatch.setitem(sys.modules, "pynvml", made)
    return made


def test_joules_since_it_was_made(nvml: _NVML) -> None:
    meter = EnergyMeter("GPU-1")
    nvml.millijoules = 5_250_000
    assert meter.joules() == 250.0


@pytest.mark.parametrize(("uuid", "millijoules"), [(None, 1.0), ("GPU-2", 1.0), ("GPU-1", None)])
def test_nothing_where_nobody_tells(nvml: _NVML, uuid: str | None, millijoules: Any) -> None:
    nvml.millijoules = millijoules
    assert EnergyMeter(uuid).joules() is None


def test_nothing_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert EnergyMeter("GPU-1").joules() is None


def test_the_ledger_adds_it_up() -> None:
    run, workers = Ledger(1, "cpu"), Ledger(2, "H100")
    assert run.to_json()["energy_j"] is None
    workers.count(energy_j=100.0)
    workers.count(energy_j=20.0)
    run.merge(workers.to_json())
    run.merge(Ledger(2, "H100").to_json())
    assert run.to_json()["energy_j"] == 120.0
