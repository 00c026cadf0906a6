"""The baseline from random weights: the chosen model's fine-tuning, without what pre-training gave."""

from llmcore.config.evaluate import OF_TWIN, EvaluateConfig
from llmcore.config.finetune import FinetuneConfig
from llmcore.evaluation.candidates import Candidate, FineTuning
from llmcore.evaluation.searches import with_values
from llmcore.records import run_folder
from llmcore.storage import Folder

__all__ = ["twin_config"]


def twin_config(config: EvaluateConfig, storage: Folder, chosen: Candidate, made: FineTuning) -> FinetuneConfig:
    """The chosen model's hyperparameters, seed and steps, on the same set and architecture, from random weights.

    A run of its own had all its steps, whichever of its exports was the best, and so has its twin.

    Args:
        config: The evaluation's configuration.
        storage: Its storage, where the twin is kept, too.
        chosen: The model.
        made: How it was made.

    Raises:
        RunError: A trial was given a value for a key that fine-tuning does not have.
    """
    settings = with_values(made.settings, chosen.settings).model_dump()
    if chosen.what == "trial":
        # As many steps, on the same learning rates: a trial that was stopped early had the schedule of a whole run.
        settings["train"] |= {"seed": chosen.seed, "stop_after": chosen.num_steps}
    base, data = made.base, made.data
    if made.storage != storage and (there := run_folder(made.storage, base)).exists():
        base = there.url  # What the run names there has to be found from here.
    if made.storage != storage or not isinstance(data, str):  # Files may have gone by now; the set is there.
        data = made.learnt().folder.url
    return FinetuneConfig.model_validate(
        settings
        | {
            "name": f"{config.name}{OF_TWIN}",
            "storage": config.storage,
            "cluster": config.cluster,
            "workers": config.workers,
            "weights": "random",
            "base": base,
            "data": data,
        }
    )
