"""What the loop tells and asks of a run: its records, its checkpoints, its exports."""

import math
import time
from collections.abc import Callable, Collection
from functools import partial
from typing import Any

from torch import distributed

from llmcore.cost import Ledger
from llmcore.errors import RunHeldError, StorageError
from llmcore.logs import log
from llmcore.records import StopSignal, checkpoint_name
from llmcore.train.cards import compute_section
from llmcore.train.checkpoint import about_checkpoint, load_checkpoint
from llmcore.train.early_stopping import after_validation
from llmcore.train.engine import Engine, StepResult
from llmcore.train.export import export_model
from llmcore.train.kept import Resumption, newest_checkpoint
from llmcore.train.meter import Meter
from llmcore.train.place import Place
from llmcore.train.probe import probe_loss
from llmcore.train.progress import Progress
from llmcore.train.pruning import prune
from llmcore.train.recipe import Recipe
from llmcore.train.spikes import check_spikes
from llmcore.train.telling import Telling, Watch
from llmcore.train.writer import CheckpointWriter

__all__ = ["Pulse", "Report", "RunHooks", "agreed_place", "agreed_start", "on_first_rank"]

Report = Callable[[dict[str, Any]], None]
"""Tells whoever decides about the run."""
Pulse = Callable[[], None]
"""Tells whoever watches this rank that it lives."""


def on_first_rank(work: Callable[[], None]) -> None:
    """Rank 0 does it; what the storage or a later start refuses is raised on every rank. A collective."""
    told: list[Any] = [None]
    if distributed.get_rank() == 0:
        try:
            work()
        except (RunHeldError, StorageError) as error:
            told = [error]
    distributed.broadcast_object_list(told)
    if told[0] is not None:
        raise told[0]


def agreed_place(place: Place) -> Place:
    """Rank 0's, which has taken the session: see `Place.begun`. A collective."""
    found: list[Any] = [place]
    distributed.broadcast_object_list(found)
    return found[0]  # type: ignore[no-any-return]


def agreed_start(place: Place) -> Resumption:
    """The newest good checkpoint, found by rank 0 and told to all. A collective."""
    found: list[Any] = [None]
    if distributed.get_rank() == 0:
        found[0] = newest_checkpoint(place.checkpoints, place.accepted, place.writer)
    distributed.broadcast_object_list(found)
    return found[0]  # type: ignore[no-any-return]


class RunHooks:
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
        watch: Watch,
    ) -> None:
        self._recipe, self._engine, self._place, self._ledger = recipe, engine, place, ledger
        self._report, self._pulse, self._meter = report, pulse, meter
        self._writer, self._void = writer, set(void)
        self._validated: tuple[int, dict[str, float]] = (-1, {})
        self._stop = StopSignal(place.records) if distributed.get_rank() == 0 else None
        self._told = Telling(engine, place, start.step, watch)

    def stop(self) -> bool:
        """Whether it was asked to stop, of rank 0; each rank says that it lives."""
        self._pulse()
        return self._stop is not None and self._stop.asked()

    def log(self, progress: Progress, result: StepResult) -> None:
        """A row of metrics; a checkpoint that could not be written ends the run here."""
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
        """Tells of a step that moved nothing, and rolls back where the run is to."""
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
            checkpoint = agreed_start(self._place).checkpoint
            if checkpoint is None:
                return progress
            return progress.rolled_back_to(load_checkpoint(self._engine, *checkpoint))

    def validate(self, progress: Progress) -> dict[str, float]:
        """Metrics of the validation split, and what the model writes by then."""
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
            num_trained=engine.num_trained_parameters,
            flops=progress.tokens_seen * self._meter.flops_per_token,
            world_size=engine.world_size,
            device=self._ledger.device,
            precision=engine.precision,
            zero_stage=engine.settings.zero_stage,
        )

    def export(self, progress: Progress, metrics: dict[str, float]) -> Progress:
        """A model folder, where this is the best so far, or each is wanted."""
        compared = self._recipe.compared
        progress = after_validation(progress, metrics, compared, self._recipe.settings)
        best = compared.better(metrics, progress.best_metric)
        if best is None and not self._recipe.exports_every_time:
            return progress
        on_first_rank(self._place.check_newest)
        name = checkpoint_name(progress.step, *self._place.writer)
        about, card = self._described(progress, metrics)
        export_model(self._engine, self._place.exports / name, self._recipe.tokenizer, card, about)
        return progress.exported(name, best)

    def save(self, progress: Progress) -> None:
        """Begins a checkpoint; it is written while training goes on."""
        self._told.flush()  # who goes on from this checkpoint does not tell of its steps again
        name = checkpoint_name(progress.step, *self._place.writer)
        self._void.discard(name)
        step, metrics = self._validated
        metrics = metrics if step == progress.step else {}
        about, card = self._described(progress, metrics)
        described = {
            "probe_loss": probe_loss(self._engine, self._recipe.probe_batch()),
            "metrics": metrics,
            "model": {"about": about, "card": card},
            "run": self._place.fingerprint,
            "saved": time.time(),
        }
        self._writer.save(
            self._engine,
            self._place.checkpoints / name,
            about_checkpoint(self._engine, progress) | described,
            check=self._place.check_newest,
            done=partial(self._saved, name, time.perf_counter()),
        )

    def _saved(self, name: str, began: float) -> None:
        """A checkpoint is complete."""
        seconds = time.perf_counter() - began
        self._told.saved({"checkpoint_time": time.time(), "checkpoint_s": seconds})
        log(f"checkpoint {name} is complete after {seconds:.1f} s", checkpoint=name)
        self._pruning(name)()

    def _pruning(self, newest: str) -> Callable[[], None]:
        settings, better = self._recipe.settings, self._recipe.compared.better
        return partial(prune, self._place, newest, frozenset(self._void), settings, better)

    def tidy(self, newest: str) -> None:
        """Deletes what a dead attempt left beside the checkpoint it was resumed from; saving does so otherwise."""
        if distributed.get_rank() == 0:
            self._pruning(newest)()

    def report(self, progress: Progress, metrics: dict[str, float]) -> None:
        """Tells of a validation."""
        if self._recipe.exports_every_time:  # a scheduler that hears of it may end the run: it must be there to go on
            with self._ledger.measure("checkpoint"):
                self._writer.wait()
        self._told.flush()
        every = self._recipe.settings.validate_every or self._engine.num_steps
        row = {"step": progress.step, "report": -(-progress.step // every), **metrics}
        self._report(row | {"ledger": self._ledger.to_json()})

    def close(self) -> None:
        """Writes what is left of the metrics."""
        if self._stop is not None:
            self._stop.close()
        self._told.close()
