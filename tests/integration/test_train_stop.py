"""A run that is asked to stop saves the step that it is in, on all ranks, and goes on from it."""

import os
import threading
import time
from pathlib import Path
from typing import Any

from llmcore.records import ask_to_stop, attempt_folder, read_metrics
from llmcore.storage import Folder
from tests.ranks import run_ranks
from tests.tiny_run import fit_tiny, write_tokenizer

NUM_STEPS = 40
WORLD_SIZE = 2
SELDOM = {"num_steps": NUM_STEPS, "checkpoint_every": None, "validate_every": None}


def _told(run: Folder) -> list[tuple[int, float]]:
    return [(row["step"], row["loss"]) for row in read_metrics(run) if "loss" in row]


def _ask_once_begun(attempt: Folder) -> None:
    while not attempt.exists("begin.json"):
        time.sleep(0.02)
    ask_to_stop(attempt, "a test")


def _train(storage: str, tokenizer: str, asked_by: int | None) -> dict[str, Any]:
    folder = Folder(storage)
    if asked_by == int(os.environ["RANK"]):  # whoever asks: rank 0 hears of it, and all are told
        threading.Thread(target=_ask_once_begun, args=(attempt_folder(folder / "tiny", 1),), daemon=True).start()
    return fit_tiny(folder, Path(tokenizer), step_s=0.05 if asked_by is not None else 0.0, **SELDOM)


def test_all_ranks_stop_at_one_step_and_nothing_is_done_again(tmp_path: Path) -> None:
    tokenizer, stopped, whole = write_tokenizer(tmp_path / "tokenizer"), tmp_path / "stopped", tmp_path / "whole"

    def train(storage: Path, asked_by: int | None) -> list[dict[str, Any]]:
        return run_ranks(WORLD_SIZE, _train, str(storage), str(tokenizer), asked_by, out=tmp_path / "out")

    outcomes = train(stopped, WORLD_SIZE - 1)
    step = outcomes[0]["num_steps"]
    assert 0 < step < NUM_STEPS
    assert [(one["stopped"], one["num_steps"]) for one in outcomes] == [(True, step)] * WORLD_SIZE
    assert [name.split("-")[1] for name in (Folder(str(stopped)) / "tiny/checkpoints").names()] == [f"{step:08d}"]
    gone_on, undisturbed = train(stopped, None), train(whole, None)
    assert {one["resumed_at"] for one in gone_on} == {step}
    assert not any(one["stopped"] for one in [*gone_on, *undisturbed])
    told = _told(Folder(str(stopped)) / "tiny")
    assert [step for step, _ in told] == list(range(1, NUM_STEPS + 1))
    assert told == _told(Folder(str(whole)) / "tiny")
