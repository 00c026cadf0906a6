"""`report`: one self-contained page on a pipeline's runs, from their records alone. Imports neither Ray nor torch."""

from typing import Any

from jobs.runtime.console import say
from jobs.runtime.options import RunOptions
from llmcore.config.pipeline import STAGE_JOBS, ReportConfig
from llmcore.errors import ConfigError
from llmcore.records import begin_attempt, finished_result, list_runs
from llmcore.report import PipelineReport, gather, render
from llmcore.report.words import bought_by_pretraining, headline
from llmcore.storage import Folder, check_writable, content_hash, resolve_storage

__all__ = ["finished", "plan", "report", "result_line", "run"]

KIND = "report"
STEP_VERSION = 2
PAGE = "report.html"


def run(config: ReportConfig, options: RunOptions) -> None:
    """`python -m jobs report`: writes the page, says the result and where the page is."""
    storage = resolve_storage(config.storage, inside_ray_job=options.inside_ray_job)
    check_writable(storage)
    say(result_line(report(config, storage, options), storage))


def plan(config: ReportConfig) -> list[str]:
    """What `--dry-run` says."""
    return [f"Reads the records of {config.pipeline}.*, and writes {config.name}/{PAGE}"]


def finished(config: ReportConfig, storage: Folder) -> dict[str, Any] | None:
    """The result of an earlier start, if the page is there and no record has changed since."""
    return _finished(config, storage, _digest(gather(storage, config.pipeline)))


def result_line(result: dict[str, Any], storage: Folder) -> str:
    """The result in words, and where the page is: a line each."""
    return f"{result['headline']}\n{result['bought']}\nReport: {storage.url}/{result['page']}"


def report(config: ReportConfig, storage: Folder, options: RunOptions) -> dict[str, Any]:
    """Writes the page, unless it tells of these very records already.

    Returns `page` (a path under the storage), `headline` and `bought` (the result in words), `records_sha256`. Raises
    `ConfigError` where the storage has no run of that pipeline.
    """
    gathered = gather(storage, config.pipeline)
    if not any(stage.has_run for stage in gathered.stages):
        raise ConfigError(_no_such_pipeline(storage, config.pipeline))
    return _finished(config, storage, _digest(gathered)) or _write(config, storage, options, gathered)


def _digest(gathered: PipelineReport) -> str:
    return content_hash(STEP_VERSION, repr(gathered))


def _finished(config: ReportConfig, storage: Folder, records_sha256: str) -> dict[str, Any] | None:
    found = finished_result(storage, config, kind=KIND, step_version=STEP_VERSION, inputs={})
    same = found is not None and found["records_sha256"] == records_sha256
    return found if same and (storage / config.name).exists(PAGE) else None


def _write(config: ReportConfig, storage: Folder, options: RunOptions, gathered: PipelineReport) -> dict[str, Any]:
    with begin_attempt(
        storage,
        config,
        kind=KIND,
        step_version=STEP_VERSION,
        inputs={},
        parents=[stage.run for stage in gathered.stages],
        allow_changes=options.allow_changes,
        say=say,
    ) as attempt:
        with attempt.ledger.measure("compute"):
            attempt.run.write_text(PAGE, render(gathered))
        attempt.result = {
            "page": f"{config.name}/{PAGE}",
            "headline": headline(gathered),
            "bought": bought_by_pretraining(gathered),
            "records_sha256": _digest(gathered),
        }
    return attempt.result


def _no_such_pipeline(storage: Folder, pipeline: str) -> str:
    runs = list_runs(storage)
    found = {run.name for run in runs if run.kind == "pipeline"}
    found |= {name for run in runs if run.kind in STAGE_JOBS and (name := run.name.rpartition(".")[0])}
    return (
        f"pipeline={pipeline!r} has no run in {storage.url}, which has {', '.join(sorted(found)) or 'no pipeline'}: "
        "name one that has run, or run it first"
    )
