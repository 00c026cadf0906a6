"""`pipeline`: stages that name each other, each a job and a run of its own; what can be is done side by side."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from types import ModuleType
from typing import Any

from jobs import evaluate, finetune, prepare, pretrain, promote, report, tune
from jobs.runtime.bias import check_bias_sets
from jobs.runtime.console import say
from jobs.runtime.harness import checked_harness
from jobs.runtime.options import RunOptions
from jobs.runtime.overview import Overview, of_stage
from jobs.runtime.pretrain_inputs import find_validation_sets
from llmcore.config.common import JobSettings
from llmcore.config.evaluate import EvaluateConfig
from llmcore.config.finetune import FinetuneConfig, FinetuneSettings
from llmcore.config.pipeline import REPORT, PipelineConfig
from llmcore.config.pretrain import PretrainConfig
from llmcore.config.tune import TuneConfig
from llmcore.records import begin_attempt, finished_result
from llmcore.storage import Folder, check_writable, resolve_storage

__all__ = ["plan", "run"]

KIND = "pipeline"
STEP_VERSION = 2
_MODULES: dict[str, ModuleType] = {
    "prepare": prepare,
    "pretrain": pretrain,
    "finetune": finetune,
    "tune": tune,
    "evaluate": evaluate,
    "promote": promote,
}


def run(config: PipelineConfig, options: RunOptions) -> None:
    """`python -m jobs pipeline`: what is finished is not done again."""
    storage = resolve_storage(config.storage, inside_ray_job=options.inside_ray_job)
    check_writable(storage)
    done = _done(config, storage)
    ended = finished_result(storage, config, kind=KIND, step_version=STEP_VERSION, inputs={})
    if len(done) == len(config.stages) and ended is not None:
        reported = report.finished(config.report_config(), storage)
        if reported is not None:
            say(f"All stages of {config.name} are done already.")
            for line in [*_lines(config, done, storage), report.result_line(reported, storage)]:
                say(line)
            return
    _work(config, storage, options, done)


def plan(config: PipelineConfig) -> list[str]:
    """What `--dry-run` says."""
    lines = []
    for stage, job in config.jobs.items():
        after, beside = sorted(config.needs(stage) - config.beside(stage)), sorted(config.beside(stage))
        when = [f"after {', '.join(after)}"] * bool(after) + [f"beside {', '.join(beside)}"] * bool(beside)
        module = _MODULES[config.job(stage)]
        lines += [f"{stage} ({', '.join([config.job(stage), *when])}):"]
        lines += [f"  {line}" for line in getattr(module, "course", module.plan)(job)]
    return [*lines, f"Writes report.html to {config.run_of(REPORT)}"]


def _done(config: PipelineConfig, storage: Folder) -> dict[str, dict[str, Any]]:
    """The results of the stages that are finished: each reads what those before have left."""
    done: dict[str, dict[str, Any]] = {}
    for stage, job in config.jobs.items():
        if config.needs(stage) <= done.keys():
            result = _MODULES[config.job(stage)].finished(job, storage)
            if result is not None:
                done[stage] = result
    return done


def _lines(config: PipelineConfig, done: Mapping[str, dict[str, Any]], storage: Folder) -> list[str]:
    """What each of these has come to."""
    return [
        of_stage(stage, line)
        for stage, result in done.items()
        for line in _MODULES[config.job(stage)].result_line(result, storage).splitlines()
    ]


def _work(config: PipelineConfig, storage: Folder, options: RunOptions, done: Mapping[str, dict[str, Any]]) -> None:
    from cluster.connect import connect, set_environment
    from jobs.runtime.stages import run_stages, start_early

    left = [job for stage, job in config.jobs.items() if stage not in done]
    _check_beforehand(config, left, storage)
    attempt = begin_attempt(
        storage,
        config,
        kind=KIND,
        step_version=STEP_VERSION,
        inputs={},
        allow_changes=options.allow_changes,
        say=say,
    )
    with attempt, ExitStack() as stack:
        if left:
            set_environment(config.cluster)
            start_early()
            with attempt.ledger.measure("start_up", "connect"):
                session = stack.enter_context(connect(config.cluster, verbose=options.verbose))
            _check_cluster(left)
            for line in _lines(config, done, storage):
                say(line)
            overview = stack.enter_context(Overview({stage: config.job(stage) for stage in config.jobs}))
            for stage in done:
                overview.found_done(stage)
            attempt.result["seconds"] = run_stages(_graph(config), list(done), options, session.for_stages, overview)
        reported = report.report(config.report_config(), storage, options)
    say(report.result_line(reported, storage))


def _graph(config: PipelineConfig) -> Any:
    from jobs.runtime.stages import Graph

    return Graph(
        jobs=config.jobs,
        modules={stage: _MODULES[config.job(stage)].__name__ for stage in config.jobs},
        begins_after=config.begins_after(),
        needs={stage: config.needs(stage) for stage in config.jobs},
    )


def _check_beforehand(config: PipelineConfig, left: Sequence[JobSettings], storage: Folder) -> None:
    """What a later stage needs of this machine, and of runs that are no stages, is looked for before the first one."""
    runs = {config.run_of(stage) for stage in config.stages}
    for job in left:
        if isinstance(job, PretrainConfig):
            there = {name: run for name, run in job.validation_sets.items() if run not in runs}
            find_validation_sets(job.model_copy(update={"validation_sets": there}), storage)
        elif isinstance(job, FinetuneConfig):
            finetune.plan_of_data(job.data, job.task)
        elif isinstance(job, TuneConfig):
            finetune.plan_of_data(job.data, job.finetune.task)
        elif isinstance(job, EvaluateConfig):
            checked_harness(job)
            check_bias_sets(job, storage, runs)


def _check_cluster(left: Sequence[JobSettings]) -> None:
    """What a later stage asks of the cluster is held against it before the first one begins."""
    from cluster.resources import check_fits
    from jobs.runtime.training import check_training, worker_need

    for job in left:
        settings = job.finetune if isinstance(job, TuneConfig) else job
        if isinstance(settings, PretrainConfig | FinetuneSettings):
            check_training(settings.train, settings.workers)
            check_fits([worker_need(job.name, settings.workers)])
