"""`--dry-run`: what a job would do, from its configuration alone."""

import glob
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

from llmcore.config import dump_config
from llmcore.config.common import JobSettings
from llmcore.config.pipeline import PipelineConfig
from llmcore.config.prepare import PrepareConfig, SourceSettings
from llmcore.errors import CorpusError
from llmcore.storage import resolve_storage

__all__ = ["dry_run"]


def dry_run(config: JobSettings, job: ModuleType, *, inside_ray_job: bool, say: Callable[[str], None]) -> None:
    """Print the configuration as resolved and the job's plan. Raises UserError for what can be found wrong cheaply."""
    storage = resolve_storage(config.storage, inside_ray_job=inside_ray_job)
    missing = [_missing(source) for source in _sources(config) if not _is_there(source)]
    if missing:
        raise CorpusError("\n".join(missing))
    say(dump_config(config).rstrip())
    say(f"\nThe run is kept at {storage.url}/{config.name}")
    plan: Callable[[JobSettings], list[str]] | None = getattr(job, "plan", None)
    for line in plan(config) if plan else ():
        say(line)
    say("Dry run: nothing was written.")


def _sources(config: JobSettings) -> Iterator[SourceSettings]:
    for job in config.jobs.values() if isinstance(config, PipelineConfig) else (config,):
        if isinstance(job, PrepareConfig):
            yield from job.sources


def _is_there(source: SourceSettings) -> bool:
    """False for what is certainly missing on this machine; what lies elsewhere is looked for when the job runs."""
    if source.url is None or ("://" in source.url and not source.url.startswith("file://")):
        return True
    path = str(Path(source.url.removeprefix("file://")).expanduser())
    return bool(glob.glob(path, recursive=True))  # noqa: PTH207  # pathlib's takes no absolute pattern


def _missing(source: SourceSettings) -> str:
    return f"source {source.name}: url={source.url!r} matches no file; give a folder, a file or a glob that is there"
