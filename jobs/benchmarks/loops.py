"""Training loops on the same packed rows: ours, and the plain ones that it is held against."""

import time
from collections.abc import Callable
from contextlib import nullcontext
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor, distributed, nn
from torch.nn import functional
from transformers import AutoModelForCausalLM

from jobs.benchmarks.row_tensors import block_mask, document_positions, next_tokens, row_tensors
from llmcore.config.train import TrainSettings
from llmcore.models.build import build_causal_lm
from llmcore.models.packed import PackedBatch
from llmcore.objectives.causal_lm import CausalLM
from llmcore.objectives.rows import packed_micro_batches
from llmcore.tokens.order import RowOrder
from llmcore.train.deepspeed_config import num_micro_batches
from llmcore.train.engine import Engine
from llmcore.train.precision import Precision
from llmcore.train.rows import step_rows

__all__ = ["Block", "Job", "Loop", "OurLoop", "PlainLoop", "Summed", "TrainerLoop"]


@dataclass(frozen=True)
class Job:
    """What all loops do.

    Attributes:
        rows: of `row_schema`.
        config: transformers config of the model.
        settings: the optimization; a constant learning rate, and one micro batch a step.
        precision: fp32, or bf16: DeepSpeed's in ours, autocast in the others.
    """

    rows: pa.Table
    config: Any
    settings: TrainSettings
    precision: Precision

    def own_rows(self, step: int) -> pa.Table:
        """This rank's rows of a step."""
        rank, world_size = distributed.get_rank(), distributed.get_world_size()
        order = RowOrder(self.rows.num_rows, self.settings.seed)
        rows = step_rows(order, self.settings.global_batch_size, world_size, rank, step)
        return self.rows.take(pa.array(rows)).combine_chunks()

    def num_tokens(self, steps: range) -> int:
        """Real tokens of the steps, over all ranks."""
        order = RowOrder(self.rows.num_rows, self.settings.seed)
        rows = [step_rows(order, self.settings.global_batch_size, 1, 0, step) for step in steps]
        lengths = self.rows["document_lengths"].take(pa.array(np.concatenate(rows)))
        return sum(map(sum, lengths.to_pylist()))

    def our_model(self) -> nn.Module:
        """The model with attention inside documents."""
        return build_causal_lm(deepcopy(self.config), seed=self.settings.seed)

    def plain_model(self) -> nn.Module:
        """Our weights in a model with PyTorch's scaled dot product attention over whole rows."""
        # A model writes its attention into the config it is given.
        model: nn.Module = AutoModelForCausalLM.from_config(
            deepcopy(self.config), attn_implementation="sdpa", trust_remote_code=False
        )
        model.load_state_dict(self.our_model().state_dict())
        return model


@dataclass(frozen=True)
class Block:
    """Some steps: their seconds on the wall, and the loss of each, where the loop tells it."""

    seconds: float
    losses: list[float]


class Loop(Protocol):
    """A model being trained."""

    def run(self, steps: range) -> Block:
        """Take these steps, after those taken before. A collective."""


def _timed(steps: range, take: Callable[[int], float]) -> Block:
    distributed.barrier()
    started = time.perf_counter()
    losses = [take(step) for step in steps]
    distributed.barrier()
    return Block(time.perf_counter() - started, losses)


class OurLoop:
    """`llmcore`: the engine and the objective, attention inside documents without a mask."""

    def __init__(self, job: Job, stage: Literal[0, 1, 2, 3]) -> None:
        self._job = job
        self._num_parts = num_micro_batches(job.settings, distributed.get_world_size())
        self._engine = Engine(
            job.our_model(),
            CausalLM(),
            job.settings.model_copy(update={"zero_stage": stage}),
            num_steps=job.settings.num_steps or 0,
            precision=job.precision,
            device=torch.device("cpu"),
        )

    def run(self, steps: range) -> Block:
        """Take these steps."""
        return _timed(steps, self._step)

    def _step(self, step: int) -> float:
        rows = self._job.own_rows(step)
        batches = packed_micro_batches(rows, self._num_parts, self._job.settings.micro_batch_size)
        return self._engine.step(step, batches).loss


Attention = Literal["ours", "mask", "leaks"]


