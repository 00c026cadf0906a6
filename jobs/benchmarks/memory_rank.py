"""What one rank holds: at each ZeRO stage between its collectives, and at ZeRO-3 at its worst moments."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import distributed

from jobs.benchmarks.live_bytes import PeakOfLiveBytes, live_bytes
from llmcore.config.train import TrainSettings
from llmcore.cost.memory import ModelSizes, buckets_for
from llmcore.models.build import build_causal_lm, lay_out_language_model, load_language_model
from llmcore.models.memory import model_sizes
from llmcore.models.packed import PackedBatch
from llmcore.objectives.causal_lm import CausalLM
from llmcore.storage import Folder, read_manifest
from llmcore.tokens.tokenizer import SPECIAL_TOKENS, hugging_face_files, train_tokenizer
from llmcore.train.checkpoint import load_checkpoint, save_checkpoint
from llmcore.train.deepspeed_config import gathering
from llmcore.train.engine import Engine, parameter_home
from llmcore.train.export import export_model
from llmcore.train.precision import Precision
from llmcore.train.progress import Progress

__all__ = ["held_at_worst", "held_between_collectives", "write_tokenizer"]

_CPU = torch.device("cpu")
_NUM_STEPS = 2
# So few tokens that activations are next to nothing beside the model.
_ROW = PackedBatch.of_rows(torch.arange(2, 10)[None], [[8]])


def _settings(stage: int, world_size: int, config: Any, smallest_bucket: int) -> TrainSettings:
    sizes = model_sizes(lay_out_language_model("causal_lm", config))
    buckets = gathering(sizes, buckets_for(sizes, at_least=smallest_bucket))
    return TrainSettings(
        num_steps=_NUM_STEPS,
        global_batch_size=world_size,
        micro_batch_size=1,
        zero_stage=stage,
        deepspeed={"zero_optimization": buckets} if stage == 3 else {},
    )


def _engine(model: torch.nn.Module, settings: TrainSettings, precision: Precision) -> Engine:
    return Engine(model, CausalLM(), settings, num_steps=_NUM_STEPS, precision=precision, device=_CPU)


def held_between_collectives(
    config: Any, stage: int, precision: Precision, world_size: int, smallest_bucket: int
) -> tuple[ModelSizes, dict[str, int]]:
    """Live bytes of this rank `after_backward` and at `step_end`, once the optimizer has its state. A collective."""
    settings = _settings(stage, world_size, config, smallest_bucket)
    before = live_bytes()
    home = parameter_home(settings, precision, _CPU)
    engine = _engine(build_causal_lm(config, seed=0, home=home), settings, precision)
    held: dict[str, int] = {}
    with _before_update(engine, lambda: held.update(after_backward=live_bytes() - before)):
        for step in range(_NUM_STEPS):
            engine.step(step, [_ROW])
    held["step_end"] = live_bytes() - before
    return engine.sizes, held


def write_tokenizer(folder: Path) -> str:
    """The files of a tokenizer, which an export takes along. A collective: rank 0 writes them."""
    if distributed.get_rank() == 0:
        folder.mkdir(parents=True)
        bytes_alone = train_tokenizer(["a"], 256 + len(SPECIAL_TOKENS))
        for name, data in hugging_face_files(bytes_alone, 16).items():
            (folder / name).write_bytes(data)
    distributed.barrier()
    return str(folder)


class _before_update:  # noqa: N801  # a context manager
    """Calls a function before each update of the optimizer, when all gradients are there."""

    def __init__(self, engine: Engine, call: Callable[[], None]) -> None:
        self._deepspeed, self._call = engine._deepspeed, call

    def __enter__(self) -> None:
        update = self._deepspeed.step

        def called_before() -> None:
            self._call()
            update()

        self._deepspeed.step = called_before

    def __exit__(self, *_: object) -> None:
        del self._deepspeed.step  # the class's own is back


def held_at_worst(
    config: Any, precision: Precision, world_size: int, smallest_bucket: int, root: str, tokenizer: str
) -> tuple[ModelSizes, dict[str, int]]:
    """The peak of this rank's live bytes at ZeRO-3 in each part of a run, from building to loading. A collective."""
    settings, root_folder = _settings(3, world_size, config, smallest_bucket), Folder(root)
    peaks: dict[str, int] = {}
    with PeakOfLiveBytes() as alive:
        with alive.during(peaks, "build"):
            model = build_causal_lm(config, seed=0, home=parameter_home(settings, precision, _CPU))
        with alive.during(peaks, "engine"):
            engine = _engine(model, settings, precision)
        with alive.during(peaks, "step"):
            for step in range(_NUM_STEPS):
                engine.step(step, [_ROW])
        with alive.during(peaks, "save"):
            name = save_checkpoint(engine, root_folder / "checkpoints", Progress(step=_NUM_STEPS), attempt=1)
        with alive.during(peaks, "export"):
            export_model(engine, root_folder / "model", Path(tokenizer), "", {})
        with alive.during(peaks, "restore"):
            checkpoint = root_folder / "checkpoints" / name
            manifest = read_manifest(checkpoint)
            assert manifest is not None
            load_checkpoint(engine, checkpoint, manifest)
    with PeakOfLiveBytes() as fresh, fresh.during(peaks, "load"):  # DeepSpeed never lets go of all of an engine
        load_language_model(
            "causal_lm",
            root_folder.as_local("model/") / "model",
            vocab_size=config.vocab_size,
            seed=0,
            home=parameter_home(settings, precision, _CPU),
        )
    return engine.sizes, peaks
