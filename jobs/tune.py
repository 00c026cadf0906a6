"""`tune`: Ray Tune fans out fine-tuning trials; each is a Ray Train run of DeepSpeed workers.

What is true of a trial stands in its record on the storage, `trials/<id>/trial.json`, which the evaluation job feeds
on. Tune's own state is thrown away: its snapshots are written in place, and a torn one would lose the search. A search
that was killed goes on from the records: ended trials are kept, and told to the scheduler again; the others go on from
their checkpoints.
"""

from functools import partial
from typing import Any

from pydantic import ValidationError

from jobs.finetune import (
    Inputs,
    check_fits_cluster,
    check_method,
    check_task,
    find_inputs,
    parents_of,
    plan_of_data,
    worker_spec,
)
from jobs.runtime.console import say
from jobs.runtime.options import RunOptions
from jobs.runtime.start import find_or_do
from jobs.runtime.trials import TrialRecords, trial_ids
from llmcore.config.finetune import FinetuneConfig, FinetuneSettings
from llmcore.config.labelled import told_data
from llmcore.config.tune import TuneConfig
from llmcore.errors import ConfigError, RunError
from llmcore.evaluation.searches import with_values
from llmcore.records import Attempt, begin_attempt, finished_result
from llmcore.storage import Folder
from llmcore.train.lengths import last_step

__all__ = ["finished", "plan", "result_line", "run", "tune"]

KIND = "tune"
STEP_VERSION = 4
_RESERVED_CPUS = 0.5
"""Left to the evaluation job, which judges trials as they land."""
_TRIAL_DRIVER = {"CPU": 0, "node:__internal_head__": 0.001}
"""A trial's driver only waits; it stays on the head node, which no preemption takes."""


def run(config: TuneConfig, options: RunOptions) -> None:
    """`python -m jobs tune`."""
    result, storage = find_or_do(config, options, finished, lambda storage, _: tune(config, storage, options))
    say(result_line(result, storage))


def plan(config: TuneConfig) -> list[str]:
    """What `--dry-run` says."""
    return [
        f"Runs {config.num_trials} trials over {', '.join(sorted(config.space))} ({config.scheduler}), "
        f"each with {config.finetune.workers.told()} workers, from {config.base} on {told_data(config.data)}",
        *plan_of_data(config.data, config.finetune.task),
    ]


def result_line(result: dict[str, Any], storage: Folder) -> str:
    """The result in one line."""
    counts = ", ".join(f"{number} {status}" for status, number in result["statuses"].items())
    return (
        f"tune: {result['num_trials']} trials ({counts}); best validation {result['metric']} "
        f"{result['best_value']:.3f} by {result['best_trial']} in {storage.url}/{result['run']}/trials"
    )


def finished(config: TuneConfig, storage: Folder) -> dict[str, Any] | None:
    """The result of an earlier start, if the search is closed; else what is left was checked.

    Raises `CorpusError`, `ConfigError` for what is not there or does not go together.
    """
    return _finished(config, storage, find_inputs(storage, config.base, config.data, config.finetune.task))


def _finished(config: TuneConfig, storage: Folder, inputs: Inputs) -> dict[str, Any] | None:
    result = finished_result(storage, config, kind=KIND, step_version=STEP_VERSION, inputs=inputs.hashes())
    if result and (storage / config.name).find_json("search.json"):
        return result
    check_task(config.finetune.task, inputs)
    return None


def sampled_values(config: TuneConfig) -> dict[str, dict[str, Any]]:
    """Each trial's values by dotted key: a pure function of space, seed and index, so that a search can go on."""
    import numpy as np
    from ray import tune as ray_tune

    domains: dict[str, Any] = {}
    for key, range_ in sorted(config.space.items()):
        if range_.choice is not None:
            domains[key] = ray_tune.choice(range_.choice)
        elif range_.uniform is not None:
            domains[key] = ray_tune.uniform(*range_.uniform)
        else:
            assert range_.log_uniform is not None
            domains[key] = ray_tune.loguniform(*range_.log_uniform)
    sampled = {}
    for index, trial in enumerate(trial_ids(config.num_trials)):
        random = np.random.RandomState([config.seed, index])
        sampled[trial] = {key: domain.sample(random_state=random) for key, domain in domains.items()}
    return sampled


def _trial_config(config: TuneConfig, trial: str, values: dict[str, Any]) -> FinetuneConfig:
    try:
        settings = with_values(config.finetune, values)
    except (RunError, ValidationError) as error:
        raise ConfigError(f"tune.space: {trial} would have {values}: {error}") from error
    return FinetuneConfig(
        name=f"{config.name}.{trial}",
        storage=config.storage,
        cluster=config.cluster,
        base=config.base,
        data=config.data,
        **{field: getattr(settings, field) for field in FinetuneSettings.model_fields},
    )


