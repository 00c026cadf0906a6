"""A whole run without Ray: an attempt, a recipe, `fit`; here, or in a process that can be stopped.

python -m tests.tiny_run STORAGE TOKENIZER NUM_STEPS STEP_S [again]
"""

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import distributed, nn

from llmcore.config.base import identity
from llmcore.config.common import JobSettings
from llmcore.config.train import TrainSettings
from llmcore.cost import Ledger, Work
from llmcore.evaluation.compared import LOSS
from llmcore.models.initialize import Home
from llmcore.objectives.causal_lm import CausalLM
from llmcore.records import Attempt, Timing, begin_attempt
from llmcore.storage import Folder
from llmcore.tokens.tokenizer import hugging_face_files, train_tokenizer
from llmcore.train.kept import complete_names, publish_model
from llmcore.train.place import Place
from llmcore.train.progress import Progress
from tests.engines import ROWS, batch_of, micro_batches, tiny_model, tiny_settings
from tests.ranks import enter_rank, free_port

__all__ = ["FAST", "TinyConfig", "TinyRecipe", "fit_tiny", "write_tokenizer"]

FAST = Timing(beat_s=0.1, stale_s=1.0, drained_s=0.3)


class TinyConfig(JobSettings):
    """The configuration of a run of this recipe."""

    train: TrainSettings = identity(description="The optimization.")


def write_tokenizer(folder: Path) -> Path:
    """The files of a small tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in hugging_face_files(
        train_tokenizer(["open close read write seek path folder"] * 4, 330), 16
    ).items():
        (folder / name).write_bytes(data)
    return folder


class TinyRecipe:
    """Causal language modelling of the rows of `tests.engines`; the loss of the last three rows validates."""

    exports_every_time = False
    compared = LOSS

    def __init__(self, settings: TrainSettings, tokenizer: Path, step_s: float = 0.0, objective: Any = None) -> None:
        self.settings = settings
        self.tokenizer = tokenizer
        self.objective = objective or CausalLM()
        self._step_s = step_s

    @property
    def num_steps(self) -> int:
        assert self.settings.num_steps is not None
        return self.settings.num_steps

    def build_model(self, home: Home | None) -> nn.Module:
        return tiny_model(home)

    def step_batches(self, first_step: int) -> Iterator[Sequence[Any]]:
        for step in range(first_step, self.num_steps):
            time.sleep(self._step_s)
            yield micro_batches(self, step)

    @cached_property
    def _validation(self) -> Any:
        return batch_of(np.arange(len(ROWS) - 3, len(ROWS)))

    def validate(self, engine: Any) -> dict[str, float]:
        with engine.evaluating():
            [loss] = engine.measure(self._validation, self.objective.loss_sums)
        return {"validation_loss": loss / self.objective.num_targets(self._validation)[0]}

    def longest_batch(self) -> Any:
        return batch_of(np.array([1, 2]))

    def samples(self, engine: Any) -> list[dict[str, str]]:
        return []

    def probe_batch(self) -> Any:
        return self._validation

    def told(self) -> dict[str, Any]:
        return {}

    def work_per_token(self) -> Work:
        return self.objective.work(self._validation).per(self.objective.num_tokens(self._validation))

    def describe(self, progress: Progress, metrics: dict[str, float]) -> tuple[dict[str, Any], str]:
        return {"step": progress.step, "metrics": metrics}, f"# After {progress.step} steps\n"


def fit_tiny(
    storage: Folder,
    tokenizer: Path,
    *,
    step_s: float = 0.0,
    report: Callable[[dict[str, Any]], None] = lambda _: None,
    recipe: type[TinyRecipe] = TinyRecipe,
    objective: Any = None,
    again: bool = False,
    **train: Any,
) -> dict[str, Any]:
    """Begins an attempt at the run `tiny`, trains, publishes the model; `train` changes the settings. A collective.

    `again`: as the workers of the first attempt that are started anew, where others count as lost.
    """
    from llmcore.train.fit import fit

    zero_stage = train.pop("zero_stage", 2)
    settings = tiny_settings(zero_stage, **{"log_every": 1, "checkpoint_every": 2, "validate_every": 4} | train)
    is_first = distributed.get_rank() == 0
    attempt = _begin(storage, settings) if is_first and not again else None
    ledger = Ledger(1, "cpu")
    with attempt or nullcontext():
        run = storage / "tiny"
        place = Place.of(attempt) if attempt else Place(run, 1, (), run)
        told = [place.begun().as_json() if is_first else None]
        distributed.broadcast_object_list(told)
        assert told[0] is not None
        place, made = Place.from_json(told[0]), recipe(settings, tokenizer, step_s, objective)
        outcome = fit(made, place, device=torch.device("cpu"), report=report, pulse=lambda: None, ledger=ledger)
        if attempt:
            attempt.check_newest()
            attempt.result.update(outcome)
        if attempt and not outcome["stopped"]:
            publish_model(place.exports / outcome["progress"]["best_export"], attempt.run / "model")
    return {**outcome, "ledger": ledger.to_json()}


def _begin(storage: Folder, settings: TrainSettings) -> Attempt:
    return begin_attempt(
        storage,
        TinyConfig(name="tiny", storage=storage.url, train=settings),
        kind="tiny",
        step_version=1,
        inputs={},
        accept=lambda run: complete_names(run / "checkpoints"),
        allow_changes=True,
        timing=FAST,
    )


def _main(storage: str, tokenizer: str, num_steps: str, step_s: str, *again: str) -> None:
    def run() -> None:
        train = {"num_steps": int(num_steps), "again": bool(again)}
        outcome = fit_tiny(Folder(storage), Path(tokenizer), step_s=float(step_s), **train)
        print(json.dumps(outcome["passed_over_checkpoints"]), flush=True)

    enter_rank(0, 1, free_port(), run, (), storage)


if __name__ == "__main__":
    _main(*sys.argv[1:])