class Summed(nn.Module):
    """Our model and objective as what others wrap: a batch's loss, summed over its targets."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self._model = model

    def forward(self, batch: PackedBatch) -> Tensor:
        """The sum."""
        return CausalLM().loss_sums(self._model, batch).sum()


class PlainLoop:
    """PyTorch's DistributedDataParallel and transformers' model, written as one would by hand.

    `ours` is our attention, so that only DeepSpeed is left to compare. `mask` is exact, with a block-diagonal boolean
    mask and positions that start anew in each document; `leaks`, as is usual, has neither, so that documents see those
    before them in their row.
    """

    def __init__(self, job: Job, attention: Attention) -> None:
        self._job = job
        self._attention = attention
        model = Summed(job.our_model()) if attention == "ours" else job.plain_model()
        self._model = nn.parallel.DistributedDataParallel(model)
        optimizer = job.settings.optimizer
        groups = [
            {"params": [p for p in model.parameters() if p.dim() >= 2], "weight_decay": optimizer.weight_decay},
            {"params": [p for p in model.parameters() if p.dim() < 2], "weight_decay": 0.0},
        ]
        self._optimizer = torch.optim.AdamW(
            groups, lr=optimizer.learning_rate, betas=optimizer.betas, eps=optimizer.epsilon, fused=True
        )

    def run(self, steps: range) -> Block:
        """Take these steps."""
        return _timed(steps, self._step)

    def _step(self, step: int) -> float:
        rows = self._job.own_rows(step)
        with torch.autocast("cpu", torch.bfloat16) if self._job.precision == "bf16" else nullcontext():
            loss_sum, num_targets = self._ours(rows) if self._attention == "ours" else self._plain(rows)
        distributed.all_reduce(num_targets)
        self._optimizer.zero_grad()
        scaled = loss_sum * distributed.get_world_size() / num_targets  # the average over ranks is DDP's
        scaled.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self._model.parameters(), self._job.settings.optimizer.max_grad_norm)
        self._optimizer.step()
        total = loss_sum.detach().double()
        distributed.all_reduce(total)
        return float(total / num_targets)

    def _ours(self, rows: pa.Table) -> tuple[Tensor, Tensor]:
        """Sum of the losses of the targets, and how many they are."""
        [batch] = packed_micro_batches(rows, 1, rows.num_rows)
        return self._model(batch), torch.tensor(CausalLM().num_targets(batch)[0])

    def _plain(self, rows: pa.Table) -> tuple[Tensor, Tensor]:
        tokens, documents = row_tensors(rows)
        labels, given = next_tokens(tokens, documents, across=self._attention == "leaks"), {}
        if self._attention == "mask":
            given = {"attention_mask": block_mask(documents), "position_ids": document_positions(documents)}
        logits = self._model(input_ids=tokens, use_cache=False, **given).logits
        loss_sum = functional.cross_entropy(logits.float().flatten(0, 1), labels.flatten(), reduction="sum")
        return loss_sum, (labels != -100).sum()


class TrainerLoop:
    """transformers' Trainer on the same rows, packed as its examples pack them: documents see those before them.

    It needs accelerate.
    """

    def __init__(self, job: Job) -> None:
        self._job = job
        self._model = job.plain_model()

    def run(self, steps: range) -> Block:
        """Take these steps, in a Trainer of their own; only the steps are timed."""
        from transformers import Trainer, TrainerCallback, TrainingArguments

        settings, optimizer = self._job.settings, self._job.settings.optimizer
        marks: list[float] = []

        class Clock(TrainerCallback):  # type: ignore[misc]
            def on_train_begin(self, *_: Any, **__: Any) -> None:
                distributed.barrier()
                marks.append(time.perf_counter())

            on_train_end = on_train_begin

        trainer = Trainer(
            model=self._model,
            args=TrainingArguments(
                max_steps=len(steps),
                per_device_train_batch_size=settings.global_batch_size // distributed.get_world_size(),
                average_tokens_across_devices=False,  # it would double loss and gradient
                learning_rate=optimizer.learning_rate,
                lr_scheduler_type="constant",
                adam_beta1=optimizer.betas[0],
                adam_beta2=optimizer.betas[1],
                weight_decay=optimizer.weight_decay,
                max_grad_norm=optimizer.max_grad_norm,
                optim="adamw_torch_fused",
                bf16=self._job.precision == "bf16",
                use_cpu=True,
                dataloader_pin_memory=False,
                ddp_find_unused_parameters=False,
                disable_tqdm=True,
                log_level="error",
                log_level_replica="error",
                logging_strategy="no",
                save_strategy="no",
                report_to=[],
            ),
            train_dataset=self._examples(steps),
            callbacks=[Clock()],
        )
        trainer.train()
        return Block(marks[-1] - marks[0], [])

    def _examples(self, steps: range) -> list[dict[str, Tensor]]:
        """The rows of all ranks; which rank takes which is the Trainer's business."""
        order = RowOrder(self._job.rows.num_rows, self._job.settings.seed)
        rows = [step_rows(order, self._job.settings.global_batch_size, 1, 0, step) for step in steps]
        tokens, documents = row_tensors(self._job.rows.take(pa.array(np.concatenate(rows))).combine_chunks())
        labels = tokens.masked_fill(documents < 0, -100)  # the Trainer's model shifts them
        return [{"input_ids": row, "labels": wanted} for row, wanted in zip(tokens, labels, strict=True)]
