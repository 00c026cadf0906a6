"""`start`: what a pre-training costs before its first step, the first in a process and a later one.

A model of the smoke pipeline's size on two workers, on tokens prepared from the standard library. Seconds run from the
job's beginning, Ray connected, to the first step; the first one's connecting stands apart. And what one worker costs
until it has imported what a training does, warm and cold by turns.
"""

import tempfile
import time
from pathlib import Path
from typing import Any

from jobs.benchmarks.rows import Measured, Row
from jobs.runtime.options import RunOptions
from llmcore.config.prepare import PrepareConfig
from llmcore.config.pretrain import PretrainConfig
from llmcore.records import attempt_folder
from llmcore.storage import Folder

__all__ = ["measure"]

NUM_CPUS = 2
NUM_LATER = 3
NUM_WORKERS = 5
PARTS = ("placement", "imports", "data", "model", "engine", "first_batch")
MODEL = {"family": "gpt2", "sizes": {"n_embd": 256, "n_layer": 4, "n_head": 4}}


def measure(options: RunOptions) -> Measured:
    """Seconds of each part of the first start, and of the median of the later ones."""
    from statistics import median

    from cluster.connect import connect
    from jobs.prepare import prepare

    with tempfile.TemporaryDirectory() as root:
        storage = Folder(str(Path(root, "runs")))
        tokens = PrepareConfig.model_validate(_prepare(storage))
        with connect(tokens.cluster, verbose=options.verbose) as session:
            prepare(tokens, storage, options)
            starts = [_start_up(storage, f"run-{number}", options) for number in range(1 + NUM_LATER)]
            workers = [(_worker_s(warm=True), _worker_s(warm=False)) for _ in range(NUM_WORKERS)]
    warm, cold_one = (median(times) for times in zip(*workers, strict=True))
    cold, later = starts[0], {part: median(start[part] for start in starts[1:]) for part in PARTS}
    whole = "to the first step"
    return Measured(
        [
            Row("Ray's start", session.connect_s, "s"),
            Row(whole, sum(later.values()), "s", "the first in the process", sum(cold.values())),
            Row("a worker with its imports", warm, "s", "without a warm start", cold_one),
            *(Row(f"… {part.replace('_', ' ')}", later[part], "s", "the first", cold[part]) for part in PARTS),
        ],
        {"num_cpus": NUM_CPUS, "num_later_starts": NUM_LATER, "model": MODEL},
    )


def _worker_s(*, warm: bool) -> float:
    """Seconds until a new worker has imported what a training imports."""
    import ray

    from cluster.warm import COLD_START

    def imported() -> None:
        import ray.train  # noqa: F401

        import llmcore.train.finetuning
        import llmcore.train.fit  # noqa: F401

    environment = {"env_vars": {} if warm else COLD_START}
    task = ray.remote(num_cpus=0.1, max_calls=1, runtime_env=environment)(imported)
    began = time.perf_counter()
    ray.get(task.remote())
    return time.perf_counter() - began


def _prepare(storage: Folder) -> dict[str, Any]:
    return {
        "name": "tokens",
        "storage": storage.url,
        "cluster": {"num_cpus": NUM_CPUS},
        "sources": [{"name": "stdlib", "builtin": "python_stdlib", "key": "key"}],
    }


def _start_up(storage: Folder, name: str, options: RunOptions) -> dict[str, float]:
    """Seconds of each part of a run's start."""
    from jobs.pretrain import pretrain

    config = PretrainConfig.model_validate(
        {
            "name": name,
            "storage": storage.url,
            "cluster": {"num_cpus": NUM_CPUS},
            "tokens": "tokens",
            "model": MODEL,
            "train": {"num_steps": 4},
            "validation_rows": 16,
        }
    )
    pretrain(config, storage, options)
    parts = attempt_folder(storage / name, 1).read_json("cost.json")["start_up_parts"]
    return {part: parts.get(part, 0.0) for part in PARTS}
