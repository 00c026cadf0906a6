"""`pretrain`: Ray Data streams token shards into Ray Train workers, which train under DeepSpeed ZeRO."""

import time
from functools import partial
from typing import Any

from jobs.runtime.budget import check_budget, within_budget
from jobs.runtime.console import say
from jobs.runtime.options import RunOptions
from jobs.runtime.pretrain_checks import (
    check_epochs,
    check_pairs,
    check_resources,
    check_together,
    check_validation_sets,
    reading_cpus,
)
from jobs.runtime.pretrain_inputs import find_inputs, find_validation_sets, freeze_inputs, urls_of
from jobs.runtime.retries import counted_retries
from jobs.runtime.start import find_or_make
from llmcore.config.pretrain import PretrainConfig
from llmcore.models.foundation import find_foundation
from llmcore.records import Attempt, begin_attempt, finished_result
from llmcore.storage import Folder, read_manifest
from llmcore.train.kept import complete_names, publish_model
from llmcore.train.place import Place

__all__ = ["course", "finished", "plan", "pretrain", "result_line", "run"]

KIND = "pretrain"
STEP_VERSION = 3
_TOLD = (
    "num_steps",
    "skipped_steps",
    "rollbacks",
    "stopped_early",
    "rows_consumed",
    "tokens_seen",
    "train_loss",
    "num_parameters",
    "data_wait_fraction",
    "tokens_per_s",
    "precision",
    "world_size",
    "num_restarts",
    "zero_stage",
    "samples",
    "base_weights",
    "passed_over_checkpoints",
)
"""What the workers' outcome and the run's result share."""


def run(config: PretrainConfig, options: RunOptions) -> None:
    """`python -m jobs pretrain`."""
    result, storage = find_or_make(
        config,
        options,
        finished,
        lambda storage, session: pretrain(config, storage, options, connect_s=session.connect_s),
    )
    say(result_line(result, storage))


def plan(config: PretrainConfig) -> list[str]:
    """What `--dry-run` says: what is done, how large the model is, and what that needs."""
    from jobs.plan import needed_lines

    return [*course(config), *needed_lines(config)]


def course(config: PretrainConfig) -> list[str]:
    """What is done; needs no model."""
    train, workers = config.train, config.workers
    length = f"{train.num_steps} steps" if train.num_steps else f"{train.num_epochs:g} epochs"
    return [
        f"Trains a {config.model.family or 'model'} for {length} of {train.global_batch_size} rows on "
        f"{workers.told()} workers, ZeRO-{train.zero_stage}, precision {train.precision}, from {_origin(config)}"
    ]


def _origin(config: PretrainConfig) -> str:
    if config.stream is None:
        return f"the tokens of {config.tokens}"
    names = ", ".join(source.name for source in config.stream.sources)
    return f"the shards of {names} as they are listed at the start; exact duplicates among them stay"


def result_line(result: dict[str, Any], storage: Folder) -> str:
    """The result in one line."""
    return (
        f"pretrain: {result['num_parameters'] / 1e6:.1f} M parameters, {result['tokens_seen']:,} tokens, "
        f"validation loss {result['validation_loss']:.3f} (unigrams {result['unigram_loss']:.3f}) "
        f"in {storage.url}/{result['model']}"
    )


def finished(config: PretrainConfig, storage: Folder) -> dict[str, Any] | None:
    """The result of an earlier start, if there is nothing left to do."""
    return _finished(config, storage, find_inputs(config, storage))


def _finished(
    config: PretrainConfig, storage: Folder, found: tuple[Folder, dict[str, str]] | None
) -> dict[str, Any] | None:
    if found is None:
        return None
    result = finished_result(storage, config, kind=KIND, step_version=STEP_VERSION, inputs=found[1])
    return result if result and read_manifest(storage / result["model"]) is not None else None


