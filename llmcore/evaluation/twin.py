"""The baseline from random weights: the chosen trial's fine-tuning, without what pre-training gave."""

from collections.abc import Mapping
from typing import Any

from llmcore.config.evaluate import EvaluateConfig
from llmcore.config.finetune import FinetuneConfig
from llmcore.errors import RunError
from llmcore.evaluation.searches import Search, Trial, with_values
from llmcore.storage import Folder, read_manifest
from llmcore.tasks.references import find_evaluation_set

__all__ = ["twin_config", "twin_model"]


def twin_config(config: EvaluateConfig, storage: Folder, chosen: Trial, search: Search) -> FinetuneConfig:
    """The chosen trial's hyperparameters and seed, on the same set and architecture, from random weights.

    Args:
        config: The evaluation's configuration.
        storage: Its storage, where the twin is kept, too.
        chosen: The trial.
        search: The search it is from.

    Raises:
        RunError: The trial was given a value for a key that fine-tuning does not have.
    """
    tuned = search.config()
    if tuned is None:
        raise RunError(f"{search.folder.url}/config.yaml has gone: restore it, and evaluate again")
    settings = with_values(tuned.finetune, chosen.settings).model_dump()
    settings["train"]["seed"] = chosen.seed
    base, data = tuned.base, tuned.data
    if search.storage != storage:  # What the search names there has to be found from here.
        base = base if "://" in base or base.startswith("/") else f"{search.storage.url}/{base}"
        data = find_evaluation_set(search.storage, data).folder.url
    return FinetuneConfig.model_validate(
        settings
        | {
            "name": f"{config.name}.random-weights",
            "storage": config.storage,
            "cluster": config.cluster,
            "workers": config.workers,
            "weights": "random",
            "base": base,
            "data": data,
        }
    )


def twin_model(
    storage: Folder, twin: FinetuneConfig, result: Mapping[str, Any], num_steps: int | None
) -> tuple[Folder, str, int]:
    """The twin's model at the step at which the chosen trial was judged: its folder, hash and step.

    A trial that was stopped early had the learning rates of a whole run, so its twin runs whole too, and of that the
    export at the trial's step is taken. Where that was not kept it is the twin's final model: then the twin had more
    steps than the trial, which favours the baseline; the step that is returned says so.

    Args:
        storage: Where the twin's run is kept.
        twin: Its configuration.
        result: Its result: `model` (a path under the storage), `model_sha256` and `num_steps`.
        num_steps: The step at which the chosen trial was judged.
    """
    exports = storage / twin.name / "exports"
    for name in exports.names():
        manifest = read_manifest(exports / name)
        if num_steps is not None and manifest is not None and name.startswith(f"step-{num_steps:08d}-"):
            return exports / name, manifest.sha256, num_steps
    return storage / result["model"], result["model_sha256"], int(result["num_steps"])
