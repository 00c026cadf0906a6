"""`python -m jobs promote EVALUATION NAME`, and `lineage NAME`: the winner under a name, and what it was made of.

Imports neither Ray nor torch.
"""

import json

from jobs.runtime.console import say
from llmcore.config.promote import PromoteConfig
from llmcore.errors import CheckpointError, ConfigError
from llmcore.records import begin_attempt, finished_result, lineage_of, newest_result, run_folder
from llmcore.storage import Folder, read_manifest, resolve_storage, verify_files
from llmcore.train.kept import publish_model

__all__ = ["promote", "show_lineage"]

KIND = "promote"
STEP_VERSION = 1


def promote(evaluation: str, name: str, storage_url: str) -> None:
    """Publish the model that an evaluation has chosen as the run `name`; done again, it is found done.

    A name keeps its model: another one is refused, as with every run.

    Raises:
        ConfigError: The evaluation is not there, or has not ended.
        RunChangedError: The name is another run's.
        CheckpointError: The model is not what was published.
    """
    storage = resolve_storage(storage_url, inside_ray_job=False)
    run = run_folder(storage, evaluation)
    judged = newest_result(run)
    if judged is not None and (sets := judged.get("sets")):
        names = " or ".join(f"{evaluation}.{name}" for name in sets)
        raise ConfigError(f"{evaluation} is an evaluation of several sets, each with a chosen model: name {names}")
    if judged is None or "chosen_model" not in judged:
        raise ConfigError(f"{run.url} is no `evaluate` run that has chosen a model")
    model = judged["chosen_model"]
    config = PromoteConfig(name=name, storage=storage.url, evaluation=evaluation)
    inputs = {"model": model["sha256"]}
    result = finished_result(storage, config, kind=KIND, step_version=STEP_VERSION, inputs=inputs)
    if result is None:
        here = run.parent.url == storage.url
        parents = [evaluation, *(one if here else run_folder(run.parent, one).url for one in model["parents"])]
        _check(Folder(model["url"]), model["sha256"])
        with begin_attempt(
            storage, config, kind=KIND, step_version=STEP_VERSION, inputs=inputs, parents=parents, say=say
        ) as attempt:
            sha256 = publish_model(Folder(model["url"]), attempt.run / "model")
            told = {key: judged[key] for key in ("chosen", "choose_by", "test", "register_looks")}
            attempt.result = {"model": f"{name}/model", "model_sha256": sha256, **told}
    say(f"promote: {judged['chosen']} of {evaluation} is {storage.url}/{name}/model")


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