def pretrain(config: PretrainConfig, storage: Folder, options: RunOptions, *, connect_s: float = 0.0) -> dict[str, Any]:
    """Trains, or goes on training, and publishes the best export as `model/`; Ray is connected.

    Raises `ConfigError` for what the cluster cannot hold, `RunError` with ranks and reasons.
    """
    found = find_inputs(config, storage)  # once: a model's folder may be read whole for its hash
    result = _finished(config, storage, found)
    if result is not None:
        return result
    sets = find_validation_sets(config, storage)
    check_resources(config)
    tokens, inputs = found or freeze_inputs(config, storage)
    check_together(config, tokens)
    check_budget(config.budget, storage / config.name, config.workers.num_workers)
    attempt = begin_attempt(
        storage,
        config,
        kind=KIND,
        step_version=STEP_VERSION,
        inputs=inputs,
        parents=[config.tokens] if config.tokens is not None else [],
        accept=lambda run: complete_names(run / "checkpoints"),
        allow_changes=options.allow_changes,
        say=say,
    )
    urls = urls_of(config, storage, [tokens, *sets.values()])
    with attempt, counted_retries(KIND, urls, attempt.result):
        if connect_s:
            attempt.ledger.add_before(connect_s, "connect")
        with within_budget(config.budget, attempt, config.workers.num_workers, KIND):
            outcome = _train(config, storage, tokens, sets, attempt, options)
        attempt.result.update(_publish(attempt, outcome))
        if config.stream is not None:
            from jobs.runtime.streaming import streamed_until

            attempt.result["streamed"] = streamed_until(attempt.run, config.stream, outcome["rows_consumed"])
    return attempt.result


def _stream(
    config: PretrainConfig,
    storage: str,
    stream: dict[str, Any],
    place: Place,
    world_size: int,
) -> Any:
    """The dataset from the newest good checkpoint on; called by Ray Train for each start of the workers.

    Nodes may have gone since the last one, and with them the room beside the workers.
    """
    from jobs.runtime.reader import StreamPlan, token_stream
    from jobs.runtime.streaming import serve_rows

    first_step = place.next_start().step
    plan = StreamPlan(**stream, world_size=world_size, first_step=first_step)
    server = None
    if config.stream is not None and first_step < plan.num_steps:
        raw = config.stream.model_dump(mode="json")
        server = serve_rows(raw, plan.tokens, storage, place, plan.seed, first_step * plan.global_batch)
    return token_stream(plan, server, task_cpus=reading_cpus(config))


def _train(
    config: PretrainConfig,
    storage: Folder,
    tokens: Folder,
    sets: dict[str, Folder],
    attempt: Attempt,
    options: RunOptions,
) -> dict[str, Any]:
    from jobs.runtime.training import charge, check_finished, run_workers, watched
    from llmcore.tokens.shards import TokenShards
    from llmcore.train.lengths import last_step

    shards = TokenShards.open(tokens)
    check_pairs(config, shards)
    check_validation_sets({name: TokenShards.open(folder) for name, folder in sets.items()}, config, shards)
    steps = last_step(config.train, shards.num_rows("train"))
    check_epochs(shards, steps, config.train.global_batch_size)
    stream = {
        "tokens": tokens.url,
        "seed": config.train.seed,
        "global_batch": config.train.global_batch_size,
        "num_steps": steps,
    }
    place = Place.of(attempt)
    spec = {
        "kind": KIND,
        "config": config.model_dump(mode="json"),
        "place": place.as_json(),
        "tokens": tokens.url,
        "validation_sets": {name: folder.url for name, folder in sets.items()},
        "foundation": None if config.model.folder is None else find_foundation(config.model.folder).url,
        "stream": stream,
        "verbose": options.verbose,
    }
    started = time.perf_counter()
    with watched(attempt.folder, "pretrain", steps):
        rows = partial(_stream, config, storage.url, stream, place)
        outcome = run_workers(spec, config.workers, stream=rows)
    charge(attempt.ledger, outcome, time.perf_counter() - started, attempt.folder)
    check_finished(outcome)
    return outcome


def _publish(attempt: Attempt, outcome: dict[str, Any]) -> dict[str, Any]:
    best = attempt.run / "exports" / outcome["progress"]["best_export"]
    attempt.check_newest()
    sha256 = publish_model(best, attempt.run / "model")
    manifest = read_manifest(attempt.run / "model")
    assert manifest is not None
    return {
        "model": f"{attempt.run.name}/model",
        "model_sha256": sha256,
        "best_step": manifest.about["step"],
        "num_validation_rows": manifest.about["num_validation_rows"],
        **manifest.about["metrics"],
        **{key: outcome[key] for key in _TOLD},
    }
