"""`pipeline`: prepare, pretrain, tune and evaluate side by side, report; each stage is a run of its own."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

from jobs import evaluate, prepare, pretrain, report, tune
from jobs.runtime.console import say
from jobs.runtime.harness import checked_harness
from jobs.runtime.options import RunOptions
from jobs.runtime.pretrain_inputs import find_validation_sets
from llmcore.config.pipeline import PipelineConfig
from llmcore.records import begin_attempt, finished_result
from llmcore.storage import Folder, check_writable, resolve_storage

__all__ = ["plan", "run"]

KIND = "pipeline"
STEP_VERSION = 1


def run(config: PipelineConfig, options: RunOptions) -> None:
    """`python -m jobs pipeline`: what is finished is not done again."""
    storage = resolve_storage(config.storage, inside_ray_job=options.inside_ray_job)
    check_writable(storage)
    for line in _finished(config, storage) or _work(config, storage, options):
        say(line)


def plan(config: PipelineConfig) -> list[str]:
    """What `--dry-run` says."""
    return [
        *prepare.plan(config.prepare_config()),
        pretrain.course(config.pretrain_config()),
        *tune.plan(config.tune_config()),
        *evaluate.plan(config.evaluate_config()),
        f"Writes report.html to {config.name}.report",
    ]


def _finished(config: PipelineConfig, storage: Folder) -> list[str] | None:
    """The last lines of an earlier start, if every stage is done: no cluster is needed to find that out."""
    if finished_result(storage, config, kind=KIND, step_version=STEP_VERSION, inputs={}) is None:
        return None
    results = _on_the_cluster(config, storage)
    if results is None or (reported := report.finished(config.report_config(), storage)) is None:
        return None
    say(f"All stages of {config.name} are done already.")
    return _last_lines(results | {"report": reported}, storage)


def _on_the_cluster(config: PipelineConfig, storage: Folder) -> dict[str, dict[str, Any]] | None:
    """The results of the stages that need a cluster, if all are done: each reads what the one before has left."""
    stages: dict[str, Callable[[], dict[str, Any] | None]] = {
        "prepare": lambda: prepare.finished(config.prepare_config(), storage),
        "pretrain": lambda: pretrain.finished(config.pretrain_config(), storage),
        "tune": lambda: tune.finished(config.tune_config(), storage),
        "evaluate": lambda: evaluate.finished(config.evaluate_config(), storage),
    }
    results = {}
    for name, finished in stages.items():
        result = finished()
        if result is None:
            return None
        results[name] = result
    return results


def _last_lines(results: dict[str, dict[str, Any]], storage: Folder) -> list[str]:
    return [
        prepare.result_line(results["prepare"], storage),
        pretrain.result_line(results["pretrain"], storage),
        tune.result_line(results["tune"], storage),
        evaluate.result_line(results["evaluate"]),
        report.result_line(results["report"], storage),
    ]


def _work(config: PipelineConfig, storage: Folder, options: RunOptions) -> list[str]:
    from cluster.connect import connect

    needs_cluster = _on_the_cluster(config, storage) is None  # asked first: it also finds that a corpus is missing
    if needs_cluster:
        find_validation_sets(config.pretrain, storage)  # of runs that are there already
        checked_harness(config.evaluate)
    attempt = begin_attempt(
        storage,
        config,
        kind=KIND,
        step_version=STEP_VERSION,
        inputs={},
        allow_changes=options.allow_changes,
        say=say,
    )
    results: dict[str, dict[str, Any]] = {}
    connect_s = 0.0
    with attempt, ExitStack() as stack:
        if needs_cluster:
            with attempt.ledger.measure("start_up", "connect"):
                connect_s = stack.enter_context(connect(config.cluster, verbose=options.verbose)).connect_s
            _check_all(config)

        def stage(name: str, work: Callable[[], dict[str, Any]]) -> None:
            started = time.monotonic()
            results[name] = work()
            attempt.result[f"{name}_s"] = round(time.monotonic() - started, 1)

        stage("prepare", lambda: prepare.prepare(config.prepare_config(), storage, options))
        say(prepare.result_line(results["prepare"], storage))
        stage(
            "pretrain",
            lambda: pretrain.pretrain(config.pretrain_config(), storage, options, connect_s=connect_s),
        )
        say(pretrain.result_line(results["pretrain"], storage))
        stage("tune_and_evaluate", lambda: _search_and_judge(config, storage, options, results))
        stage("report", lambda: report.report(config.report_config(), storage, options))
    return _last_lines(results, storage)[3:]


def _check_all(config: PipelineConfig) -> None:
    """What a later stage asks of the cluster is held against it before the first one begins."""
    from cluster.resources import check_fits
    from jobs.runtime.training import check_training, worker_need

    for name, stage in (("pretrain", config.pretrain), ("tune", config.tune.finetune)):
        check_training(stage.train, stage.workers)
        check_fits([worker_need(name, stage.workers)])


def _search_and_judge(
    config: PipelineConfig, storage: Folder, options: RunOptions, results: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    """Stages 3 and 4 side by side: the evaluation job judges trials while others still run."""
    stop = threading.Event()
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="evaluate") as beside:
        judged = beside.submit(evaluate.evaluate, config.evaluate_config(), storage, options, stop=stop)
        try:
            results["tune"] = tune.tune(config.tune_config(), storage, options)
            say(tune.result_line(results["tune"], storage))
            results["evaluate"] = judged.result()
        except BaseException:
            stop.set()  # nobody will close the search: the evaluation need not wait for it
            raise
    return results["evaluate"]
