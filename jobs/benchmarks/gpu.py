"""`gpu`: a GPT-2 of 124 M and a Llama of 1 B parameters on one GPU, in bf16 and compiled, against a bare loop.

Rows of random tokens, packed from documents of unequal lengths. Ours is the engine at ZeRO-1, attention inside
documents; the peer is transformers' model with PyTorch's attention over whole rows, compiled, under autocast, with
fused AdamW; both are compiled layer by layer. Model FLOPs are those of ours: the peer computes more attention for the
same tokens.
"""

import os
import time
from collections.abc import Callable
from statistics import median
from typing import Any

from jobs.benchmarks.rows import Measured, Row, in_turn
from jobs.runtime.console import say
from jobs.runtime.options import RunOptions
from llmcore.errors import UserError

__all__ = ["measure"]

MODELS = {"gpt2-124m": (1024, 16), "llama-1b": (2048, 4)}
"""Tokens of a row and rows of a step of each preset."""
VOCAB_SIZE = 32_000
MEAN_DOCUMENT = 400
"""Tokens, of exponentially distributed lengths."""
NUM_WARM_UP_STEPS = 5
NUM_REPETITIONS = 5
STEPS_PER_BLOCK = 10
PEER = "bare loop, documents leak"


def measure(options: RunOptions) -> Measured:
    """Tokens a second and MFU. Raises UserError where there is no GPU."""
    import torch
    from torch.multiprocessing.spawn import spawn

    from jobs.benchmark import table

    if not torch.cuda.is_available():
        raise UserError("benchmark gpu: PyTorch finds no GPU here; run it where `nvidia-smi` shows one")
    rows: list[Row] = []
    for preset in MODELS:
        found = torch.multiprocessing.get_context("spawn").SimpleQueue()
        spawn(_measure, (preset, found), nprocs=1)  # type: ignore[no-untyped-call]
        one = found.get()
        say(table(one))  # the next may take minutes, or not fit
        rows += one
    settings = {name: {"sequence_length": length, "rows": size} for name, (length, size) in MODELS.items()}
    return Measured(rows, settings | {"device": torch.cuda.get_device_name(), "vocab_size": VOCAB_SIZE})


def _measure(_: int, preset: str, found: Any) -> None:
    """In a process of its own, whose memory one model alone has."""
    import torch
    from torch import distributed

    from llmcore.config.model import ModelSettings
    from llmcore.cost.devices import peak_flops_per_s
    from llmcore.models.build import build_causal_lm, model_config
    from llmcore.models.flops import model_flops
    from llmcore.objectives.causal_lm import CausalLM
    from llmcore.objectives.rows import packed_micro_batches

    device = torch.device("cuda", 0)
    torch.cuda.set_device(device)
    # DeepSpeed asks for what a launcher would say.
    os.environ |= {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"}
    store = distributed.HashStore()  # type: ignore[attr-defined]  # exported, but not in its list
    distributed.init_process_group("nccl", store=store, rank=0, world_size=1, device_id=device)
    length, size = MODELS[preset]
    settings = ModelSettings.model_validate({"preset": preset})
    facts = {"vocab_size": VOCAB_SIZE, "sequence_length": length, "eos_id": 0, "pad_id": 1}
    table = _rows(length, size)
    [batch] = packed_micro_batches(table, 1, size)
    ours = _ours(build_causal_lm(model_config(settings, **facts), seed=0), size, device)
    bare = _bare(model_config(settings, **facts), device)
    tokens = batch.tokens.to(device)
    steps: dict[str, Callable[[int], Any]] = {
        "ours": lambda number: ours.step(number, [batch]),
        "bare": lambda _: bare(tokens),
    }

    def block_of(name: str) -> Any:
        def run(repetition: int) -> float:
            torch.cuda.synchronize()
            started = time.perf_counter()
            for number in range(STEPS_PER_BLOCK):
                steps[name](NUM_WARM_UP_STEPS + repetition * STEPS_PER_BLOCK + number)
            torch.cuda.synchronize()
            return size * length * STEPS_PER_BLOCK / (time.perf_counter() - started)

        return run

    for take in steps.values():
        for number in range(NUM_WARM_UP_STEPS):
            take(number)
    blocks = in_turn({name: block_of(name) for name in steps}, NUM_REPETITIONS)
    speeds = {name: median(found_speeds) for name, found_speeds in blocks.items()}
    rows = [Row(f"{preset}, bf16, compiled", speeds["ours"], "tokens/s", PEER, speeds["bare"])]
    peak = peak_flops_per_s(torch.cuda.get_device_name(), "bf16")
    if peak is not None:
        objective = CausalLM()
        work = objective.work(batch).per(objective.num_tokens(batch))
        flops = model_flops(ours.model).of_training(work)
        of_peak = {name: speed * flops / peak for name, speed in speeds.items()}
        rows.append(Row(f"{preset}, MFU", of_peak["ours"], "of the peak", PEER, of_peak["bare"]))
    found.put(rows)


def _rows(length: int, size: int) -> Any:
    """Full rows of random tokens."""
    import numpy as np

    from llmcore.tokens.schema import PackedRows

    rng = np.random.default_rng(0)
    lengths: list[list[int]] = []
    for _ in range(size):
        ends = np.cumsum(rng.exponential(MEAN_DOCUMENT, length).astype(np.int64) + 1)
        lengths.append(np.diff([0, *ends[ends < length], length]).tolist())
    tokens = rng.integers(2, VOCAB_SIZE, (size, length), dtype=np.int32)
    sources = [[0] * len(row) for row in lengths]
    return PackedRows(tokens, lengths, sources).to_table(VOCAB_SIZE)


def _ours(model: Any, size: int, device: Any) -> Any:
    from llmcore.config.train import TrainSettings
    from llmcore.objectives.causal_lm import CausalLM
    from llmcore.train.engine import Engine

    settings = TrainSettings.model_validate(
        {
            "num_steps": NUM_WARM_UP_STEPS + NUM_REPETITIONS * STEPS_PER_BLOCK,
            "global_batch_size": size,
            "micro_batch_size": size,
            "zero_stage": 1,
            "precision": "bf16",
            "compile": True,
        }
    )
    steps = settings.num_steps or 0
    return Engine(model, CausalLM(), settings, num_steps=steps, precision="bf16", device=device)


def _bare(config: Any, device: Any) -> Any:
    """A step on rows [rows, length] that returns nothing."""
    import torch
    from transformers import AutoModelForCausalLM

    from llmcore.models.layers import layers_of

    model = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa", trust_remote_code=False).to(device)
    for layer in layers_of(model):  # whole, a model of many layers takes minutes to compile
        layer.compile()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)

    def step(tokens: Any) -> None:
        optimizer.zero_grad()
        with torch.autocast("cuda", torch.bfloat16):
            loss = model(input_ids=tokens, labels=tokens, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    return step
