"""Whatever a kill, a disk or somebody does to a run's files: it goes on from the newest good checkpoint."""

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llmcore.errors import CheckpointError, InterruptedRunError
from llmcore.records import Writer, step_of
from llmcore.storage import Folder, read_manifest
from llmcore.train.inspection import list_checkpoints
from llmcore.train.kept import complete_names, newest_checkpoint
from tests.ranks import run_ranks
from tests.tiny_run import TinyRecipe, fit_tiny, write_tokenizer

Files = dict[str, bytes]
NUM_STEPS = 9
"""Checkpoints at 2, 4, 6, 8 and 9; two are kept."""


def _files(folder: Path) -> Files:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@contextmanager
def _recorded(checkpoints: Path, states: list[Files]) -> Iterator[None]:
    """Notes what is in the folder after each file that is written into it, and each deletion."""
    write_bytes, delete, opened = Folder.write_bytes, Folder.delete, Folder.open

    def note(folder: Folder) -> None:
        if str(checkpoints) in folder.url and (not states or _files(checkpoints) != states[-1]):
            states.append(_files(checkpoints))

    def noted_write(folder: Folder, name: str, data: bytes) -> None:
        write_bytes(folder, name, data)
        note(folder)

    def noted_delete(folder: Folder, name: str = "") -> None:
        delete(folder, name)
        note(folder)

    @contextmanager
    def noted_open(folder: Folder, name: str, mode: Any = "rb") -> Iterator[Any]:
        with opened(folder, name, mode) as file:
            yield file
        note(folder)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Folder, "write_bytes", noted_write)
        patch.setattr(Folder, "delete", noted_delete)
        patch.setattr(Folder, "open", noted_open)
        yield


def _train(storage: str, tokenizer: str) -> dict[str, Any]:
    states: list[Files] = []
    with _recorded(Path(storage, "tiny/checkpoints"), states):
        outcome = fit_tiny(Folder(storage), Path(tokenizer), num_steps=NUM_STEPS)
    return outcome | {"states": states}


def _go_on(storage: str, tokenizer: str) -> dict[str, Any]:
    return fit_tiny(Folder(storage), Path(tokenizer), num_steps=NUM_STEPS)


@dataclass(frozen=True)
class Run:
    """A run that went to its end: its storage, what was in its folder of checkpoints at each moment, and its losses."""

    storage: Path
    states: list[Files]
    tokenizer: Path
    outcome: dict[str, Any]

    @property
    def good(self) -> Files:
        """Every file that was ever written."""
        return {name: data for state in self.states for name, data in state.items()}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    root = tmp_path_factory.mktemp("run")
    tokenizer = write_tokenizer(root / "tokenizer")
    [outcome] = run_ranks(1, _train, str(root / "runs"), str(tokenizer), out=root / "out")
    return Run(root / "runs", outcome.pop("states"), tokenizer, outcome)


def _put(files: Files, folder: Path) -> Folder:
    shutil.rmtree(folder, ignore_errors=True)
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return Folder(str(folder))


def _steps_with_manifest(files: Files) -> list[int]:
    return sorted(step_of(name.partition("/")[0]) for name in files if name.endswith("/manifest.json"))


def _is_what_was_written(found: tuple[Folder, Any], good: Files) -> bool:
    """Reads every tensor as a run that goes on does, and compares it with the one in the file that was written."""
    from safetensors.torch import load

    from llmcore.train.fragment_reader import FragmentReader, rank_file
    from llmcore.train.resident import Fragment

    folder, manifest = found
    written = load(good[f"{folder.name}/{rank_file(0)}"])
    with FragmentReader(folder, manifest) as reader:
        for name, shape in reader.shapes.items():
            keys = [key.partition("|")[2] for key in written if key.startswith(f"{name}|")]
            assert "exp_avg_sq" in keys
            state = {key: torch.empty(written[f"{name}|{key}"].numel()) for key in keys}
            reader.read([Fragment.whole(name, shape, state)])
            if any(not torch.equal(state[key], written[f"{name}|{key}"]) for key in keys):
                return False
    return True


