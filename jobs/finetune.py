"""`finetune`: a pre-trained model, specialized on a labelled set by Ray Train workers."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from jobs.runtime.budget import check_budget, within_budget
from jobs.runtime.console import say
from jobs.runtime.options import RunOptions
from jobs.runtime.start import find_or_make
from llmcore.config.finetune import FinetuneConfig
from llmcore.config.labelled import LabelledDataSettings, told_data
from llmcore.config.task import TaskSettings
from llmcore.errors import ConfigError, CorpusError
from llmcore.evaluation.compared import Compared, check_measured
from llmcore.evaluation.kinds import Subject
from llmcore.records import Attempt, begin_attempt, finished_result
from llmcore.storage import Folder, read_manifest
from llmcore.tasks import build_task, facts_of, task_class
from llmcore.tasks.bases import base_model, check_base
from llmcore.tasks.evaluation_set import EvaluationSet
from llmcore.tasks.example_lengths import lengths_line
from llmcore.tasks.labelled import LabelledData, looked_at
from llmcore.tasks.references import find_labelled_data
from llmcore.train.kept import complete_names, publish_model
from llmcore.train.place import Place

__all__ = [
    "Inputs",
    "check_fits_cluster",
    "check_method",
    "check_task",
    "course",
    "find_inputs",
    "finetune",
    "parents_of",
    "plan",
]
__all__ += ["plan_of_data", "result_line", "run", "worker_spec"]

KIND = "finetune"
STEP_VERSION = 5


@dataclass(frozen=True)
class Inputs:
    """What a fine-tuning reads: a published base model and a labelled set."""

    base: Folder
    base_sha256: str
    labelled: LabelledData

    @property
    def data(self) -> EvaluationSet:
        """The labelled set."""
        return self.labelled.evaluation_set

    def hashes(self) -> dict[str, str]:
        """For the run's fingerprint."""
        return {"base": self.base_sha256, "data": self.data.hash}

    def reads(self) -> dict[str, str]:
        """For the workers: plain JSON."""
        return {"base": self.base.url, "base_sha256": self.base_sha256, "data": self.data.folder.url}


def find_inputs(storage: Folder, base: str, data: str | LabelledDataSettings, task: TaskSettings) -> Inputs:
    """The base model and the labelled set that a configuration names; a set from files is published.

    Raises `CorpusError` for what is not there, or not as it must be; `ConfigError` for a task that is none.
    """
    model, manifest = base_model(storage, base)
    inputs = Inputs(model, manifest.sha256, find_labelled_data(storage, data, task_class(task.kind).set_kind))
    if missing := sorted({"train", "validation"} - set(inputs.data.splits)):
        raise CorpusError(f"data={told_data(data)} has no {' and no '.join(missing)} split: give one, or carve it")
    return inputs


def check_task(settings: TaskSettings, inputs: Inputs) -> None:
    """Raises `ConfigError` where base model, labelled set and task do not go together."""
    task = build_task(settings, facts_of(inputs.data))
    check_base(task, inputs.base)
    check_measured(task, settings, inputs.data)


def parents_of(base: str, data: str | LabelledDataSettings) -> list[str]:
    """The runs, and what else is named, that a fine-tuning begins with."""
    return [base, data.rpartition("/")[0]] if isinstance(data, str) else [base]


def run(config: FinetuneConfig, options: RunOptions) -> None:
    """`python -m jobs finetune`."""
    result, storage = find_or_make(config, options, finished, lambda storage, _: finetune(config, storage, options))
    for line in result_lines(config, result, storage):
        say(line)


def result_lines(config: FinetuneConfig, result: Mapping[str, Any], storage: Folder) -> Iterator[str]:
    """The result for a person."""
    for split, about in result["examples"].items():
        yield lengths_line(split, about, config.task.max_tokens)
    if result["padding_share"] is not None:
        yield f"{result['padding_share']:.1%} of what the model read was padding"
    yield result_line(result, storage)


def result_line(result: Mapping[str, Any], storage: Folder) -> str:
    """The result in one line."""
    metric = result["compared_by"]
    ended = ", which nothing was gained after" if result["stopped_early"] else ""
    return (
        f"finetune: {metric.replace('_', ' ')} {result[metric]:.3f} after {result['best_step']} of "
        f"{result['num_steps']} steps{ended}, {result['newest_metrics'][metric]:.3f} at the last, in "
        f"{storage.url}/{result['model']}"
    )


def plan(config: FinetuneConfig) -> list[str]:
    """What `--dry-run` says: what is done, and what that needs."""
    from jobs.plan import needed_lines

    return [*course(config), *needed_lines(config)]


def course(config: FinetuneConfig) -> list[str]:
    """What is done; needs no model. Raises `CorpusError`, `ConfigError` for labelled data that is wrong."""
    return [
        f"Fine-tunes {config.base} ({config.weights} weights) on {told_data(config.data)} "
        f"with {config.workers.told()} workers, ZeRO-{config.train.zero_stage}",
        *plan_of_data(config.data, config.task),
    ]


