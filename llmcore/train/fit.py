"""One run on one rank: from a recipe to a trained, exported model. Knows nothing of who started it."""

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from itertools import chain
from typing import Any

import torch
from torch import distributed, nn

from llmcore.cost import Ledger
from llmcore.cost.flops import peak_flops_per_s, training_flops_per_token
from llmcore.models.initialize import whole_shape
from llmcore.records import StopSignal, checkpoint_name
from llmcore.train.architecture import publish_architecture
from llmcore.train.cards import compute_section
from llmcore.train.checkpoint import about_checkpoint, load_checkpoint, seed_rank
from llmcore.train.dry_step import dry_step
from llmcore.train.engine import Engine, StepResult, parameter_home
from llmcore.train.export import export_model
from llmcore.train.kept import Resumption, newest_checkpoint
from llmcore.train.loop import train
from llmcore.train.meter import Meter
from llmcore.train.place import Place
from llmcore.train.precision import resolve_precision
from llmcore.train.prefetch import prefetched
from llmcore.train.probe import check_probe, probe_loss
from llmcore.train.progress import Progress
from llmcore.train.pruning import prune
from llmcore.train.recipe import Recipe
from llmcore.train.spikes import check_spikes
from llmcore.train.telling import Telling
from llmcore.train.writer import CheckpointWriter

__all__ = ["fit"]

Report = Callable[[dict[str, Any]], None]
Pulse = Callable[[], None]


