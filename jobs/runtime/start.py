"""How every job that needs a cluster starts: its storage, the work found done, or a cluster to do it on."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from jobs.runtime.options import RunOptions
from llmcore.config.common import JobSettings
from llmcore.storage import Folder, check_writable, resolve_storage

if TYPE_CHECKING:
    from cluster.connect import Session

__all__ = ["find_or_do"]

Config = TypeVar("Config", bound=JobSettings)


def find_or_do(
    config: Config,
    options: RunOptions,
    finished: Callable[[Config, Folder], dict[str, Any] | None],
    work: Callable[[Folder, "Session"], dict[str, Any]],
) -> tuple[dict[str, Any], Folder]:
    """The result of an earlier start, without a cluster, or that of `work` with one; and the storage.

    Raises StorageError for a storage that cannot be used, ConfigError where there is no cluster.
    """
    from cluster.connect import connect

    storage = resolve_storage(config.storage, inside_ray_job=options.inside_ray_job)
    check_writable(storage)
    result = finished(config, storage)
    if result is None:
        with connect(config.cluster, verbose=options.verbose) as session:
            result = work(storage, session)
    return result, storage
