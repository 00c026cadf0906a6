"""What travels to a cluster: the code, the configurations, the pins; and nothing that is made, downloaded or secret.

The archive is the same for the same files, byte for byte, so that a cluster which has it already is sent nothing.
"""

import io
import shutil
import subprocess
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import llmcore
from cluster.submit.jobs_api import package_uri
from llmcore.errors import ConfigError

__all__ = ["LIMIT_BYTES", "TRAVELS", "Package", "build_package", "code_root"]

TRAVELS = ("jobs", "llmcore", "cluster", "configs", "pyproject.toml", "constraints.txt")
LIMIT_BYTES = 20_000_000
"""Of files before they are packed: code is some megabytes, so that more is data that has slipped in."""
_SHOWN = 5
_LEFT_OUT = ("__pycache__", ".pyc")
_EPOCH = (1980, 1, 1, 0, 0, 0)
_PLAIN_FILE = 0o100644 << 16


@dataclass(frozen=True)
class Package:
    """An archive, and the size in bytes of each file in it."""

    data: bytes
    files: Mapping[str, int]

    @property
    def uri(self) -> str:
        """Its name in a cluster's store."""
        return package_uri(self.data)

    def told(self) -> str:
        """How large it is, for a line of text."""
        unpacked = sum(self.files.values()) / 1e6
        return f"{len(self.files)} files, {len(self.data) / 1e6:.2f} MB ({unpacked:.1f} MB unpacked)"


def code_root() -> Path:
    """The folder that the running packages are in. Raises ConfigError where it has no pins: then it is no clone."""
    root = Path(llmcore.__file__).resolve().parents[1]
    if not (root / "constraints.txt").is_file():
        raise ConfigError(
            f"{root} has no constraints.txt beside the packages, and a job takes its pins along: submit from a clone"
        )
    return root


def build_package(root: Path, config: Path, include: Sequence[Path] = ()) -> tuple[Package, str]:
    """Pack the code under `root`, one configuration, and what else is asked for; and the configuration's name in it.

    Of the code travels what git knows or would add; where there is no git, all but what Python has compiled. Names that
    begin with a dot never do. A configuration that is not among these is put into `submitted/`. What is included keeps
    its path from the working directory. Raises ConfigError for links, for two files of one name, and for too much.
    """
    found = {name: root / name for name in _travelling(root)}
    inside = _name_under(root, config)
    name = inside if inside in found else f"submitted/{config.name}"
    found[name] = config.resolve()
    for path in include:
        for travelling, file in _included(path):
            if found.setdefault(travelling, file).resolve() != file.resolve():
                raise ConfigError(f"--include {path}: there is another {travelling} in the package; rename yours")
    return _packed(found), name


def _travelling(root: Path) -> Iterator[str]:
    names = _known_to_git(root)
    if names is None:
        paths = [
            path for room in TRAVELS for path in ((root / room).rglob("*") if (root / room).is_dir() else [root / room])
        ]
        names = [path.relative_to(root).as_posix() for path in paths]
    yield from (name for name in names if (root / name).is_file() and _may_travel(name))


def _known_to_git(root: Path) -> list[str] | None:
    """Names of the files that git knows or would add; None where `root` is no repository of its own."""
    git = shutil.which("git")
    if git is None:
        return None
    listing = [git, "-C", str(root), "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *TRAVELS]
    if not (root / ".git").exists():
        return None
    done = subprocess.run(listing, check=False, capture_output=True, timeout=60)
    return done.stdout.decode().split("\0") if done.returncode == 0 else None


def _may_travel(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return not any(part.startswith(".") or part.endswith(_LEFT_OUT) for part in parts)


def _name_under(root: Path, path: Path) -> str | None:
    resolved = path.resolve()
    return resolved.relative_to(root).as_posix() if resolved.is_relative_to(root) else None


def _included(path: Path) -> Iterator[tuple[str, Path]]:
    here = Path.cwd()
    given = Path(here, path)
    if not given.exists():
        raise ConfigError(f"--include {path}: no such file or folder")
    if not given.resolve().is_relative_to(here.resolve()):
        raise ConfigError(
            f"--include {path}: expected a path below the working directory, which it keeps in the package"
        )
    for file in sorted(given.rglob("*")) if given.is_dir() else [given]:
        name = file.resolve().relative_to(here.resolve()).as_posix()
        if file.is_file() and _may_travel(name):
            yield name, file


def _packed(found: Mapping[str, Path]) -> Package:
    if links := sorted(name for name, path in found.items() if path.is_symlink()):
        raise ConfigError(f"{links[0]} is a link, and links do not travel: put the file itself there")
    sizes = {name: found[name].stat().st_size for name in sorted(found)}
    if sum(sizes.values()) > LIMIT_BYTES:
        largest = sorted(sizes, key=lambda name: sizes[name], reverse=True)[:_SHOWN]
        told = ", ".join(f"{name} ({sizes[name] / 1e6:.1f} MB)" for name in largest)
        raise ConfigError(
            f"the package would have {sum(sizes.values()) / 1e6:.1f} MB, and may have {LIMIT_BYTES / 1e6:.0f}: the "
            f"largest are {told}; keep data on a storage that the cluster reads, or have git ignore it"
        )
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name in sizes:
            entry = zipfile.ZipInfo(name, date_time=_EPOCH)
            entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, _PLAIN_FILE
            archive.writestr(entry, found[name].read_bytes())
    return Package(buffer.getvalue(), sizes)