def test_after_each_file_that_is_written_or_deleted_a_kill_loses_nothing_that_was_complete(
    run: Run, tmp_path: Path
) -> None:
    assert len(run.states) >= 15  # five checkpoints of two files, and three that were deleted
    steps = []
    for state in run.states:
        resumption = newest_checkpoint(_put(state, tmp_path / "checkpoints"), [], Writer(1))
        steps.append(resumption.step)
        complete = _steps_with_manifest(state)
        assert resumption.step == max(complete, default=0)
        newer = {name.partition("/")[0] for name in state if step_of(name.partition("/")[0]) > resumption.step}
        assert resumption.passed_over.keys() == newer
        if resumption.checkpoint is not None:
            assert _is_what_was_written(resumption.checkpoint, run.good)
    assert steps == sorted(steps)
    assert sorted(set(steps)) == [0, 2, 4, 6, 8, 9]
    assert _steps_with_manifest(run.states[-1]) == [8, 9]


FAULTS = st.tuples(
    st.integers(0, 2**16),
    st.sampled_from(["flip", "truncate", "remove", "lengthen"]),
    st.floats(0, 1, exclude_max=True),
)


@settings(max_examples=200)
@given(moment=st.integers(0, 2**16), faults=st.lists(FAULTS, min_size=1, max_size=3))
def test_whatever_file_is_flipped_cut_or_removed_the_newest_good_one_is_found(
    run: Run, tmp_path_factory: pytest.TempPathFactory, moment: int, faults: list[tuple[int, str, float]]
) -> None:
    # Every checkpoint that ever was, up to some moment, so that there are several.
    files: Files = {}
    for state in run.states[: 1 + moment % len(run.states)]:
        files |= state
    names, touched = sorted(files), set()
    for which, kind, where in faults:
        name = names[which % len(names)]
        data = files.get(name)
        if not data:
            continue
        place = int(where * len(data))
        if kind == "flip":
            files[name] = data[:place] + bytes([data[place] ^ 0x10]) + data[place + 1 :]
        elif kind == "truncate":
            files[name] = data[:place]
        elif kind == "lengthen":
            files[name] = data + b"\0"
        else:
            del files[name]
    touched = {name.partition("/")[0] for name in names if files.get(name) != run.good[name]}
    checkpoints = _put(files, tmp_path_factory.mktemp("torn") / "checkpoints")
    complete = {name.partition("/")[0] for name in run.good if f"{name.partition('/')[0]}/manifest.json" in names}
    good = sorted(complete - touched)
    resumption = newest_checkpoint(checkpoints, [], Writer(1))
    assert resumption.step == (step_of(good[-1]) if good else 0)
    for name in touched & set(checkpoints.names()):
        assert (name in resumption.passed_over) == (step_of(name) > resumption.step)
    if resumption.checkpoint is not None:
        assert _is_what_was_written(resumption.checkpoint, run.good)
    told = {one.name: one.status for one in list_checkpoints(Folder(checkpoints.url.rpartition("/")[0]), verify=True)}
    assert {name for name, status in told.items() if status == "good"} == set(good)


def test_a_run_whose_newest_checkpoint_is_damaged_goes_on_from_the_one_before_and_says_so(
    run: Run, tmp_path: Path
) -> None:
    shutil.copytree(run.storage, tmp_path / "runs")
    checkpoints = tmp_path / "runs/tiny/checkpoints"
    damaged = checkpoints / "step-00000009-attempt-01/rank-0000.safetensors"
    data = bytearray(damaged.read_bytes())
    data[-7000] ^= 1
    damaged.write_bytes(data)
    (checkpoints / "step-00000011-attempt-01").mkdir()
    (checkpoints / "step-00000011-attempt-01/rank-0000.safetensors").write_bytes(b"half")
    [outcome] = run_ranks(1, _go_on, str(tmp_path / "runs"), str(run.tokenizer), out=tmp_path / "out")
    assert outcome["resumed_at"] == 8
    assert outcome["train_loss"] == run.outcome["train_loss"]
    told = outcome["passed_over_checkpoints"]
    assert len(told) == 2
    assert "step-00000011-attempt-01 is incomplete" in told[0]
    assert "step-00000009-attempt-01/rank-0000.safetensors is not what its manifest says" in told[1]
    # What the dead attempt left is collected, now that there is a newer good one.
    assert sorted(path.name for path in checkpoints.iterdir()) == [
        "step-00000008-attempt-01",
        "step-00000009-attempt-02",
    ]