class _RunHooks:
    """What the loop tells and asks; files are written by rank 0, collectives are made by all."""

    def __init__(
        self,
        recipe: Recipe,
        engine: Engine,
        place: Place,
        start: Progress,
        report: Report,
        pulse: Pulse,
        ledger: Ledger,
        meter: Meter,
        writer: CheckpointWriter,
        void: Collection[str],
    ) -> None:
        self._recipe, self._engine, self._place, self._ledger = recipe, engine, place, ledger
        self._report, self._pulse, self._meter = report, pulse, meter
        self._writer, self._void = writer, set(void)
        self._validated: tuple[int, dict[str, float]] = (-1, {})
        self._stop = StopSignal(place.records) if distributed.get_rank() == 0 else None
        self._told = Telling(engine, place, start.step)

    def stop(self) -> bool:
        self._pulse()
        return self._stop is not None and self._stop.asked()

    def log(self, progress: Progress, result: StepResult) -> None:
        taken = {} if result.skipped else {"loss": result.loss, "grad_norm": result.grad_norm}
        self._told.row(
            {
                "step": progress.step,
                **taken,
                "rows_consumed": progress.step * self._recipe.settings.global_batch_size,
                "tokens_seen": progress.tokens_seen,
                "learning_rate": result.learning_rate,
                "skipped_steps": progress.skipped_steps,
                "rollbacks": progress.rollbacks,
                **({} if result.loss_scale is None else {"loss_scale": result.loss_scale}),
                **self._meter.read(progress.tokens_seen),
            }
        )
        self._writer.poll(self._engine)

    def skipped(self, progress: Progress, result: StepResult) -> Progress:
        loss = result.loss if math.isfinite(result.loss) else None
        self._told.row({"step": progress.step, "skipped": result.skipped, "skipped_loss": loss})
        spikes = self._recipe.settings.spikes
        if result.skipped != "spike" or spikes is None:
            return progress
        check_spikes(spikes, progress)
        return self._rolled_back(progress) if spikes.action == "roll_back" else progress

    def _rolled_back(self, progress: Progress) -> Progress:
        """Weights and optimizer as the newest checkpoint has them; where there is none yet, as they are."""
        with self._ledger.measure("checkpoint"):
            self._writer.wait()
            checkpoint = _agreed_start(self._place).checkpoint
            if checkpoint is None:
                return progress
            return progress.rolled_back_to(load_checkpoint(self._engine, *checkpoint))

    def validate(self, progress: Progress) -> dict[str, float]:
        metrics = self._recipe.validate(self._engine)
        self._told.row({"step": progress.step, **metrics})
        self._validated = (progress.step, metrics)
        if samples := self._recipe.samples(self._engine):
            self._told.row({"step": progress.step, "samples": samples})
        return metrics

    def _described(self, progress: Progress, metrics: dict[str, float]) -> tuple[dict[str, Any], str]:
        """What a model folder's manifest says, and its card."""
        about, card = self._recipe.describe(progress, metrics)
        engine = self._engine
        return about, card + compute_section(
            num_parameters=engine.num_parameters,
            flops=progress.tokens_seen * self._meter.flops_per_token,
            world_size=engine.world_size,
            device=self._ledger.device,
            precision=engine.precision,
            zero_stage=engine.settings.zero_stage,
        )

    def export(self, progress: Progress, metrics: dict[str, float]) -> Progress:
        best = self._recipe.better(metrics, progress.best_metric)
        if best is None and not self._recipe.exports_every_time:
            return progress
        name = checkpoint_name(progress.step, self._place.attempt)
        about, card = self._described(progress, metrics)
        export_model(self._engine, self._place.exports / name, self._recipe.tokenizer, card, about)
        return progress.exported(name, best)

    def save(self, progress: Progress) -> None:
        self._told.flush()  # who goes on from this checkpoint does not tell of its steps again
        name = checkpoint_name(progress.step, self._place.attempt)
        self._void.discard(name)
        step, metrics = self._validated
        metrics = metrics if step == progress.step else {}
        about, card = self._described(progress, metrics)
        described = {
            "probe_loss": probe_loss(self._engine, self._recipe.probe_batch()),
            "metrics": metrics,
            "model": {"about": about, "card": card},
            "run": self._place.fingerprint,
        }
        self._writer.save(
            self._engine,
            self._place.checkpoints / name,
            about_checkpoint(self._engine, progress) | described,
            check=self._place.check_newest,
            done=partial(prune, self._place, name, frozenset(self._void), self._recipe.settings, self._recipe.better),
        )

    def report(self, progress: Progress, metrics: dict[str, float]) -> None:
        if self._recipe.exports_every_time:  # a scheduler that hears of it may end the run: it must be there to go on
            with self._ledger.measure("checkpoint"):
                self._writer.wait()
        self._told.flush()
        every = self._recipe.settings.validate_every or self._engine.num_steps
        row = {"step": progress.step, "report": -(-progress.step // every), **metrics}
        self._report(row | {"ledger": self._ledger.to_json()})

    def close(self) -> None:
        if self._stop is not None:
            self._stop.close()
        self._told.close()


def _agreed_start(place: Place) -> Resumption:
    """The newest good checkpoint, found by rank 0 and told to all. A collective."""
    found: list[Any] = [None]
    if distributed.get_rank() == 0:
        found[0] = newest_checkpoint(place.checkpoints, place.accepted, place.attempt)
    distributed.broadcast_object_list(found)
    return found[0]  # type: ignore[no-any-return]


def fit(
    recipe: Recipe, place: Place, *, device: torch.device, report: Report, pulse: Pulse, ledger: Ledger
) -> dict[str, Any]:
    """Trains from the newest good checkpoint, or from the start, to the end. A collective of all ranks.

    Args:
        recipe: What is trained.
        place: Where it writes.
        device: This rank's device.
        report: Told of each validation, after what it tells of is exported and saved; every rank calls it.
        pulse: Called before each step: who watches this rank knows that it lives.
        ledger: Takes the time and FLOPs of this rank.

    Returns:
        Plain JSON of how it ended; the same on each rank, but for the ledger.
    """
    settings = recipe.settings
    resumption = _agreed_start(place)
    checkpoint = resumption.checkpoint
    start = Progress() if checkpoint is None else Progress(**checkpoint[1].about["progress"])
    batches: Iterator[Sequence[Any]] = iter(())
    last_step = min(recipe.num_steps, settings.stop_after or recipe.num_steps)
    if start.step < last_step:
        batches = prefetched(recipe.step_batches(start.step))  # reads while the model is built
    with ledger.measure("start_up", "model"):
        precision = resolve_precision(settings)
        model = recipe.build_model(parameter_home(settings, precision, device))
    with ledger.measure("start_up", "engine"):
        engine = Engine(
            model, recipe.objective, settings, num_steps=recipe.num_steps, precision=precision, device=device
        )
    seed_rank(settings.seed, start.step)
    if checkpoint is not None:
        with ledger.measure("restart"):
            load_checkpoint(engine, *checkpoint)
            check_probe(engine, recipe.probe_batch(), *checkpoint)
    publish_architecture(engine, recipe.tokenizer, place.run)
    if start.step < last_step:
        with ledger.measure("start_up", "first_batch"):
            batches = chain([next(batches)], batches)
    if settings.dry_step is True or (settings.dry_step == "auto" and device.type == "cuda"):
        with ledger.measure("start_up", "dry_step"):
            dry_step(engine, recipe.longest_batch())
    flops_per_token = _flops_per_token(recipe, engine)
    ledger.peak_flops_per_s = settings.peak_flops_per_s or peak_flops_per_s(ledger.device, precision)
    meter = Meter(ledger, flops_per_token, start.tokens_seen)
    with CheckpointWriter(device) as writer:
        hooks = _RunHooks(recipe, engine, place, start, report, pulse, ledger, meter, writer, resumption.passed_over)
        try:
            progress = train(engine, batches, start, settings, hooks, ledger)
            with ledger.measure("checkpoint"):
                writer.wait()
        finally:
            hooks.close()
    num_tokens = progress.tokens_seen - start.tokens_seen
    ledger.count(flops=num_tokens * flops_per_token, tokens=num_tokens)
    seconds = ledger.to_json()["seconds"]
    trained_s = seconds["compute"] + seconds["data_wait"]
    return {
        "progress": progress.to_json(),
        "train_loss": progress.last_loss,
        "num_steps": progress.step,
        "skipped_steps": progress.skipped_steps,
        "rollbacks": progress.rollbacks,
        "rows_consumed": progress.step * settings.global_batch_size,
        "tokens_seen": progress.tokens_seen,
        "num_parameters": engine.num_parameters,
        "data_wait_fraction": seconds["data_wait"] / trained_s if trained_s else 0.0,
        "tokens_per_s": num_tokens / trained_s if trained_s else 0.0,
        "precision": precision,
        "world_size": engine.world_size,
        "zero_stage": settings.zero_stage,
        "resumed_at": start.step,
        "stopped": progress.step < last_step,
        "passed_over_checkpoints": list(resumption.passed_over.values()),
        "base_weights": getattr(model, "llmcore_weights", None),
    }


def _flops_per_token(recipe: Recipe, engine: Engine) -> float:
    config: Any = engine.model.config
    head: Any = engine.model.get_output_embeddings()  # type: ignore[operator]
    looked_up = {id(module.weight) for module in engine.model.modules() if isinstance(module, nn.Embedding)}
    # Look-ups multiply nothing; a head does, also where its matrix is that of a look-up.
    matrices = [
        whole_shape(parameter).numel()
        for parameter in engine.model.parameters()
        if len(whole_shape(parameter)) >= 2
        and (id(parameter) not in looked_up or (head is not None and parameter is head.weight))
    ]
    return training_flops_per_token(
        num_matmul_parameters=sum(matrices),
        num_layers=config.num_hidden_layers,
        hidden_size=config.hidden_size,
        attended_tokens=recipe.attended_tokens(),
    )