def _max_concurrent(config: TuneConfig) -> int:
    """Trials whose workers the cluster holds at once; Tune itself would queue the workers of one too many for ever."""
    import ray

    from jobs.runtime.training import gpus_per_worker

    workers = config.finetune.workers
    has = ray.cluster_resources()
    gpus = gpus_per_worker(workers)
    fitting = [int((has.get("CPU", 0.0) - _RESERVED_CPUS + 1e-6) / (workers.num_workers * workers.cpus_per_worker))]
    if gpus:
        fitting.append(int(has["GPU"] / (workers.num_workers * gpus)))
    return max(1, min([*fitting, config.max_concurrent_trials or config.num_trials, config.num_trials]))


def _reports(config: TuneConfig, num_examples: int) -> int:
    """Validations of a full trial: what ASHA counts."""
    train = config.finetune.train
    steps = last_step(train, num_examples)
    every = train.validate_every or steps
    return -(-steps // every)


def tune(config: TuneConfig, storage: Folder, options: RunOptions) -> dict[str, Any]:
    """Runs the search, or what is left of it, and closes it; Ray is connected.

    Raises `ConfigError` for what the cluster cannot hold, `TrialError` when no trial left a model.
    """
    inputs = find_inputs(storage, config.base, config.data, config.finetune.task)  # once: a base may be read whole
    result = _finished(config, storage, inputs)
    if result is not None:
        return result
    samples = sampled_values(config)
    configs = {trial: _trial_config(config, trial, values) for trial, values in samples.items()}
    check_fits_cluster(next(iter(configs.values())))
    for trial_config in configs.values():
        check_method(trial_config, inputs)
        check_task(trial_config.task, inputs)
    num_reports = _reports(config, inputs.data.num_rows("train"))
    if config.scheduler == "asha" and config.asha.grace_reports > num_reports:
        raise ConfigError(
            f"asha.grace_reports={config.asha.grace_reports} is more than the {num_reports} validations of a trial: "
            "lower finetune.train.validate_every"
        )
    attempt = begin_attempt(
        storage,
        config,
        kind=KIND,
        step_version=STEP_VERSION,
        inputs=inputs.hashes(),
        parents=parents_of(config.base, config.data),
        allow_changes=options.allow_changes,
        say=say,
    )
    for line in inputs.labelled.lines():
        say(line)
    with attempt:
        attempt.result["data"] = inputs.labelled.report()
        records = TrialRecords(attempt, samples, configs, inputs.data)
        _search(config, configs, inputs, records, attempt, options)
        attempt.result.update(records.close())
    return attempt.result


def _search(
    config: TuneConfig,
    configs: dict[str, FinetuneConfig],
    inputs: Inputs,
    records: "TrialRecords",
    attempt: Attempt,
    options: RunOptions,
) -> None:
    import ray.tune
    from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler

    from jobs.runtime.tune_callback import WriteRecords

    open_trials = records.open_trials()
    if not open_trials:
        return
    compared = records.compared
    scheduler: TrialScheduler = FIFOScheduler()
    if config.scheduler == "asha":
        scheduler = ASHAScheduler(
            time_attr="report",
            max_t=_reports(config, inputs.data.num_rows("train")) + 1,  # a trial that ends by itself is not stopped
            grace_period=config.asha.grace_reports,
            reduction_factor=config.asha.reduction_factor,
        )
        scheduler.set_search_properties(compared.key, "max" if compared.higher_is_better else "min")
        records.tell_again(scheduler)
    specs = {trial: worker_spec(configs[trial], inputs, records.place(trial), options) for trial in open_trials}
    workers = config.finetune.workers.model_dump(mode="json")
    tuner = ray.tune.Tuner(
        ray.tune.with_resources(partial(_trial, specs=specs, workers=workers), _TRIAL_DRIVER),
        param_space={"trial": ray.tune.grid_search(open_trials)},
        tune_config=ray.tune.TuneConfig(scheduler=scheduler, max_concurrent_trials=_max_concurrent(config)),
        run_config=ray.tune.RunConfig(
            name="tune",
            storage_path=str(attempt.folder.local_path() or attempt.folder.path),
            callbacks=[WriteRecords(records, scheduler, say)],
            verbose=0,
        ),
    )
    try:
        tuner.fit()
    finally:
        attempt.folder.delete("tune")


def _trial(trial_config: dict[str, Any], *, specs: dict[str, Any], workers: dict[str, Any]) -> None:
    """A trial's driver: a Ray Train run whose reports go to Tune."""
    from ray.tune.integration.ray_train import TuneReportCallback

    from jobs.runtime.training import run_workers
    from llmcore.config.common import WorkerSettings

    spec = specs[trial_config["trial"]]
    run_workers(spec, WorkerSettings.model_validate(workers), callbacks=[TuneReportCallback()])
