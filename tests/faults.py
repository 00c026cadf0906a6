"""Pre-training that faults are done to, on a small cluster, and what is asked of it afterwards."""

import json
import math
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmcore.records import attempt_folder, attempt_numbers, read_metrics
from llmcore.storage import Folder
from llmcore.train.kept import complete_names
from tests.drivers import Ended, run_jobs, start_jobs, wait_for
from tests.tiny import tiny_stage, told_losses, write_config

__all__ = ["CHECKPOINT_EVERY", "NUM_STEPS", "Training", "assert_same_losses", "sessions", "timeless_rows"]

NUM_STEPS = 240
CHECKPOINT_EVERY = 10


@dataclass(frozen=True)
class Training:
    """A pre-training of the tiny model, in a folder of its own that has the prepared tokens."""

    folder: Path
    config: Path
    environment: dict[str, str]

    @classmethod
    def begin(
        cls,
        folder: Path,
        tiny: dict[str, Any],
        prepared: Path,
        *,
        environment: dict[str, str],
        workers: dict[str, Any],
        storage: Path | None = None,
        **train: Any,
    ) -> "Training":
        """Writes the configuration, and copies the tokens to its storage; nothing is started.

        The environment is the driver's, and says on which Ray it trains.
        """
        storage = storage or folder / "runs"
        shutil.copytree(prepared, storage, dirs_exist_ok=True)
        lengths = {"num_steps": NUM_STEPS, "validate_every": None, "checkpoint_every": CHECKPOINT_EVERY}
        config = {
            "name": "tiny.pretrain",
            "storage": str(storage),
            "cluster": tiny["cluster"],
            "tokens": "tiny.prepare",
            "model": tiny_stage(tiny, "pretrain")["model"],
            "train": tiny_stage(tiny, "pretrain")["train"] | lengths | train,
            "workers": {"threads_per_worker": 1} | workers,
        }
        written = write_config(folder / f"{storage.name}.yaml", config)
        return cls(storage, written, environment)

    @property
    def run(self) -> Folder:
        """Its records."""
        return Folder(str(self.folder)) / "tiny.pretrain"

    @property
    def log(self) -> Path:
        """What the drivers that were left running said."""
        return self.config.with_suffix(".log")

    def to_its_end(self, *overrides: str) -> Ended:
        """The command, to its end."""
        return run_jobs("pretrain", str(self.config), *overrides, cwd=self.config.parent, **self.environment)

    def start(self, *overrides: str, own_session: bool = False) -> "subprocess.Popen[bytes]":
        """The command, left running."""
        folder = self.config.parent
        arguments = ("pretrain", str(self.config), *overrides)
        return start_jobs(*arguments, cwd=folder, output=self.log, own_session=own_session, **self.environment)

    def newest(self) -> dict[str, Any]:
        """What the newest complete checkpoint says: its step, the world size; step 0 where there is none."""
        for name in reversed((self.run / "checkpoints").names()):
            manifest = (self.run / "checkpoints" / name).find_json("manifest.json")
            if manifest is not None:
                return {"step": manifest["about"]["progress"]["step"]} | manifest["about"]
        return {"step": 0, "world_size": 0}

    def reaches(self, step: int, driver: "subprocess.Popen[bytes]") -> None:
        """Waits for a checkpoint at or after a step."""
        assert wait_for(lambda: self.newest()["step"] >= step, driver), self.log.read_text()

    def losses(self) -> list[dict[str, Any]]:
        """Each step and validation as the records tell of them."""
        return told_losses(self.folder)

    def end_of(self, attempt: int) -> dict[str, Any] | None:
        """How an attempt ended."""
        end: dict[str, Any] | None = (self.run / f"attempts/{attempt:02d}").find_json("end.json")
        return end

    def sessions(self, attempt: int) -> list[int]:
        """The steps that each start of the workers went on from."""
        return sessions(self.run, attempt)

    def assert_the_ledger_adds_up(self) -> None:
        """What an attempt that ended has counted is the time by the clock, of each device."""
        for number in attempt_numbers(self.run):
            attempt = attempt_folder(self.run, number)
            end, cost = self.end_of(number), attempt.find_json("cost.json")
            if end is None or cost is None:
                continue  # it was killed: its time is told by its last sign of life
            wall_s = end["seconds"] + cost["start_up_parts"].get("connect", 0.0)
            held = sum(cost["device_seconds"].values())
            assert math.isclose(held, cost["devices"] * wall_s, rel_tol=0.02), (cost, wall_s)

    def assert_nothing_torn(self) -> None:
        """Every checkpoint that has a manifest has a good one, and its files."""
        checkpoints = self.run / "checkpoints"
        claimed = [name for name in checkpoints.names() if (checkpoints / name).exists("manifest.json")]
        assert complete_names(checkpoints) == claimed


def sessions(run: Folder, attempt: int) -> list[int]:
    """The steps that each start of an attempt's workers went on from."""
    parts = run / f"attempts/{attempt:02d}/metrics"
    lines = [json.loads(line) for name in parts.names() for line in parts.read_text(name).splitlines()]
    return [line["session"]["resumed_at"] for line in lines if "session" in line]


def timeless_rows(run: Folder) -> list[dict[str, Any]]:
    """The rows of a run without what depends on the clock."""
    return [{key: value for key, value in row.items() if not key.endswith("_s")} for row in read_metrics(run)]


def assert_same_losses(
    found: list[dict[str, Any]],
    due: list[dict[str, Any]],
    *,
    within: float,
    num_steps: int = NUM_STEPS,
    global_batch: int = 4,
) -> None:
    """Every step is told of once, has used its rows, and has the loss that it has in an undisturbed run."""
    steps = [row for row in found if "loss" in row]
    assert [row["step"] for row in steps] == list(range(1, num_steps + 1))
    assert [row["rows_consumed"] for row in steps] == [global_batch * step for step in range(1, num_steps + 1)]
    pairs = list(zip(steps, [row for row in due if "loss" in row], strict=True))
    furthest = max(abs(one["loss"] / other["loss"] - 1) for one, other in pairs)
    print(f"{len(pairs)} steps, furthest apart {furthest:.1e}", file=sys.stderr)
    assert all(math.isclose(one["loss"], other["loss"], rel_tol=within) for one, other in pairs), furthest