def plan_of_data(data: str | LabelledDataSettings, task: TaskSettings) -> list[str]:
    """What `--dry-run` says of labelled data from files. Raises `CorpusError`, `ConfigError` for what is wrong."""
    return [] if isinstance(data, str) else looked_at(data, task_class(task.kind).set_kind)


def finished(config: FinetuneConfig, storage: Folder) -> dict[str, Any] | None:
    """The result of an earlier start, if there is nothing left to do; else what is left was checked.

    Raises `CorpusError`, `ConfigError` for what is not there or does not go together.
    """
    return _finished(config, storage, find_inputs(storage, config.base, config.data, config.task))


def _finished(config: FinetuneConfig, storage: Folder, inputs: Inputs) -> dict[str, Any] | None:
    result = finished_result(storage, config, kind=KIND, step_version=STEP_VERSION, inputs=inputs.hashes())
    if result and read_manifest(storage / result["model"]) is not None:
        return result
    check_task(config.task, inputs)
    return None


def check_fits_cluster(config: FinetuneConfig) -> None:
    """What can be known before a worker starts. Raises `ConfigError`."""
    from cluster.resources import check_fits
    from jobs.runtime.training import check_training, gpus_per_worker, worker_need

    check_training(config.train, config.workers)
    if config.method.name == "qlora" and gpus_per_worker(config.workers) == 0:
        raise ConfigError("method.name=qlora needs GPUs, and the workers have none: use name=lora")
    check_fits([worker_need(config.name, config.workers)])


def check_method(config: FinetuneConfig, inputs: Inputs) -> None:
    """Raises `ConfigError` where the base model has not what the method names."""
    from llmcore.models import methods

    methods.check_method(config.method, inputs.base)


def worker_spec(config: FinetuneConfig, reads: Mapping[str, str], place: Place, *, verbose: bool) -> dict[str, Any]:
    """What the workers of a fine-tuning are given: plain JSON. `reads` is what `Inputs.reads` says."""
    about = {"config": config.model_dump(mode="json"), "place": place.as_json(), "verbose": verbose}
    return {"kind": KIND, **about, **reads}


def finetune(config: FinetuneConfig, storage: Folder, options: RunOptions) -> dict[str, Any]:
    """Fine-tunes, or goes on, and publishes the best export as `model/`; Ray is connected.

    Raises `ConfigError` for what the cluster cannot hold, `RunError` with ranks and reasons.
    """
    inputs = find_inputs(storage, config.base, config.data, config.task)  # once: a base may be read whole for its hash
    result = _finished(config, storage, inputs)
    if result is not None:
        return result
    check_fits_cluster(config)
    check_method(config, inputs)
    check_budget(config.budget, storage / config.name, config.workers.num_workers)
    attempt = begin_attempt(
        storage,
        config,
        kind=KIND,
        step_version=STEP_VERSION,
        inputs=inputs.hashes(),
        parents=parents_of(config.base, config.data),
        accept=lambda run: complete_names(run / "checkpoints"),
        allow_changes=options.allow_changes,
        say=say,
    )
    for line in inputs.labelled.lines():
        say(line)
    with attempt:
        attempt.result["data"] = inputs.labelled.report()
        with within_budget(config.budget, attempt, config.workers.num_workers, KIND):
            attempt.result.update(_train(config, inputs, attempt, options))
    return attempt.result


def _train(config: FinetuneConfig, inputs: Inputs, attempt: Attempt, options: RunOptions) -> dict[str, Any]:
    from jobs.runtime.training import charge, check_finished, run_workers, watched
    from llmcore.train.lengths import last_step

    started = time.perf_counter()
    with watched(attempt.folder, config.name, last_step(config.train, inputs.data.num_rows("train"))):
        spec = worker_spec(config, inputs.reads(), Place.of(attempt), verbose=options.verbose)
        outcome = run_workers(spec, config.workers)
    charge(attempt.ledger, outcome, time.perf_counter() - started, attempt.folder)
    check_finished(outcome)
    exports, progress = attempt.run / "exports", outcome["progress"]
    attempt.check_newest()
    sha256 = publish_model(exports / progress["best_export"], attempt.run / "model")
    best, newest = read_manifest(attempt.run / "model"), read_manifest(exports / progress["newest_export"])
    assert best is not None and newest is not None
    return {
        "model": f"{attempt.run.name}/model",
        "model_sha256": sha256,
        "best_step": best.about["step"],
        "num_steps": outcome["num_steps"],
        "stopped_early": outcome["stopped_early"],
        "train_loss": outcome["train_loss"],
        "num_parameters": outcome["num_parameters"],
        "num_trained_parameters": outcome["num_trained_parameters"],
        "base_weights": outcome["base_weights"],
        "examples": outcome["examples"],
        "padding_share": outcome["padding_share"],
        "compared_by": Compared.of(config.task, Subject.of(inputs.data)).key,
        "newest_metrics": newest.about["metrics"],
        **best.about["metrics"],
    }
