"""How a run's checkpoints stand: for people and programs that look from outside. Needs no torch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from llmcore.errors import CheckpointError, ConfigError
from llmcore.records import in_line, step_of, writer_of
from llmcore.storage import MANIFEST, Folder, Manifest, read_manifest, verify_files
from llmcore.train.kept import complete_names

__all__ = ["CheckpointStatus", "choose_checkpoint", "list_checkpoints"]

Status = Literal["good", "complete", "incomplete", "damaged"]


@dataclass(frozen=True)
class CheckpointStatus:
    """A checkpoint as it stands; what only its manifest knows is None where that is not good.

    `session` is the start of the attempt's workers that wrote it. `complete` has all its files; `good` is one whose
    every byte was verified. `reason` tells what is wrong, and where.
    """

    name: str
    step: int
    attempt: int
    session: int
    status: Status
    reason: str | None
    world_size: int | None = None
    zero_stage: int | None = None
    precision: str | None = None
    num_bytes: int | None = None
    loss: float | None = None


def list_checkpoints(run: Folder, *, verify: bool) -> list[CheckpointStatus]:
    """The checkpoints of a run, oldest first; with `verify`, every byte is read. Raises StorageError."""
    checkpoints = run / "checkpoints"
    return [_status(checkpoints / name, verify) for name in checkpoints.names()]


def _status(folder: Folder, verify: bool) -> CheckpointStatus:
    name, manifest = folder.name, read_manifest(folder)
    if manifest is None:
        if folder.find_bytes(MANIFEST) is None:
            return CheckpointStatus(name, step_of(name), *writer_of(name), "incomplete", f"it has no {MANIFEST}")
        return CheckpointStatus(name, step_of(name), *writer_of(name), "damaged", f"{MANIFEST} is damaged")
    reason = _fault(folder, manifest, verify)
    about: dict[str, Any] = manifest.about
    return CheckpointStatus(
        name=name,
        step=step_of(name),
        **writer_of(name)._asdict(),
        status="damaged" if reason else "good" if verify else "complete",
        reason=reason,
        world_size=about["world_size"],
        zero_stage=about["zero_stage"],
        precision=about["precision"],
        num_bytes=sum(entry.size for entry in manifest.files.values()),
        loss=about["progress"]["last_loss"],
    )


def _fault(folder: Folder, manifest: Manifest, verify: bool) -> str | None:
    if missing := sorted(set(manifest.files) - set(folder.walk())):
        return f"{', '.join(missing)} missing"
    try:
        if verify:
            verify_files(folder, manifest)
    except CheckpointError as error:
        return str(error)
    return None


def choose_checkpoint(run: Folder, step: int | None) -> tuple[Folder, Manifest]:
    """The newest good checkpoint of a run, of that step if one is given; every byte of it is verified.

    Raises ConfigError where there is none to choose, CheckpointError where what there is is damaged.
    """
    checkpoints = run / "checkpoints"
    complete = in_line(run, complete_names(checkpoints))
    chosen = [name for name in complete if step is None or step_of(name) == step]
    if not chosen:
        raise ConfigError(f"{run.url} has no complete checkpoint{_hint(step, complete)}")
    faults = []
    for name in reversed(chosen):
        manifest = read_manifest(checkpoints / name)
        fault = "it is gone" if manifest is None else _fault(checkpoints / name, manifest, verify=True)
        if manifest is not None and fault is None:
            return checkpoints / name, manifest
        faults.append(f"{name}: {fault}")
    raise CheckpointError(f"{run.url} has no good checkpoint to export: {'; '.join(faults)}")


def _hint(step: int | None, complete: Sequence[str]) -> str:
    if step is None:
        return ": train it first, with train.checkpoint_every"
    return f" of step {step}: give one of {', '.join(str(step_of(name)) for name in complete) or 'none'}"
