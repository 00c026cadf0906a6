"""What a node's raylet was started with: it is the parent of every worker there."""

import resource
from collections.abc import Sequence

__all__ = ["open_files_of_raylet", "options_of", "raylet_options"]


def raylet_options() -> dict[str, str]:
    """Options of the command line of this worker's raylet, without their dashes; none where it is not the parent."""
    import psutil

    parent = psutil.Process().parent()
    return options_of(parent.cmdline()) if parent is not None else {}


def open_files_of_raylet() -> int | None:
    """How many files this worker's raylet may hold open; None where that may not be asked."""
    import psutil

    try:
        parent = psutil.Process().parent()
        return None if parent is None else int(parent.rlimit(resource.RLIMIT_NOFILE)[0])
    except psutil.AccessDenied:
        return None


def options_of(command: Sequence[str]) -> dict[str, str]:
    """`--name=value` of a command as a mapping."""
    options = [word.removeprefix("--").partition("=") for word in command if word.startswith("--") and "=" in word]
    return {name: value for name, _, value in options}
