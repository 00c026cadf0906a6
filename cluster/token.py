"""The token that a Ray of this user asks for: in a file that nobody else can read."""

import os
import secrets
import tempfile
from contextlib import suppress
from pathlib import Path

__all__ = ["keep_token_private"]

_MODE, _TOKEN, _TOKEN_PATH = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"
_OTHERS = 0o077


def keep_token_private() -> None:
    """Makes the token that `ray.init` looks for, where there is none, and takes others' access to the file away.

    Ray (2.60) would make the same file, which everybody could read: and who has the token runs code as this user.
    Nothing is done where the token is in the environment, or the user has turned authentication off.
    """
    if os.environ.get(_MODE, "token").lower() != "token" or os.environ.get(_TOKEN):
        return
    given = os.environ.get(_TOKEN_PATH)
    path = Path(given) if given else Path.home() / ".ray" / "auth_token"
    if not path.exists():
        if given:
            return  # Ray says that it is not there; another path is not for us to fill
        _create(path)
    with suppress(PermissionError):  # of another owner: it is theirs to keep
        if path.stat().st_mode & _OTHERS:
            path.chmod(path.stat().st_mode & ~_OTHERS)


def _create(path: Path) -> None:
    """Whole and exclusively: another process of the user may do the same at the same moment."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, beside = tempfile.mkstemp(dir=path.parent)  # with mode 0600 from the start
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(32))
        with suppress(FileExistsError):
            os.link(beside, path)
    finally:
        Path(beside).unlink()
