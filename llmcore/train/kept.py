"""Which checkpoints and exports of a run are there, and good. Needs no torch."""

from collections.abc import Sequence
from dataclasses import dataclass

from llmcore.errors import CheckpointError
from llmcore.records import Writer, writer_of
from llmcore.storage import Folder, Manifest, publish, read_manifest, verify_files, write_file
from llmcore.storage.content import chunks

__all__ = ["MODEL", "Resumption", "complete_names", "copy_published", "newest_checkpoint", "publish_model"]

MODEL = "model"
"""Kind of a published model folder."""


def complete_names(folders: Folder) -> list[str]:
    """Names of the checkpoints or exports that have a good manifest, oldest first."""
    return [name for name in folders.names() if read_manifest(folders / name) is not None]


@dataclass(frozen=True)
class Resumption:
    """Where a run goes on.

    Attributes:
        checkpoint: The newest good one, and its manifest; None where there is none, and the run begins anew.
        passed_over: Of each newer one, by its name, why it is not it.
    """

    checkpoint: tuple[Folder, Manifest] | None
    passed_over: dict[str, str]

    @property
    def step(self) -> int:
        """The step that training goes on after."""
        return 0 if self.checkpoint is None else int(self.checkpoint[1].about["progress"]["step"])


def newest_checkpoint(checkpoints: Folder, accepted: Sequence[str], writer: Writer | None = None) -> Resumption:
    """The newest good checkpoint among the accepted ones of older starts and the writer's own.

    Every byte of it is verified.
    """
    passed_over: dict[str, str] = {}
    for name in sorted({*accepted, *checkpoints.names()}, reverse=True):
        folder = checkpoints / name
        manifest = read_manifest(folder)
        if manifest is None:
            passed_over[name] = f"{folder.url} is incomplete, or its manifest is damaged"
        elif name not in accepted and writer_of(name) != writer:
            passed_over[name] = f"{folder.url} was written after a later start had begun"
        else:
            try:
                verify_files(folder, manifest)
            except CheckpointError as error:
                passed_over[name] = str(error)
                continue
            return Resumption((folder, manifest), passed_over)
    return Resumption(None, passed_over)


def publish_model(source: Folder, target: Folder) -> str:
    """Copies a published model folder to its lasting place; returns the hash of its manifest."""
    copied = copy_published(source, target)
    assert copied is not None, source.url
    return copied.sha256


def copy_published(source: Folder, target: Folder) -> Manifest | None:
    """Copies a published folder, where the same is not there yet; None where the source is not complete.

    Raises:
        StorageError: It could not be read or written.
    """
    manifest = read_manifest(source)
    if manifest is None:
        return None
    there = read_manifest(target)
    if there is None or there.files != manifest.files:
        with publish(target, manifest.kind, manifest.about) as publication:
            for name in manifest.files:
                with source.open(name) as file:
                    publication.add(write_file(target, name, chunks(file)))
        there = read_manifest(target)
    return there
