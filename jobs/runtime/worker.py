"""What each Ray Train worker runs: the recipe of its job, through `llmcore.train.fit`."""

import importlib
import os
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import pyarrow as pa

    from jobs.runtime.watchdog import Pulse
    from llmcore.cost import Ledger
    from llmcore.train.place import Place
    from llmcore.train.telling import Watch

__all__ = ["train_worker"]


def _set_up(threads: int) -> Any:
    """This worker's device, in the process group; before DeepSpeed is imported, which looks at the environment."""
    import torch

    from jobs.runtime.process_group import form_process_group

    if torch.cuda.is_available():
        import ray.train.torch

        device = ray.train.torch.get_device()
        torch.cuda.set_device(device)
        form_process_group("nccl")
        return device
    os.environ.setdefault("DS_ACCELERATOR", "cpu")
    torch.set_num_threads(threads)
    form_process_group("gloo")
    return torch.device("cpu")


def train_worker(spec: dict[str, Any]) -> dict[str, Any]:
    """Trains on one rank; returns the outcome and the ledger as plain JSON.

    `spec`: `kind` (pretrain, finetune or transfer), `config` (its JSON), `place` (see `Place.as_json`), `launched`
    (when the driver called `fit`, seconds since the epoch), and the URLs of what is read. Raises `HungRankError` where
    the rank hangs. What it raises it has written down: see `record_rank_error`.
    """
    import ray.train

    from jobs.runtime.watchdog import supervised
    from llmcore.train.place import Place

    rank, place = ray.train.get_context().get_world_rank(), Place.from_json(spec["place"])
    try:
        if rank == 0:  # before all else: who is paused from here on finds that others have taken its place
            spec = spec | {"place": place.begun().as_json()}
        return supervised(lambda pulse: _train(spec, pulse), spec["config"]["workers"]["hang_s"])
    except Exception as error:
        from llmcore.logs import log
        from llmcore.records import record_rank_error

        log(f"a rank fails: {type(error).__name__}: {error}", error=error)
        record_rank_error(place.records, rank, error)
        raise


def _train(spec: dict[str, Any], pulse: "Pulse") -> dict[str, Any]:
    entered = time.time()
    from jobs.runtime.console import quiet

    quiet(spec["verbose"])
    import ray.train

    watch = _watched(spec)
    started = time.perf_counter()
    early = _start_reading(spec)
    from llmcore.config.common import WorkerSettings

    workers = WorkerSettings.model_validate(spec["config"]["workers"])
    device = _set_up(workers.threads_per_worker)
    modules, work = _WORK[spec["kind"]]
    for module in modules:
        importlib.import_module(module)
    from jobs.runtime.process_group import leave_process_group
    from llmcore.cost import Ledger
    from llmcore.errors import DivergedError
    from llmcore.logs import log
    from llmcore.train.place import Place

    context = ray.train.get_context()
    ledger = Ledger(context.get_world_size(), _device_name(device))
    ledger.add("start_up", max(0.0, entered - spec["launched"]), "placement")
    ledger.add("start_up", time.perf_counter() - started, "imports")
    rank = _Rank(Place.from_json(spec["place"]), device, pulse, ledger, watch)
    try:
        outcome = work(spec, early, rank)
    except DivergedError as error:
        # It is the same on all ranks and would be again: told, not raised, so that Ray Train does not try anew.
        return {"diverged": str(error)}
    leave_process_group()
    log(f"a rank has ended at step {outcome.get('num_steps')}")
    return {"samples": [], **outcome, "ledger": ledger.to_json()}


class _Rank(NamedTuple):
    """Where and on what a rank works."""

    place: "Place"
    device: Any
    pulse: "Pulse"
    ledger: "Ledger"
    watch: "Watch"


def _watched(spec: dict[str, Any]) -> "Watch":
    """Who watches this rank; of all but the first, nobody. From now on what it logs says whose it is."""
    import ray.train

    from jobs.runtime.metrics import RunMetrics
    from llmcore.logs import about, log
    from llmcore.train.place import Place

    context = ray.train.get_context()
    rank, metrics = context.get_world_rank(), RunMetrics.of(Place.from_json(spec["place"]), spec["kind"])
    about(**metrics.who(), rank=rank)
    log(f"a rank of {context.get_world_size()} starts", world_size=context.get_world_size())
    if rank != 0:
        return lambda _: None
    metrics.launched(spec["launched"])
    return metrics.told