def _read_wrongly(storage: str, tokenizer: str) -> str:
    from llmcore.train.tensor_files import TensorReader

    read = TensorReader.read

    def read_wrongly(reader: TensorReader, wanted: Any) -> None:
        wanted = list(wanted)
        read(reader, wanted)
        for one in wanted:
            if one.tensor.endswith("wte.weight|weight"):
                one.target[:200] += 0.5

    TensorReader.read = read_wrongly  # type: ignore[method-assign]
    try:
        fit_tiny(Folder(storage), Path(tokenizer), num_steps=NUM_STEPS)
    except CheckpointError as error:
        return str(error)
    return "it went on"


def test_what_was_loaded_wrongly_is_refused_by_its_loss(run: Run, tmp_path: Path) -> None:
    """The hashes are right, and what becomes of the bytes is not."""
    shutil.copytree(run.storage, tmp_path / "runs")
    [told] = run_ranks(1, _read_wrongly, str(tmp_path / "runs"), str(run.tokenizer), out=tmp_path / "out")
    manifest = read_manifest(Folder(f"{run.storage}/tiny/checkpoints/step-00000009-attempt-01"))
    assert manifest is not None
    assert f"was {manifest.about['probe_loss']:.6f} when it was written, and is " in told
    assert "what was loaded is not what was saved" in told


def test_a_manifest_says_where_the_run_stood_and_what_trained_it(run: Run) -> None:
    manifest = read_manifest(Folder(f"{run.storage}/tiny/checkpoints/step-00000008-attempt-01"))
    assert manifest is not None
    about = manifest.about
    assert (about["progress"]["step"], about["rows_consumed"]) == (8, 40)
    assert (about["world_size"], about["zero_stage"], about["precision"]) == (1, 2, "fp32")
    assert about["versions"].keys() >= {"python", "torch", "deepspeed", "llmcore"}
    assert about["run"] == Folder(f"{run.storage}/tiny").read_json("run.json")["fingerprint"]
    assert about["metrics"].keys() == {"validation_loss"}
    assert run.outcome["ledger"]["seconds"]["checkpoint"] > 0


class _Tuned(TinyRecipe):
    """As a trial: whoever hears of a report may end the run, and let it go on later."""

    exports_every_time = True


class _Interrupted(TinyRecipe):
    """Asked to stop while the checkpoint of step 4 is being written."""

    def step_batches(self, first_step: int) -> Iterator[Any]:
        for step, batches in enumerate(super().step_batches(first_step)):
            if step == 4:
                raise InterruptedRunError("a signal")
            yield batches


def _wait_for_it(root: str, tokenizer: str) -> tuple[list[int], list[str]]:
    from llmcore.train.snapshot import Snapshot

    write, reported = Snapshot.write, []

    def write_slowly(snapshot: Snapshot, folder: Folder, name: str) -> Any:
        time.sleep(0.5)
        return write(snapshot, folder, name)

    def report(row: dict[str, Any]) -> None:
        checkpoints = Folder(f"{root}/tuned/tiny/checkpoints")
        if read_manifest(checkpoints / f"step-{row['step']:08d}-attempt-01") is not None:
            reported.append(row["step"])

    Snapshot.write = write_slowly  # type: ignore[method-assign]
    fit_tiny(Folder(f"{root}/tuned"), Path(tokenizer), num_steps=9, recipe=_Tuned, report=report)
    with pytest.raises(InterruptedRunError):
        fit_tiny(Folder(f"{root}/interrupted"), Path(tokenizer), num_steps=9, recipe=_Interrupted)
    return reported, complete_names(Folder(f"{root}/interrupted/tiny/checkpoints"))


def test_a_report_to_a_search_and_an_interruption_wait_for_the_checkpoint_in_flight(run: Run, tmp_path: Path) -> None:
    [(reported, complete)] = run_ranks(1, _wait_for_it, str(tmp_path), str(run.tokenizer), out=tmp_path / "out")
    assert reported == [4, 8, 9]
    assert complete == ["step-00000002-attempt-01", "step-00000004-attempt-01"]
