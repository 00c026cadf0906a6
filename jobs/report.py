"""`report`: one self-contained page on a pipeline's runs, or on any, from their records alone.

Imports neither Ray nor torch.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from jobs.runtime.console import say
from jobs.runtime.options import RunOptions
from llmcore.config.common import LONGEST_NAME
from llmcore.config.loading import load_settings
from llmcore.config.pipeline import REPORT, STAGE_JOBS, ReportConfig
from llmcore.config.report import RunsReportConfig
from llmcore.errors import ConfigError
from llmcore.records import begin_attempt, finished_result, list_runs, run_folder
from llmcore.report import gather, gather_runs, render, render_runs
from llmcore.report.run_words import headline as headline_of_runs
from llmcore.report.words import bought_by_pretraining, headline
from llmcore.storage import Folder, check_writable, content_hash, is_location, resolve_storage

__all__ = ["config_of_runs", "finished", "plan", "report", "result_line", "run"]

KIND = "report"
STEP_VERSION = 2
LOOK = 3
"""Of the page: one of an earlier look is written anew, in the same run."""
PAGE = "report.html"
_MOST_NAMED = 30

AnyReport = ReportConfig | RunsReportConfig


def config_of_runs(references: Sequence[str], storage_url: str, name: str | None) -> AnyReport:
    """What `report RUN [RUN …]` is to do: one pipeline is reported as at its own end.

    Without a name the page stands in the run `<run>.report`, or `<run>-vs-<run>.report`.

    Raises:
        ConfigError: There is no such run, or the name is none.
    """
    storage = resolve_storage(storage_url, inside_ray_job=False)
    # A URL is told as its folder is, so that one way to write it is no other report than another.
    runs = {one: run_folder(storage, resolve_storage(one, inside_ray_job=False).url if is_location(one) else one)
            for one in references}  # fmt: skip
    absent = [one for one, run in runs.items() if not run.exists("run.json")]
    if absent:
        raise ConfigError(_no_such_runs(storage, absent))
    told: dict[str, Any] = {"name": name or _derived_name([run.name for run in runs.values()]), "storage": storage_url}
    if len(runs) == 1:
        ((reference, run),) = runs.items()
        if not is_location(reference) and run.read_json("run.json")["kind"] == "pipeline":
            return load_settings(ReportConfig, _as_overrides(told | {"pipeline": reference}))
    named = [run.url if is_location(one) else one for one, run in runs.items()]
    return load_settings(RunsReportConfig, _as_overrides(told | {"runs": named}))


def run(config: AnyReport, options: RunOptions) -> None:
    """`python -m jobs report`: writes the page, says the result and where the page is."""
    storage = resolve_storage(config.storage, inside_ray_job=options.inside_ray_job)
    check_writable(storage)
    say(result_line(report(config, storage, options), storage))


def plan(config: AnyReport) -> list[str]:
    """What `--dry-run` says."""
    of = f"{config.pipeline}.*" if isinstance(config, ReportConfig) else ", ".join(config.runs)
    return [f"Reads the records of {of}, and writes {config.name}/{PAGE}"]


def finished(config: AnyReport, storage: Folder) -> dict[str, Any] | None:
    """The result of an earlier start, if the page is there and no record has changed since."""
    return _finished(config, storage, _gathered(config, storage).sha256)


def result_line(result: Mapping[str, Any], storage: Folder) -> str:
    """The result in words, and where the page is: a line each."""
    told = [result[key] for key in ("headline", "bought") if key in result]
    return "\n".join([*told, f"Report: {storage.url}/{result['page']}"])


def report(config: AnyReport, storage: Folder, options: RunOptions) -> dict[str, Any]:
    """Writes the page, unless it tells of these very records already.

    Returns `page` (a path under the storage), `headline` and, of a pipeline, `bought` (the result in words), and
    `records_sha256`. Raises `ConfigError` where the storage has no run of that pipeline, or not those runs.
    """
    gathered = _gathered(config, storage)
    if not gathered.parents:
        raise ConfigError(_nothing_to_report(config, storage))
    return _finished(config, storage, gathered.sha256) or _write(config, storage, options, gathered)


class _Gathered(NamedTuple):
    """What there is to report: `parents` are the runs that were found, `told` their result in words."""

    parents: list[str]
    told: dict[str, str]
    sha256: str
    render: Callable[[], str]


def _gathered(config: AnyReport, storage: Folder) -> _Gathered:
    if isinstance(config, ReportConfig):
        pipeline = gather(storage, config.pipeline)
        told = {"headline": headline(pipeline), "bought": bought_by_pretraining(pipeline)}
        ran = any(stage.has_run for stage in pipeline.stages)
        parents = [stage.run for stage in pipeline.stages] if ran else []
        return _Gathered(parents, told, _digest(pipeline), lambda: render(pipeline))
    folders = [run_folder(storage, one) for one in config.runs]
    if not all(folder.exists("run.json") for folder in folders):
        return _Gathered([], {}, "", str)
    runs = gather_runs(folders)
    return _Gathered(list(config.runs), {"headline": headline_of_runs(runs)}, _digest(runs), lambda: render_runs(runs))


def _digest(gathered: Any) -> str:
    return content_hash(LOOK, repr(gathered))


def _finished(config: AnyReport, storage: Folder, records_sha256: str) -> dict[str, Any] | None:
    found = finished_result(storage, config, kind=KIND, step_version=STEP_VERSION, inputs={})
    same = found is not None and found["records_sha256"] == records_sha256
    return found if same and (storage / config.name).exists(PAGE) else None


def _write(config: AnyReport, storage: Folder, options: RunOptions, gathered: _Gathered) -> dict[str, Any]:
    with begin_attempt(
        storage,
        config,
        kind=KIND,
        step_version=STEP_VERSION,
        inputs={},
        parents=gathered.parents,
        allow_changes=options.allow_changes,
        say=say,
    ) as attempt:
        with attempt.ledger.measure("compute"):
            page = gathered.render()
            attempt.check_newest()
            attempt.run.write_text(PAGE, page)
        attempt.result = {"page": f"{config.name}/{PAGE}", **gathered.told, "records_sha256": gathered.sha256}
    return attempt.result


def _as_overrides(values: Mapping[str, Any]) -> list[str]:
    return [f"{key}={json.dumps(value)}" for key, value in values.items()]


def _derived_name(runs: Sequence[str]) -> str:
    """From the names of the runs, as long as a name may be."""
    name = f"{'-vs-'.join(runs)}.{REPORT}"
    if len(name) <= LONGEST_NAME:
        return name
    return f"{runs[0][:40]}-and-{len(runs) - 1}-more-{content_hash(list(runs))[:8]}.{REPORT}"


def _nothing_to_report(config: AnyReport, storage: Folder) -> str:
    if isinstance(config, RunsReportConfig):
        absent = [one for one in config.runs if not run_folder(storage, one).exists("run.json")]
        return _no_such_runs(storage, absent)
    runs = list_runs(storage)
    found = {run.name for run in runs if run.kind == "pipeline"}
    found |= {name for run in runs if run.kind in STAGE_JOBS and (name := run.name.rpartition(".")[0])}
    return (
        f"pipeline={config.pipeline!r} has no run in {storage.url}, which has "
        f"{', '.join(sorted(found)) or 'no pipeline'}: name one that has run, or run it first"
    )


def _no_such_runs(storage: Folder, absent: Sequence[str]) -> str:
    names = [run.name for run in list_runs(storage)]
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return (
        f"there is no run {' or '.join(absent)} in {storage.url}, which has "
        f"{', '.join(names[:_MOST_NAMED]) or 'no run'}{more}: give names of these, a --storage that has others, or URLs"
    )
