"""Which checkpoints and exports are deleted, once a newer one is complete. Needs no torch."""

from collections.abc import Callable, Collection, Mapping

from llmcore.config.train import TrainSettings
from llmcore.records import attempt_of, step_of, writer_of
from llmcore.storage import MANIFEST, Folder, Manifest, read_manifest
from llmcore.train.place import Place

__all__ = ["Better", "prune"]

_NUM_EXPORTS = 2
"""The newest exports that are kept: one may have been told of while the next is already written."""

Better = Callable[[dict[str, float], float | None], float | None]
"""The metric that chooses, of a validation's metrics, where it is better than the best so far; else None."""


def prune(place: Place, newest: str, void: Collection[str], settings: TrainSettings, better: Better) -> None:
    """Deletes what need not be kept, now that `newest` is complete: this start's, and what older ones left.

    Kept are of the complete checkpoints that the run descends from (none of `void`, which it passed over) those that
    the settings say, and the exports that these name; what is newer is being written. What a later start wrote is
    not touched, and nothing is once there is one. Raises StorageError, RunHeldError.
    """
    place.check_newest()
    names = place.checkpoints.names()  # once: what appears later is not judged
    line = {
        name: manifest
        for name in names
        if name not in void and (name in place.accepted or writer_of(name) == place.writer)
        if (manifest := read_manifest(place.checkpoints / name)) is not None
    }
    kept = {name: line[name] for name in _kept(line, settings, better)}
    assert newest in kept, newest
    for name in names:
        if name not in kept and (name in place.accepted or writer_of(name) <= place.writer):
            _delete(place.checkpoints, name)
    # Exports go after the checkpoints that name them: a kill in between leaves one too many, not few.
    named = {manifest.about["progress"][key] for manifest in kept.values() for key in ("best_export", "newest_export")}
    exports = [name for name in place.exports.names() if writer_of(name) <= place.writer]
    # Of a step that was taken again, the last one; older workers' later steps have not been taken.
    by_step = {step_of(name): name for name in exports if attempt_of(name) == place.attempt}
    own = [name for step, name in by_step.items() if step <= step_of(newest) or writer_of(name) == place.writer]
    if told := _told_of(place):
        named.add(told)
    needed = named | set(own[-_NUM_EXPORTS:]) | {name for name in own if step_of(name) > step_of(newest)}
    for name in exports:
        if name not in needed:
            _delete(place.exports, name)


def _told_of(place: Place) -> str | None:
    """The export that the record of a trial names: one that was stopped may train on for a moment."""
    trial = Folder(place.run.url.partition("/lives/")[0])
    model = (trial.find_json("trial.json") or {}).get("model") or ""
    folder, _, name = model.rpartition("/exports/")
    return name if folder and place.run.url.endswith(folder) else None


def _kept(line: Mapping[str, Manifest], settings: TrainSettings, better: Better) -> set[str]:
    names = sorted(line)
    kept = set(names[-settings.keep_checkpoints :])
    if settings.keep_every is not None:
        kept |= {name for name in names if step_of(name) % settings.keep_every == 0}
    if settings.keep_best:
        best, best_name = None, None
        for name in names:
            metrics = line[name].about.get("metrics")
            value = better(metrics, best) if metrics else None
            if value is not None:
                best, best_name = value, name
        kept |= {best_name} if best_name else set()
    return kept


def _delete(folders: Folder, name: str) -> None:
    folders.delete(f"{name}/{MANIFEST}")  # absent from the first moment on
    folders.delete(name)
