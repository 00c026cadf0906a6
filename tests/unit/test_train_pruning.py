"""What is kept of a run's checkpoints and exports, whatever older attempts left."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmcore.config.train import TrainSettings
from llmcore.errors import RunHeldError
from llmcore.records import checkpoint_name
from llmcore.storage import Folder, write_file, write_manifest
from llmcore.train.place import Place
from llmcore.train.pruning import prune


def _lower(metrics: dict[str, float], best: float | None) -> float | None:
    loss = metrics["validation_loss"]
    return loss if best is None or loss < best else None


def _keep(**kept: Any) -> TrainSettings:
    return TrainSettings.model_validate({"num_steps": 100, **kept})


def _checkpoint(
    run: Path,
    step: int,
    attempt: int = 1,
    session: int = 1,
    *,
    loss: float | None = None,
    complete: bool = True,
    exports: str | None = None,
) -> str:
    name = checkpoint_name(step, attempt, session)
    folder = Folder(str(run / "checkpoints" / name))
    entry = write_file(folder, "rank-0000.safetensors", b"state")
    if complete:
        progress = {"step": step, "best_export": exports, "newest_export": exports}
        metrics = {} if loss is None else {"validation_loss": loss}
        write_manifest(folder, "checkpoint", [entry], {"progress": progress, "metrics": metrics})
    return name


def _export(run: Path, step: int, attempt: int = 1, session: int = 1) -> str:
    name = checkpoint_name(step, attempt, session)
    folder = Folder(str(run / "exports" / name))
    write_manifest(folder, "model", [write_file(folder, "model.safetensors", b"weights")], {})
    return name


def _left(run: Path, kind: str = "checkpoints") -> list[str]:
    return sorted(path.name for path in (run / kind).iterdir())


def test_the_newest_are_kept_and_each_nth_and_the_best(tmp_path: Path) -> None:
    losses = {10: 5.0, 20: 3.0, 30: None, 40: 4.0, 50: 3.5, 60: None}
    names = {step: _checkpoint(tmp_path, step, loss=loss) for step, loss in losses.items()}
    place = Place(Folder(str(tmp_path)), 1)
    prune(place, names[60], (), _keep(keep_checkpoints=1, keep_best=True, keep_every=30), _lower)
    assert _left(tmp_path) == [names[step] for step in (20, 30, 60)]
    prune(place, names[60], (), _keep(keep_checkpoints=2), _lower)
    assert _left(tmp_path) == [names[step] for step in (30, 60)]


def test_what_dead_attempts_left_is_collected_and_what_a_later_one_has_is_not_touched(tmp_path: Path) -> None:
    accepted = [_checkpoint(tmp_path, step, attempt=1) for step in (10, 20)]
    damaged = _checkpoint(tmp_path, 40, attempt=1)
    _checkpoint(tmp_path, 50, attempt=1, complete=False)
    own = _checkpoint(tmp_path, 30, attempt=2)
    later = _checkpoint(tmp_path, 25, attempt=3, complete=False)
    place = Place(Folder(str(tmp_path)), 2, (*accepted, damaged))
    # The damaged one, newer than all others, does not count among the two that are kept.
    prune(place, own, {damaged}, _keep(keep_checkpoints=2), _lower)
    assert _left(tmp_path) == [accepted[1], later, own]


def test_exports_that_a_kept_checkpoint_names_are_kept(tmp_path: Path) -> None:
    exports = [_export(tmp_path, step) for step in (10, 20, 30, 40)]
    dead = _export(tmp_path, 99)
    own = [_export(tmp_path, step, attempt=2) for step in (50, 60, 70)]
    accepted = [_checkpoint(tmp_path, 40, exports=exports[1])]
    newest = _checkpoint(tmp_path, 50, attempt=2, exports=own[0])
    prune(Place(Folder(str(tmp_path)), 2, tuple(accepted)), newest, (), _keep(keep_checkpoints=2), _lower)
    # Of this attempt, those that were made while the checkpoint was written are not its to judge.
    assert _left(tmp_path, "exports") == sorted([exports[1], *own])
    assert dead not in _left(tmp_path, "exports")


@settings(max_examples=100, deadline=None)
@given(
    older=st.lists(
        st.tuples(st.integers(1, 40), st.booleans(), st.booleans()), max_size=8, unique_by=lambda one: one[0]
    ),
    own=st.lists(st.integers(41, 80), min_size=1, max_size=6, unique=True),
    last=st.integers(1, 4),
    every=st.none() | st.integers(1, 9),
    best=st.booleans(),
)
def test_the_newest_good_one_is_never_deleted(
    tmp_path_factory: pytest.TempPathFactory,
    older: list[tuple[int, bool, bool]],
    own: list[int],
    last: int,
    every: int | None,
    best: bool,
) -> None:
    run = tmp_path_factory.mktemp("run")
    names = {_checkpoint(run, step, complete=complete): (complete, damaged) for step, complete, damaged in older}
    mine = [_checkpoint(run, step, attempt=2, loss=float(step % 7)) for step in sorted(own)]
    accepted = tuple(name for name, (complete, _) in names.items() if complete)
    void = {name for name in accepted if names[name][1]}
    kept = _keep(keep_checkpoints=last, keep_every=every, keep_best=best)
    prune(Place(Folder(str(run)), 2, accepted), mine[-1], void, kept, _lower)
    line = sorted([name for name in accepted if name not in void] + mine)
    assert set(line[-last:]) <= set(_left(run)) <= set(line)


def test_an_attempt_that_was_overtaken_deletes_nothing(tmp_path: Path) -> None:
    names = [_checkpoint(tmp_path, step) for step in (10, 20, 30)]
    run = Folder(str(tmp_path))
    run.write_json("attempts/02/begin.json", {})
    with pytest.raises(RunHeldError, match="attempt 2 has begun"):
        prune(Place(run, 1, (), run), names[-1], (), _keep(keep_checkpoints=1), _lower)
    assert _left(tmp_path) == names


def test_what_replaced_workers_left_is_collected_and_what_later_ones_have_is_not_touched(tmp_path: Path) -> None:
    accepted = _checkpoint(tmp_path, 40)
    _checkpoint(tmp_path, 60, complete=False)
    newest = _checkpoint(tmp_path, 50, session=2)
    later = _checkpoint(tmp_path, 45, session=3, complete=False)
    exports = [_export(tmp_path, 40), _export(tmp_path, 50, session=2)]
    stale = [_export(tmp_path, 50), _export(tmp_path, 60)]
    further = _export(tmp_path, 45, session=3)
    prune(Place(Folder(str(tmp_path)), 1, (accepted,), session=2), newest, (), _keep(keep_checkpoints=1), _lower)
    assert _left(tmp_path) == [later, newest]
    assert _left(tmp_path, "exports") == sorted([*exports, further]), f"none of {stale}"


def test_a_checkpoint_that_was_taken_over_goes_as_others_do(tmp_path: Path) -> None:
    taken_over = _checkpoint(tmp_path, 20, session=4)
    own = _checkpoint(tmp_path, 30)
    prune(Place(Folder(str(tmp_path)), 1, (taken_over,)), own, (), _keep(keep_checkpoints=1), _lower)
    assert _left(tmp_path) == [own]
