"""Who is told a run's numbers while it goes: TensorBoard's files always, Weights & Biases and MLflow on request."""

import math
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from typing import Any, Protocol

from llmcore.errors import ConfigError
from llmcore.redaction import redacted

__all__ = ["Tracker", "check_trackers", "numbers_of", "open_trackers"]


class Tracker(Protocol):
    """Takes numbers by step."""

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        """Tells of one row."""

    def close(self) -> None:
        """Nothing more comes."""


class _Wandb:
    def __init__(self, name: str, about: Mapping[str, Any]) -> None:
        import wandb

        self._run = wandb.init(name=name, config=dict(about))

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        self._run.log(dict(numbers), step=step)

    def close(self) -> None:
        self._run.finish()


class _Mlflow:
    def __init__(self, name: str, about: Mapping[str, Any]) -> None:
        import mlflow

        self._mlflow = mlflow
        mlflow.start_run(run_name=name)
        mlflow.log_params(dict(about))

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        self._mlflow.log_metrics(dict(numbers), step=step)

    def close(self) -> None:
        self._mlflow.end_run()


_TRACKERS: dict[str, Callable[[str, Mapping[str, Any]], Tracker]] = {"wandb": _Wandb, "mlflow": _Mlflow}


def check_trackers(names: Sequence[str]) -> None:
    """Raises ConfigError where a tracker's package is not installed; imports none of them."""
    for name in names:
        if find_spec(name) is None:
            raise ConfigError(
                f"train.trackers names {name}, which is not installed: pip install 'llmcore[{name}]', or leave it out"
            )


def open_trackers(names: Sequence[str], run: str, about: Mapping[str, Any]) -> list[Tracker]:
    """The trackers of these names; where they write is said to them by their own environment variables.

    `about` is what they show of the run besides its numbers, less any credential.
    """
    check_trackers(names)
    return [_TRACKERS[name](run, redacted(about)) for name in names]


def numbers_of(row: Mapping[str, Any]) -> dict[str, float]:
    """What of a row of metrics is a finite number, its step aside."""
    return {
        name: float(value)
        for name, value in row.items()
        if name != "step" and isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    }