def _device_name(device: Any) -> str:
    import torch

    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def _start_reading(spec: dict[str, Any]) -> Any:
    """This rank's rows, if it has some: asked for before torch is imported, so that the first are there by then."""
    if "stream" not in spec:
        return None
    import ray.train

    from jobs.runtime.reader import batches_of
    from llmcore.tokens.order import padded_share_size
    from llmcore.train.prefetch import prefetched

    share_size = padded_share_size(spec["stream"]["global_batch"], ray.train.get_context().get_world_size())
    return prefetched(batches_of(ray.train.get_dataset_shard("train"), share_size))


def _fitted(recipe_of: Callable[[dict[str, Any], Any], Any]) -> "_Work":
    """One run of a recipe, to its end; rank 0 has the best export go on from the configuration's prompts."""

    def work(spec: dict[str, Any], early: Any, rank: _Rank) -> dict[str, Any]:
        import ray.train

        from llmcore.train.fit import fit

        with rank.ledger.measure("start_up", "data"):
            recipe = recipe_of(spec, early)
        outcome = fit(
            recipe,
            rank.place,
            device=rank.device,
            report=ray.train.report,
            pulse=rank.pulse,
            ledger=rank.ledger,
            watch=rank.watch,
        )
        prompts = spec["config"].get("sample_prompts")
        if prompts and not outcome["stopped"] and ray.train.get_context().get_world_rank() == 0:
            from llmcore.models.generation.samples import continue_prompts

            best = rank.place.run / "exports" / outcome["progress"]["best_export"]
            outcome["samples"] = continue_prompts(best.as_local(), prompts, seed=recipe.settings.seed)
        return outcome

    return work


def _pretraining(spec: dict[str, Any], early: Any) -> Any:
    import ray.train

    from jobs.runtime.reader import StreamPlan, share_tables
    from llmcore.config.pretrain import PretrainConfig
    from llmcore.storage import Folder
    from llmcore.tokens.shards import TokenShards
    from llmcore.train.deepspeed_config import num_micro_batches
    from llmcore.train.pretraining import Pretraining

    config = PretrainConfig.model_validate(spec["config"])
    context = ray.train.get_context()
    num_parts = num_micro_batches(config.train, context.get_world_size())

    def stream(first_step: int) -> "Iterator[pa.Table]":
        plan = StreamPlan(**spec["stream"], world_size=context.get_world_size(), first_step=first_step)
        return share_tables(early, plan, context.get_world_rank())

    foundation = None if spec["foundation"] is None else Folder(spec["foundation"])
    sets = {name: TokenShards.open(Folder(url)) for name, url in spec["validation_sets"].items()}
    return Pretraining(config, TokenShards.open(Folder(spec["tokens"])), stream, num_parts, foundation, sets)


def _finetuning(spec: dict[str, Any], _: Any) -> Any:
    from llmcore.config.finetune import FinetuneConfig
    from llmcore.storage import Folder
    from llmcore.tasks.evaluation_set import EvaluationSet
    from llmcore.train.finetuning import Finetuning

    config = FinetuneConfig.model_validate(spec["config"])
    data = EvaluationSet.open(Folder(spec["data"]))
    return Finetuning(config, Folder(spec["base"]).as_local(), data, spec["base_sha256"])


def _transfer(spec: dict[str, Any], _: Any, rank: _Rank) -> dict[str, Any]:
    from llmcore.config.transfer import Point, TransferConfig
    from llmcore.storage import Folder
    from llmcore.train.transfer import train_points

    config, base = TransferConfig.model_validate(spec["config"]), Folder(spec["base"]).as_local()
    data = [(Point(*point), url) for point, url in spec["points"]]
    on = {"device": rank.device, "pulse": rank.pulse, "ledger": rank.ledger}
    return train_points(config, base, spec["base_sha256"], data, rank.place, **on)


_Work = Callable[[dict[str, Any], Any, _Rank], dict[str, Any]]
"""From the spec, and the rows that are on their way, to the outcome."""
_WORK: dict[str, tuple[tuple[str, ...], _Work]] = {
    "pretrain": (("llmcore.train.pretraining", "llmcore.train.fit"), _fitted(_pretraining)),
    "finetune": (("llmcore.train.finetuning", "llmcore.train.fit"), _fitted(_finetuning)),
    "transfer": (("llmcore.train.transfer",), _transfer),
}
"""The modules that each kind of job imports, which is told as such, and what it does."""
