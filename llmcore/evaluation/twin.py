"""The baseline from random weights: the chosen trial's fine-tuning, without what pre-training gave."""

from llmcore.config.evaluate import EvaluateConfig
from llmcore.config.finetune import FinetuneConfig
from llmcore.errors import RunError
from llmcore.evaluation.searches import Search, Trial, with_values
from llmcore.records import run_folder
from llmcore.storage import Folder

__all__ = ["twin_config"]


def twin_config(config: EvaluateConfig, storage: Folder, chosen: Trial, search: Search) -> FinetuneConfig:
    """The chosen trial's hyperparameters, seed and steps, on the same set and architecture, from random weights.

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
    # As many steps, on the same learning rates: a trial that was stopped early had the schedule of a whole run.
    settings["train"] |= {"seed": chosen.seed, "stop_after": chosen.num_steps}
    base, data = tuned.base, tuned.data
    if search.storage != storage:  # What the search names there has to be found from here.
        base = run_folder(search.storage, base).url
    if search.storage != storage or not isinstance(data, str):  # Files may have gone by now; the set is there.
        data = search.evaluation_set(tuned).folder.url
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
