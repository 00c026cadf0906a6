"""`evaluate`: one shared job that judges every model as it lands, chooses, and opens the test split for few."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from functools import partial
from typing import Any

from jobs.runtime.bias import MeasureBias, plan_of_bias
from jobs.runtime.candidates import Sources
from jobs.runtime.console import say
from jobs.runtime.harness import checked_harness, plan_of_harness
from jobs.runtime.judging import Finetune, Judging
from jobs.runtime.options import RunOptions
from jobs.runtime.scorers import Scorers
from jobs.runtime.start import find_or_do
from llmcore.config.common import JobSettings
from llmcore.config.evaluate import EvaluateConfig
from llmcore.config.labelled import told_data
from llmcore.errors import LLMCoreError
from llmcore.evaluation.bias_board import write_bias
from llmcore.evaluation.sets import write_board_of_sets
from llmcore.records import Attempt, begin_attempt, finished_result
from llmcore.storage import Folder, content_hash, read_manifest

__all__ = ["evaluate", "finished", "plan", "result_line", "run"]

KIND = "evaluate"
STEP_VERSION = 5


def run(config: EvaluateConfig, options: RunOptions) -> None:
    """`python -m jobs evaluate`."""
    result, storage = find_or_do(config, options, finished, lambda storage, _: evaluate(config, storage, options))
    say(result_line(result, storage))


def plan(config: JobSettings) -> list[str]:
    """What `--dry-run` says."""
    assert isinstance(config, EvaluateConfig)
    if config.sets:
        return [f"{name}: {line}" for name in config.sets for line in plan(config.of_set(name))]
    if config.measures_alone:
        return plan_of_bias(config)
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
        *plan_of_bias(config),
    ]


def finished(config: EvaluateConfig, storage: Folder) -> dict[str, Any] | None:
    """The result of an earlier start, if there is nothing to judge that it has not judged."""
    result = finished_result(storage, config, kind=KIND, step_version=STEP_VERSION, inputs={})
    if result is None or read_manifest(storage / config.name / "evaluation") is None:
        return None
    if config.sets:
        parts = {name: finished(config.of_set(name), storage) for name in config.sets}
        return result if parts == result["sets"] else None
    sources = Sources.of(config, storage)
    if config.measures_alone:
        assert sources.biases is not None
        return result if result["candidates_hash"] == sources.biases.hash else None
    if sources.missing():
        return None
    judged = sources.hash(config, sources.candidates(), sources.labelled(config))
    return result if result["candidates_hash"] == judged else None


def result_line(result: Mapping[str, Any], storage: Folder) -> str:
    """The result: a line for each set."""
    if "sets" in result:
        return "\n".join(f"evaluate, {name}: {_told(one)}" for name, one in result["sets"].items())
    return f"evaluate: {_told(result)}"


def _told(result: Mapping[str, Any]) -> str:
    if "chosen" not in result:
        return _told_bias(result["bias"])
    metric, test = result["choose_by"], result["test"].get(result["choose_by"])
    others = [
        f"{name.replace('_', ' ')} {figures[metric]['value']:.3f}"
        for name, figures in result["baselines"].items()
        if metric in figures
    ]
    against = f", against {' and '.join(others)}" if others else ""
    told = _leaders(result["leaders"])
    bias = f"; bias of {_told_bias(result['bias'])}" if result.get("bias") else ""
    ends = f"{test['value']:.3f} [{test['low']:.3f}, {test['high']:.3f}]" if test else "undefined"
    return (
        f"{result['chosen']} has test {metric} {ends}{against}; {told}"
        f"look {result['register_looks']} at this test split{bias}"
    )


def _told_bias(bias: Mapping[str, Any]) -> str:
    """How many models were measured, and by what."""
    left_out = f"; {len(bias['left_out'])} left out: {', '.join(bias['left_out'])}" if bias["left_out"] else ""
    models = ", ".join(bias["models"]) or "no model"
    return f"{models} measured by {', '.join(bias['sets'])}{left_out}"


def evaluate(
    config: EvaluateConfig, storage: Folder, options: RunOptions, *, finetune: Finetune | None = None
) -> dict[str, Any]:
    """Judge, choose, and write the leaderboard; Ray is connected.

    Of several sets each is a run of its own, with an end of its own; all share the scoring processes.

    Args:
        config: What to judge and how; with `follow` it waits until every search says that it is closed.
        storage: Where runs and artifacts are kept.
        options: How the job was started.
        finetune: Trains the baseline from random weights; `jobs.finetune.finetune` by default.

    Raises:
        RunError: There is no model that may be chosen; the message names them all.
        ConfigError: A search or a model does not exist, they are made for different labelled sets, or what `harness`
            asks for is not installed or not there.
        CorpusError: A set that measures bias is not there, or is none.
        CheckpointError: A model is not what was published; the message names it.
        SandboxError: Programs are to be run, and this machine cannot confine them.
    """
    result = finished(config, storage)
    if result is not None:
        return result
    if config.measures_alone:
        return _measure_alone(config, storage, options)
    if not config.sets:
        return _judge([config], storage, options, finetune)[config.name]
    with _begin(config, storage, options) as attempt:
        parts = [config.of_set(name) for name in config.sets]
        done = {part.name: found for part in parts if (found := finished(part, storage)) is not None}
        done |= _judge([part for part in parts if part.name not in done], storage, options, finetune)
        results = {name: done[config.of_set(name).name] for name in config.sets}
        contents = {name: storage / config.of_set(name).name / "evaluation" for name in config.sets}
        attempt.check_newest()
        write_board_of_sets(
            attempt.run / "evaluation", {name: at.read_json("metrics.json") for name, at in contents.items()}
        )
        attempt.result = {
            "sets": results,
            "candidates_hash": content_hash({k: v["candidates_hash"] for k, v in results.items()}),
        }
    return attempt.result


def _measure_alone(config: EvaluateConfig, storage: Folder, options: RunOptions) -> dict[str, Any]:
    """Of an evaluation that judges nothing."""
    biases = Sources.of(config, storage).biases
    assert biases is not None
    biases.check_alone()
    with _begin(config, storage, options) as attempt:
        content = MeasureBias.of(config, storage, biases, config.gpus, attempt.ledger).measure()
        attempt.check_newest()
        write_bias(attempt.run / "evaluation", content)
        attempt.result = {"bias": content, "candidates_hash": biases.hash}
    return attempt.result


def _begin(config: EvaluateConfig, storage: Folder, options: RunOptions) -> Attempt:
    parts = [config, *config.sets.values()]
    bias = config.bias
    measured = (
        [*bias.models.values(), *(one.classifier for one in bias.sets.values() if one.classifier)] if bias else []
    )
    return begin_attempt(
        storage,
        config,
        kind=KIND,
        step_version=STEP_VERSION,
        inputs={},
        parents=[
            *(parent for part in parts for parent in (*part.searches, *part.models.values())),
            *measured,
        ],
        allow_changes=options.allow_changes,
        say=say,
    )


def _judge(
    configs: Sequence[EvaluateConfig], storage: Folder, options: RunOptions, finetune: Finetune | None
) -> dict[str, dict[str, Any]]:
    """The result of each, by its run's name; where one cannot be concluded, the others are."""
    results: dict[str, dict[str, Any]] = {}
    failed: list[LLMCoreError] = []
    if not configs:
        return results
    first = configs[0]
    # Beside a search it would hold what the trials wait for.
    gpus = 0.0 if first.follow and first.gpus == "auto" else first.gpus
    with closing(Scorers(first.num_scorers, first.cpus, gpus)) as scorers, ExitStack() as stack:
        judgings = []
        for config in configs:
            sources, harness = Sources.of(config, storage), checked_harness(config)
            attempt = _begin(config, storage, options)
            judging = Judging(config, storage, options, attempt, sources, harness, finetune or _finetune(), scorers)
            judgings.append(stack.enter_context(judging))
        left = judgings
        while left := [judging for judging in left if not _in_itself(judging, judging.look, failed)]:
            scorers.rest()
            time.sleep(first.poll_s)
        for judging in judgings:
            if _in_itself(judging, partial(_conclude, judging), failed):
                results[judging.config.name] = judging.attempt.result
    for error in failed[1:]:
        say(f"evaluate: {error}")
    if failed:
        raise failed[0]
    return results


