"""Real kills: a process dies right after the n-th thing that its saving does to the disk, for each n; another goes on.

Each is a fork of a process that has imported everything, so that a kill costs a second and not ten.
"""

import os
import signal
import threading
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

from llmcore.records import newest_result, read_metrics, step_of
from llmcore.storage import Folder, read_manifest
from llmcore.train.kept import complete_names
from tests.ranks import enter_rank, free_port, in_nursery
from tests.tiny_run import fit_tiny, write_tokenizer

NUM_STEPS = 6
SAVES = {"num_steps": NUM_STEPS, "checkpoint_every": 2, "validate_every": 3, "keep_checkpoints": 1}
"""One checkpoint is kept, so that each that is complete has the one before deleted."""
_CHANGES = ("mkdir", "replace", "remove", "unlink", "rmdir")
"""Functions of `os`: a file is written beside and takes its name by `replace`."""


class Death(NamedTuple):
    """How a process that was to die ended, and which checkpoints were complete then."""

    code: int
    complete: list[str]


def _die_after(changes: int) -> None:
    """Has this process killed when its thread that saves has done so many things to the disk."""
    done = count(1)

    def deadly(change: Callable[..., Any]) -> Callable[..., Any]:
        def change_and_die(*args: Any, **kwargs: Any) -> Any:
            changed = change(*args, **kwargs)
            if threading.current_thread().name == "checkpoint" and next(done) == changes:
                os.kill(os.getpid(), signal.SIGKILL)
            return changed

        return change_and_die

    for name in _CHANGES:
        setattr(os, name, deadly(getattr(os, name)))


def _train(storage: str, tokenizer: str, changes: int | None) -> None:
    if changes is not None:
        _die_after(changes)
    fit_tiny(Folder(storage), Path(tokenizer), **SAVES)


def _in_a_fork(storage: str, tokenizer: str, changes: int | None) -> int:
    """Trains in a process of its own; its exit code."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    code = 1
    try:
        enter_rank(0, 1, free_port(), _train, (storage, tokenizer, changes), storage)
        code = 0
    finally:
        os._exit(code)  # what this process would do at its end is for the one that it was forked from


def _kill_after_each(root: str, tokenizer: str) -> list[Death]:
    """Kills after the first change of a run in `root/1`, after the second in `root/2`, …, and goes on with each.

    The last one is not killed: there were fewer changes.
    """
    deaths = []
    for number in count(1):
        storage = f"{root}/{number}"
        Path(storage).mkdir(parents=True)
        code = _in_a_fork(storage, tokenizer, number)
        deaths.append(Death(code, complete_names(Folder(storage) / "tiny/checkpoints")))
        if code == 0:
            break
        assert _in_a_fork(storage, tokenizer, None) == 0, f"killed after change {number}, and then"
    return deaths


def _what_came_of_it(storage: Path) -> dict[str, Any]:
    """What must be the same however often a run was killed."""
    run = Folder(str(storage)) / "tiny"
    model = read_manifest(run / "model")
    assert model is not None
    return {
        "losses": [(row["step"], row["loss"]) for row in read_metrics(run) if "loss" in row],
        "validation": [(row["step"], row["validation_loss"]) for row in read_metrics(run) if "validation_loss" in row],
        "weights": model.files["model.safetensors"],
        "checkpoints": [step_of(name) for name in (run / "checkpoints").names()],
    }


def test_a_kill_after_each_file_that_saving_writes_or_deletes_costs_no_step_and_no_bit(tmp_path: Path) -> None:
    tokenizer = write_tokenizer(tmp_path / "tokenizer")
    deaths = in_nursery(_kill_after_each, str(tmp_path), str(tokenizer))
    assert [death.code for death in deaths] == [-signal.SIGKILL] * (len(deaths) - 1) + [0]
    undisturbed = _what_came_of_it(tmp_path / str(len(deaths)))
    assert [step for step, _ in undisturbed["losses"]] == list(range(1, NUM_STEPS + 1))
    assert undisturbed["checkpoints"] == [NUM_STEPS]
    reached = []
    for number, death in enumerate(deaths[:-1], start=1):
        storage = tmp_path / str(number)
        assert _what_came_of_it(storage) == undisturbed, f"killed after change {number}"
        result = newest_result(Folder(str(storage)) / "tiny")
        assert result is not None
        reached.append(max(map(step_of, death.complete), default=0))
        assert result["resumed_at"] == reached[-1]
    print(f"{len(reached)} kills, each gone on from step", *reached)
    assert reached == sorted(reached) and set(reached) == {0, 2, 4, 6}
