"""Which checkpoints and exports a run keeps on its storage. Needs no torch."""

from collections.abc import Sequence

from llmcore.errors import CheckpointError
from llmcore.storage import MANIFEST, Folder, Manifest, publish, read_manifest, verify_files

__all__ = ["MODEL", "complete_names", "newest_checkpoint", "prune_checkpoints", "prune_exports", "publish_model"]

MODEL = "model"
"""Kind of a published model folder."""
_NUM_EXPORTS = 2
"""The newest exports that are kept: one may have been told of while the next is already written."""


def complete_names(folders: Folder) -> list[str]:
    """Names of the checkpoints or exports that have a good manifest, oldest first."""
    return [name for name in folders.names() if read_manifest(folders / name) is not None]


def newest_checkpoint(
    checkpoints: Folder, accepted: Sequence[str], attempt: int
) -> tuple[Folder, Manifest, list[str]] | None:
    """The newest good checkpoint among the accepted ones of older attempts and this attempt's own.

    Every byte is verified. Returns its folder, its manifest, and what was passed over for being damaged (incomplete
    ones are absent, and not mentioned); None when there is none.
    """
    own = [name for name in checkpoints.names() if name.endswith(f"-attempt-{attempt:02d}")]
    damaged: list[str] = []
    for name in sorted({*accepted, *own}, reverse=True):
        manifest = read_manifest(checkpoints / name)
        if manifest is None:
            continue
        try:
            verify_files(checkpoints / name, manifest)
        except CheckpointError as error:
            damaged.append(str(error))
            continue
        return checkpoints / name, manifest, damaged
    return None


def prune_checkpoints(checkpoints: Folder, keep: int) -> None:
    """Deletes all but the newest complete ones. Incomplete ones newer than those may still be being written: kept."""
    complete = complete_names(checkpoints)
    kept = complete[-keep:]
    for name in checkpoints.names():
        if kept and name < kept[0]:
            _delete(checkpoints, name)


def prune_exports(exports: Folder, best: str | None) -> None:
    """Deletes all but the best and the newest two."""
    names = exports.names()
    for name in names:
        if name != best and name not in names[-_NUM_EXPORTS:]:
            _delete(exports, name)


def _delete(folders: Folder, name: str) -> None:
    folders.delete(f"{name}/{MANIFEST}")  # absent from the first moment on
    folders.delete(name)


def publish_model(source: Folder, target: Folder) -> str:
    """Copies a published model folder to its lasting place; returns the hash of its manifest."""
    manifest = read_manifest(source)
    assert manifest is not None, source.url
    there = read_manifest(target)
    if there is None or there.files != manifest.files:
        with publish(target, MODEL, manifest.about) as publication, publication.staging() as staged:
            for name in manifest.files:
                (staged / name).write_bytes(source.read_bytes(name))
        there = read_manifest(target)
    assert there is not None, target.url
    return there.sha256