def _in_itself(judging: Judging, work: Callable[[], bool], failed: list[LLMCoreError]) -> bool:
    """Whether there is no more of this work; an error ends the attempt at this set alone, and is noted."""
    if judging.ended:
        return False
    try:
        return work()
    except LLMCoreError as error:
        judging.__exit__(type(error), error, error.__traceback__)
        failed.append(error)
        return True


def _conclude(judging: Judging) -> bool:
    with judging:
        judging.attempt.result = _concluded(judging)
    return True


def _concluded(judging: Judging) -> dict[str, Any]:
    outcome = judging.conclude()
    judging.attempt.check_newest()
    figures = outcome.write(judging.attempt.run / "evaluation")
    chosen = next(one for one in judging.candidates if one.id == outcome.chosen.id)
    assert chosen.model is not None
    return {
        "choose_by": outcome.suite.choose_by,
        "chosen": str(chosen),
        "chosen_model": {
            "url": chosen.model.url,
            "sha256": chosen.model_sha256,
            "parents": judging.sources.parents_of(chosen),
        },
        "num_models": len(outcome.board.entries),
        "num_failed": sum(entry.status == "failed" for entry in outcome.board.entries),
        "test": outcome.test.metrics_json(),
        "baselines": {name: baseline["test"] for name, baseline in figures["baselines"].items()},
        "differences": figures["differences"],
        "leaders": figures["leaders"],
        "register_looks": outcome.num_looks,
        "harness": outcome.harness,
        "bias": outcome.bias,
        "candidates_hash": judging.sources.hash(judging.config, judging.candidates, outcome.evaluation_set),
    }


def _leaders(leaders: Mapping[str, Any] | None) -> str:
    """Whether the chosen model is better than the next one, in words; nothing where there is no next one."""
    if leaders is None:
        return ""
    than = "from" if leaders["chosen_is"] == "not distinguishable" else "than"
    return f"on test it is {leaders['chosen_is']} {than} {leaders['runner_up']}, the next on validation; "


def _finetune() -> Finetune:
    from jobs.finetune import finetune

    return finetune
