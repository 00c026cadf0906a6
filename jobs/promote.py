"""`promote`: the winner under a name, if it is as it must be. `lineage NAME`: what a run was made of.

Imports neither Ray nor torch.
"""

import json
from collections.abc import Mapping
from typing import Any

from jobs.runtime.console import say
from jobs.runtime.options import RunOptions
from llmcore.config.fairness import COUNTERFACTUAL_GAP
from llmcore.config.promote import PromoteConfig
from llmcore.errors import CheckpointError, ConfigError, GateError
from llmcore.evaluation.markdown import told_over
from llmcore.records import begin_attempt, finished_result, lineage_of, newest_result, run_folder
from llmcore.storage import Folder, read_manifest, resolve_storage, verify_files
from llmcore.train.kept import publish_model

__all__ = ["finished", "plan", "promote", "result_line", "run", "show_lineage"]

KIND = "promote"
STEP_VERSION = 1


def run(config: PromoteConfig, options: RunOptions) -> None:
    """Publishes, unless that is done, and says so."""
    storage = resolve_storage(config.storage, inside_ray_job=options.inside_ray_job)
    say(result_line(promote(config, storage), storage))


def plan(config: PromoteConfig) -> list[str]:
    """What `--dry-run` of a pipeline says."""
    most = config.max_counterfactual_gap
    gate = "" if most is None else f", if its counterfactual gap on test is {most:g} at most"
    return [f"Publishes the model that {config.evaluation} has chosen as {config.name}/model{gate}"]


def finished(config: PromoteConfig, storage: Folder) -> dict[str, Any] | None:
    """The result of an earlier start, where it is of the model that is chosen now, and may be published."""
    judged = newest_result(run_folder(storage, config.evaluation))
    if judged is None or "chosen_model" not in judged or _shut(judged, config) is not None:
        return None
    return _finished(config, storage, judged)


def _finished(config: PromoteConfig, storage: Folder, judged: Mapping[str, Any]) -> dict[str, Any] | None:
    inputs = {"model": judged["chosen_model"]["sha256"]}
    return finished_result(storage, config, kind=KIND, step_version=STEP_VERSION, inputs=inputs)


def result_line(result: Mapping[str, Any], storage: Folder) -> str:
    """The result in words."""
    return f"promote: {result['chosen']} of {result['evaluation']} is {storage.url}/{result['model']}"


def promote(config: PromoteConfig, storage: Folder) -> dict[str, Any]:
    """Publish the model that an evaluation has chosen as the run of this name; done again, it is found done.

    A name keeps its model: another one is refused, as with every run.

    Returns:
        `model` (a path under the storage), `model_sha256`, and what the evaluation said of it.

    Raises:
        ConfigError: The evaluation is not there, or has not ended, or has not measured what is asked for.
        GateError: The model is not as it must be; the message says by how much.
        RunChangedError: The name is another run's.
        CheckpointError: The model is not what was published.
    """
    judged = _judged(config, storage)
    if (why := _shut(judged, config)) is not None:
        raise GateError(f"{judged['chosen']} of {config.evaluation} is not published as {config.name}: {why}")
    result = _finished(config, storage, judged)
    return result if result is not None else _publish(config, storage, judged)


def _judged(config: PromoteConfig, storage: Folder) -> dict[str, Any]:
    run = run_folder(storage, config.evaluation)
    judged = newest_result(run)
    if judged is not None and (sets := judged.get("sets")):
        names = " or ".join(f"{config.evaluation}.{name}" for name in sets)
        raise ConfigError(
            f"{config.evaluation} is an evaluation of several sets, each with a chosen model: name {names}"
        )
    if judged is None or "chosen_model" not in judged:
        raise ConfigError(f"{run.url} is no `evaluate` run that has chosen a model")
    if config.max_counterfactual_gap is not None and COUNTERFACTUAL_GAP not in judged["test"]:
        raise ConfigError(
            f"max_counterfactual_gap={config.max_counterfactual_gap:g}: {run.url} has not measured that gap, or no row "
            "of its test split names anybody: give the evaluation `fairness`, and evaluate again"
        )
    return judged


def _shut(judged: Mapping[str, Any], config: PromoteConfig) -> str | None:
    """Why the gate is shut; None where it is open."""
    most, gap = config.max_counterfactual_gap, judged["test"].get(COUNTERFACTUAL_GAP)
    if most is None or (gap is not None and gap["value"] <= most):
        return None
    return "its counterfactual gap is not known" if gap is None else told_over(gap, most)


def _publish(config: PromoteConfig, storage: Folder, judged: Mapping[str, Any]) -> dict[str, Any]:
    run, model = run_folder(storage, config.evaluation), judged["chosen_model"]
    here = run.parent.url == storage.url
    parents = [config.evaluation, *(one if here else run_folder(run.parent, one).url for one in model["parents"])]
    _check(Folder(model["url"]), model["sha256"])
    with begin_attempt(
        storage,
        config,
        kind=KIND,
        step_version=STEP_VERSION,
        inputs={"model": model["sha256"]},
        parents=parents,
        say=say,
    ) as attempt:
        attempt.check_newest()
        sha256 = publish_model(Folder(model["url"]), attempt.run / "model")
        told = {key: judged[key] for key in ("chosen", "choose_by", "test", "register_looks")}
        attempt.result = {
            "model": f"{config.name}/model",
            "model_sha256": sha256,
            "evaluation": config.evaluation,
            "max_counterfactual_gap": config.max_counterfactual_gap,
            **told,
        }
    return attempt.result


def _check(folder: Folder, sha256: str) -> None:
    """Raises CheckpointError where a model is not the one that was judged."""
    manifest = read_manifest(folder)
    if manifest is None or manifest.sha256 != sha256:
        raise CheckpointError(f"{folder.url} is not there any more as it was judged: evaluate again, and promote that")
    verify_files(folder, manifest)


def show_lineage(reference: str, storage_url: str, as_json: bool) -> None:
    """Print what a run was made of, as a tree or as JSON. Raises ConfigError, StorageError."""
    found = lineage_of(resolve_storage(storage_url, inside_ray_job=False), reference)
    print(json.dumps(found.to_json(), indent=2) if as_json else "\n".join(found.lines()))
