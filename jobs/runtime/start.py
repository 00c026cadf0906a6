"""How every job that needs a cluster starts: its storage, the work found done, or a cluster to do it on.

And how one ends that leaves a model: with an upload, if that is asked for.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from jobs.runtime.console import say
from jobs.runtime.options import RunOptions
from llmcore.config.common import JobSettings, ModelJobSettings
from llmcore.models.hub import check_hub, push_to_hub
from llmcore.storage import Folder, check_writable, resolve_storage

if TYPE_CHECKING:
    from cluster.connect import Session

__all__ = ["find_or_do", "find_or_make"]

Config = TypeVar("Config", bound=JobSettings)
ModelConfig = TypeVar("ModelConfig", bound=ModelJobSettings)


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


def find_or_make(
    config: ModelConfig,
    options: RunOptions,
    finished: Callable[[ModelConfig, Folder], dict[str, Any] | None],
    work: Callable[[Folder, "Session"], dict[str, Any]],
) -> tuple[dict[str, Any], Folder]:
    """The same for a job whose result has a `model`, which is uploaded where the configuration says so.

    Raises ConfigError before the work begins where it cannot be, RunError where the hub refuses it afterwards.
    """
    if config.push_to_hub is not None:
        check_hub(config.push_to_hub)
    result, storage = find_or_do(config, options, finished, work)
    if config.push_to_hub is not None:
        say(f"The model is at {push_to_hub(storage / result['model'], config.push_to_hub)}")
    return result, storage
