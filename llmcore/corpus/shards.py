"""The shards of a corpus: found at any fsspec URL, and told from others without reading them."""

import posixpath
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fsspec.core import has_magic
from fsspec.implementations.local import LocalFileSystem

from llmcore.config.prepare import ShardFormat
from llmcore.corpus.formats import suffixes_of
from llmcore.errors import CorpusError, ShardError
from llmcore.storage import content_hash, file_system

__all__ = ["Shard", "check_unchanged", "find_shards", "shards_hash"]

_JSON = (".json",)  # JSON Lines where the URL says so; in a folder it may be anything


@dataclass(frozen=True)
class Shard:
    """A file of documents.

    Attributes:
        url: where it is.
        name: its path below the folder that all shards of the source are in.
        size: bytes.
        version: what tells these bytes from others without reading them: an ETag, or the time of the last change.
        max_documents: only its first so many are wanted; None: all.
    """

    url: str
    name: str
    size: int
    version: str
    max_documents: int | None = None


def find_shards(source: str, url: str, asked: ShardFormat | None = None) -> list[Shard]:
    """The shards of a source at a folder, file or glob, sorted by path; files of other kinds in a folder are no shards.

    With a format asked for, a file or a glob may have any name.

    Raises CorpusError, naming the URL: nothing is there, or nothing that can be read.
    """
    given = url if "://" in url else str(Path(url).expanduser().absolute())
    suffixes = suffixes_of(asked)
    try:
        fs, path = file_system(given)
        if has_magic(path) or not fs.isdir(path):
            names = fs.glob(path) if has_magic(path) else [path] if fs.exists(path) else []
            accepted = ("",) if asked else suffixes + _JSON
        else:
            names, accepted = fs.find(path), suffixes
        infos = [fs.info(name) for name in sorted(names) if str(name).endswith(accepted)]
        infos = [info for info in infos if info["type"] == "file"]
    except Exception as error:  # each backend has exceptions of its own
        reason = str(error) or type(error).__name__
        message = f"source {source}: url={url!r} cannot be looked at ({reason}); check the URL and the access to it"
        raise CorpusError(message) from error
    if not names:
        raise CorpusError(f"source {source}: url={url!r} matches no file; give a folder, a file or a glob of files")
    if not infos:
        raise CorpusError(
            f"source {source}: url={url!r} has no shards: none of its {len(names)} files ends in {', '.join(suffixes)}"
            + ("" if asked else "; give `format` for files of other names, or of plain text")
        )
    _check_root(source, url, fs, path, [info["name"] for info in infos])
    above = posixpath.commonpath([posixpath.dirname(info["name"]) for info in infos])
    return [
        Shard(
            url=fs.unstrip_protocol(info["name"]),
            name=posixpath.relpath(info["name"], above or "."),
            size=int(info["size"]),
            version=_version(info),
        )
        for info in infos
    ]


def _check_root(source: str, url: str, fs: Any, path: str, names: list[str]) -> None:
    """Raises CorpusError for a shard that a link leads to outside of the folder that is named."""
    if not isinstance(fs, LocalFileSystem):
        return
    fixed = posixpath.dirname(path.split("*", maxsplit=1)[0]) if has_magic(path) else path
    root = Path(fixed).resolve()
    for name in names:
        target = Path(name).resolve()
        if not target.is_relative_to(root if root.is_dir() else root.parent):
            raise CorpusError(
                f"source {source}: {name} leads out of url={url!r}, to {target}: copy it there, or name its own folder"
            )


def check_unchanged(shard: Shard) -> None:
    """Raises ShardError where a shard is not what its listing says of it."""
    try:
        fs, path = file_system(shard.url)
        info = fs.info(path)
    except Exception as error:  # each backend has exceptions of its own
        reason = str(error) or type(error).__name__
        raise ShardError(f"{shard.url}: was listed, and cannot be looked at any more ({reason})") from error
    if (int(info["size"]), _version(info)) != (shard.size, shard.version):
        raise ShardError(
            f"{shard.url}: is not the file that was listed ({shard.size} bytes, version {shard.version}; now "
            f"{info['size']} bytes, version {_version(info)}): put that one back, or begin a run of another name"
        )


def shards_hash(shards: Iterable[Shard]) -> str:
    """What tells these inputs from others, without reading them: names, sizes and versions."""
    return content_hash([[shard.url, shard.size, shard.version] for shard in shards])


def _version(info: dict[str, Any]) -> str:
    """By whatever name the file system has it."""
    fields = ("ETag", "etag", "md5Hash", "sha256", "mtime", "LastModified", "last_modified", "created")
    return next((str(info[field]) for field in fields if info.get(field)), "")
