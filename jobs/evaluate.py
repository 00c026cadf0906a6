"""`evaluate`: one shared job that judges every model as it lands, chooses, and opens the test split for few."""

import threading
from collections.abc import Mapping
from typing import Any

from jobs.runtime.candidates import Sources
from jobs.runtime.console import say
from jobs.runtime.harness import checked_harness, plan_of_harness
from jobs.runtime.judging import Finetune, Judging
from jobs.runtime.options import RunOptions
from jobs.runtime.start import find_or_do
from llmcore.config.common import JobSettings
from llmcore.config.evaluate import EvaluateConfig
from llmcore.config.labelled import told_data
from llmcore.records import begin_attempt, finished_result
from llmcore.storage import Folder, read_manifest

__all__ = ["evaluate", "finished", "plan", "result_line", "run"]

KIND = "evaluate"
STEP_VERSION = 5


def run(config: EvaluateConfig, options: RunOptions) -> None:
    """`python -m jobs evaluate`."""
    result, _ = find_or_do(config, options, finished, lambda storage, _: evaluate(config, storage, options))
    say(result_line(result))


def plan(config: JobSettings) -> list[str]:
    """What `--dry-run` says."""
    assert isinstance(config, EvaluateConfig)
    of_kind = "those of the task's kind"
    metrics, baselines = (", ".join(given) if given else of_kind for given in (config.metrics, config.baselines))
    judged = [f"every trial of {', '.join(config.searches)}"] if config.searches else []
    judged += [f"{name} ({reference})" for name, reference in config.models.items()]
    on = "" if config.data is None else f" of {told_data(config.data)}"
    return [
        f"Judges {', '.join(judged)} on validation{on} by metrics: {metrics}",
        f"Chooses by validation {config.choose_by or of_kind}, and opens the test split for the chosen model and the "
        f"baselines: {baselines}",
        *plan_of_harness(config.harness),
    ]


def finished(config: EvaluateConfig, storage: Folder) -> dict[str, Any] | None:
    """The result of an earlier start, if there is nothing to judge that it has not judged."""
    result = finished_result(storage, config, kind=KIND, step_version=STEP_VERSION, inputs={})
    if result is None or read_manifest(storage / config.name / "evaluation") is None:
        return None
    sources = Sources.of(config, storage)
    if sources.missing():
        return None
    judged = sources.hash(config, sources.candidates(), sources.labelled(config))
    return result if result["candidates_hash"] == judged else None


def result_line(result: Mapping[str, Any]) -> str:
    """The result in one line."""
    metric, test = result["choose_by"], result["test"].get(result["choose_by"])
    others = [
        f"{name.replace('_', ' ')} {figures[metric]['value']:.3f}"
        for name, figures in result["baselines"].items()
        if metric in figures
    ]
    against = f", against {' and '.join(others)}" if others else ""
    told = _leaders(result["leaders"])
    ends = f"{test['value']:.3f} [{test['low']:.3f}, {test['high']:.3f}]" if test else "undefined"
    return (
        f"evaluate: {result['chosen']} has test {metric} {ends}{against}; {told}"
        f"look {result['register_looks']} at this test split"
    )


def evaluate(
    config: EvaluateConfig,
    storage: Folder,
    options: RunOptions,
    *,
    finetune: Finetune | None = None,
    stop: threading.Event | None = None,
) -> dict[str, Any]:
    """Judge, choose, and write the leaderboard; Ray is connected. It may run in a thread beside the search.

    Args:
        config: What to judge and how; with `follow` it waits until every search says that it is closed.
        storage: Where runs and artifacts are kept.
        options: How the job was started.
        finetune: Trains the baseline from random weights; `jobs.finetune.finetune` by default.
        stop: Set it to end the waiting, as when the search has failed.

    Raises:
        RunError: There is no model that may be chosen; the message names them all.
        ConfigError: A search or a model does not exist, they are made for different labelled sets, or what `harness`
            asks for is not installed or not there.
        CheckpointError: A model is not what was published; the message names it.
        SandboxError: Programs are to be run, and this machine cannot confine them.
        InterruptedRunError: `stop` was set.
    """
    result = finished(config, storage)
    if result is not None:
        return result
    sources = Sources.of(config, storage)
    harness = checked_harness(config)
    attempt = begin_attempt(
        storage,
        config,
        kind=KIND,
        step_version=STEP_VERSION,
        inputs={},
        parents=[*config.searches, *config.models.values()],
        allow_changes=options.allow_changes,
        say=say,
    )
    with attempt:
        judging = Judging(
            config, storage, options, attempt, sources, harness, finetune or _finetune(), stop or threading.Event()
        )
        outcome = judging.judge()
        figures = outcome.write(attempt.run / "evaluation")
        chosen = next(one for one in judging.candidates if one.id == outcome.chosen.id)
        assert chosen.model is not None
        attempt.result = {
            "choose_by": outcome.suite.choose_by,
            "chosen": str(chosen),
            "chosen_model": {
                "url": chosen.model.url,
                "sha256": chosen.model_sha256,
                "parents": sources.parents_of(chosen),
            },
            "num_models": len(outcome.board.entries),
            "num_failed": sum(entry.status == "failed" for entry in outcome.board.entries),
            "test": outcome.test.metrics_json(),
            "baselines": {name: baseline["test"] for name, baseline in figures["baselines"].items()},
            "differences": figures["differences"],
            "leaders": figures["leaders"],
            "register_looks": outcome.num_looks,
            "harness": outcome.harness,
            "candidates_hash": sources.hash(config, judging.candidates, outcome.evaluation_set),
        }
    return attempt.result


def _leaders(leaders: Mapping[str, Any] | None) -> str:
    """Whether the chosen model is better than the next one, in words; nothing where there is no next one."""
    if leaders is None:
        return ""
    than = "from" if leaders["chosen_is"] == "not distinguishable" else "than"
    return f"on test it is {leaders['chosen_is']} {than} {leaders['runner_up']}, the next on validation; "


def _finetune() -> Finetune:
    from jobs.finetune import finetune

    return finetune
