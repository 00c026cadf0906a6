"""What is found wrong with a pre-training before a worker starts."""

from typing import TYPE_CHECKING

from llmcore.config.pretrain import PretrainConfig, PretrainSettings
from llmcore.errors import ConfigError
from llmcore.models.foundation import find_foundation
from llmcore.storage import Folder

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cluster.resources import Need
    from llmcore.tokens.shards import TokenShards

__all__ = [
    "check_epochs",
    "check_pairs",
    "check_resources",
    "check_together",
    "check_validation_sets",
    "reading_cpus",
]


def check_resources(config: PretrainConfig) -> None:
    """What can be known before a worker starts."""
    from cluster.resources import Need, check_fits
    from jobs.runtime.training import check_training, worker_need

    check_training(config.train, config.workers)
    data = config.cluster.place.data
    needs = [worker_need("pretrain", config.workers), _reading(config)]
    if config.stream is not None:
        lanes, each = config.stream.num_tasks, config.stream.cpus_per_lane
        needs.append(Need("reading raw shards", each, count=lanes, labels=data))
    check_fits(needs)


def check_together(config: PretrainConfig, tokens: Folder) -> None:
    """Whether objective, tokens and model go together; in a task, since this process can do without torch."""
    if config.objective == "causal_lm" and config.model.folder is None:
        return  # any tokens do
    from jobs.runtime.errors import fetch
    from jobs.runtime.tasks import data_task

    def check(foundation: Folder | None) -> None:
        from llmcore.train.checks import check_pretraining

        check_pretraining(config, tokens, foundation)

    fetch(data_task(check).remote(None if config.model.folder is None else find_foundation(config.model.folder)))


def check_validation_sets(sets: "Mapping[str, TokenShards]", config: PretrainSettings, shards: "TokenShards") -> None:
    """Raises ConfigError where a further set's rows are not such as the model trains on: it could not read them."""
    from llmcore.tokens.tokenizer import tokenizer_hash

    for name, further in sets.items():
        asked = f"validation_sets.{name}={config.validation_sets[name]!r}"
        if tokenizer_hash(further.manifest) != tokenizer_hash(shards.manifest):
            raise ConfigError(
                f"{asked}: its tokens have another tokenizer than those that are trained on, so that their ids mean "
                f"other texts: prepare it with tokenizer.folder={shards.tokenizer_folder().url}, and begin_documents "
                "as there"
            )
        if not further.num_rows("validation"):
            raise ConfigError(f"{asked}: its validation split has no rows: raise its splits.validation")
        if further.sequence_length > shards.sequence_length:
            raise ConfigError(
                f"{asked}: its rows have {further.sequence_length} tokens, and those that are trained on "
                f"{shards.sequence_length}; the model has no more positions: prepare it with "
                f"packing.sequence_length={shards.sequence_length} or less"
            )
        if further.about["sentence_pairs"] != config.next_sentence:
            are, wanted = ("", "false") if further.about["sentence_pairs"] else ("no ", "true")
            raise ConfigError(
                f"{asked}: its rows are {are}sentence pairs, and next_sentence={str(config.next_sentence).lower()}: "
                f"prepare it with packing.sentence_pairs={wanted}"
            )


def reading_cpus(config: PretrainConfig) -> float:
    """CPUs that a reading task reserves: none where workers may leave too few on each node, or it would never start."""
    from cluster.resources import has_room_beside
    from jobs.runtime.training import worker_need

    task = _reading(config)
    return task.cpus if has_room_beside(task, worker_need("pretrain", config.workers)) else 0.0


def _reading(config: PretrainConfig) -> "Need":
    """One task that reads tokens; elastic workers may take all CPUs that there are, and leave it none."""
    from cluster.resources import Need
    from jobs.runtime.reader import TASK_CPUS

    cpus = 0.0 if config.workers.elastic else TASK_CPUS
    return Need("reading the tokens", cpus, labels=config.cluster.place.data)


def check_pairs(config: PretrainConfig, shards: "TokenShards") -> None:
    """Raises ConfigError where the rows are not what the objective reads: sentence pairs of both kinds, or none."""
    are_pairs = shards.about["sentence_pairs"]
    if config.next_sentence and not are_pairs:
        raise ConfigError(
            f"next_sentence=true: the rows of tokens={config.tokens!r} are no sentence pairs: prepare them with "
            "packing.sentence_pairs=true and tokenizer.begin_documents=true, or leave next_sentence out"
        )
    if are_pairs and not config.next_sentence:
        raise ConfigError(
            f"next_sentence=false: the rows of tokens={config.tokens!r} are sentence pairs, half of them of two "
            "documents: set it, or prepare them without packing.sentence_pairs"
        )
    pieces = shards.about["splits"]["train"].get("pieces") if are_pairs else None
    if pieces is not None and not (pieces["follows"] and pieces["random"]):
        raise ConfigError(
            f"next_sentence=true: tokens={config.tokens!r} have {pieces['follows']} train pairs that follow and "
            f"{pieces['random']} of two places, which teaches nothing: give several documents of several sentences"
        )


def check_epochs(shards: "TokenShards", num_steps: int, global_batch: int) -> None:
    """Raises ConfigError where a source would be read more often than it may be."""
    passes = shards.epochs_after(num_steps * global_batch) if shards.mixture else {}
    for source in shards.mixture:
        name, limit = source["name"], source["max_epochs"]
        if limit is not None and passes[name] > limit:
            raise ConfigError(
                f"source {name}: {num_steps} steps of {global_batch} rows read it {passes[name]:.2f} times, more than "
                f"its max_epochs={limit}: lower its `weight` or train.num_steps, or raise max_epochs"
            )
