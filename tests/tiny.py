"""A tiny corpus and a tiny pipeline: every stage for real, in seconds."""

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from llmcore.records import read_metrics
from llmcore.storage import Folder, artifact, publish

__all__ = [
    "AREAS",
    "NUM_STEPS",
    "documents",
    "tiny_pipeline",
    "tiny_stage",
    "told_losses",
    "write_config",
    "write_corpus",
]
__all__ += ["write_tokens"]

AREAS = {
    "files": "open close read write seek path folder rename remove copy",
    "text": "strip split join upper lower replace encode decode format pad",
    "time": "clock epoch zone day month year second offset parse sleep",
}
"""Words of each area: a class can be told from them, so that something can be learnt."""
_SHARED = "return the value of a given object or raise an error if it is not there"
_MODULES_PER_AREA = 5
_DOCUMENTS_PER_MODULE = 4
_NUM_SHARDS = 3
NUM_STEPS = 120
"""Steps of pre-training: some seconds, so that a kill after the first checkpoint finds steps left to take."""


def documents() -> Iterator[dict[str, str]]:
    """Documents of 3 areas with 5 modules each, always the same; the columns are text, key, area and kind."""
    rng = random.Random(0)
    for area, words in AREAS.items():
        for module in range(_MODULES_PER_AREA):
            for number in range(_DOCUMENTS_PER_MODULE):
                text = " ".join(rng.choice([*words.split(), *_SHARED.split()]) for _ in range(rng.randint(12, 30)))
                kind = "source" if number == 0 else "docstring"
                yield {"text": f"{area}{module} {text}.", "key": f"{area}{module}", "area": area, "kind": kind}


def write_corpus(folder: Path) -> Path:
    """The documents as shards of JSON Lines."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(document) for document in documents()]
    for shard in range(_NUM_SHARDS):
        part = folder / f"part-{shard:05d}.jsonl"
        part.write_text("".join(f"{line}\n" for line in lines[shard::_NUM_SHARDS]), encoding="utf-8")
    return folder


def tiny_pipeline(corpus: Path, storage: Path) -> dict[str, Any]:
    """A pipeline's configuration: fp32 and one thread a rank, so that two runs are equal bit for bit."""
    workers = {"num_workers": 2, "cpus_per_worker": 0.5, "threads_per_worker": 1}
    return {
        "name": "tiny",
        "storage": str(storage),
        "cluster": {"num_cpus": 2},
        "stages": {
            "prepare": {
                "job": "prepare",
                "sources": [{"name": "tiny", "url": str(corpus), "key": "key", "stratum": "area"}],
                "splits": {"validation": 0.2, "test": 0.2},
                "tokenizer": {"vocab_size": 384},
                "packing": {"sequence_length": 32, "shard_bytes": 64 * 32 * 2},
                "labelled_sets": [{"name": "areas", "label": "area", "where": {"kind": "docstring"}}],
                "read_parallelism": 2,
            },
            "pretrain": {
                "job": "pretrain",
                "tokens": "${prepare}",
                "model": {"family": "gpt2", "sizes": {"n_embd": 32, "n_layer": 1, "n_head": 2}},
                "train": {
                    "num_steps": NUM_STEPS,
                    "global_batch_size": 4,
                    "micro_batch_size": 2,
                    "precision": "fp32",
                    "zero_stage": 2,
                    "optimizer": {"learning_rate": 3e-3},
                    "log_every": 1,
                    "validate_every": NUM_STEPS // 2,
                    "checkpoint_every": 10,
                },
                "workers": workers,
                "sample_prompts": ["return the"],
            },
            "tune": {
                "job": "tune",
                "base": "${pretrain}",
                "data": "${prepare}/areas",
                "num_trials": 2,
                "space": {"train.optimizer.learning_rate": {"log_uniform": [3e-3, 3e-2]}},
                "finetune": {
                    "task": {"max_tokens": 32},
                    "train": {
                        "num_epochs": 4,
                        "global_batch_size": 4,
                        "micro_batch_size": 4,
                        "precision": "fp32",
                        "validate_every": 9,
                        "checkpoint_every": 3,
                        "log_every": 1,
                    },
                    "workers": workers,
                },
            },
            "evaluate": {
                "job": "evaluate",
                "searches": ["${tune}"],
                "follow": True,
                "num_resamples": 100,
                "workers": workers,
            },
        },
    }


def tiny_stage(tiny: dict[str, Any], stage: str) -> dict[str, Any]:
    """What a stage says of its job, but for what it takes from other stages."""
    of_others = ("job", "tokens", "base", "data", "searches")
    return {key: value for key, value in tiny["stages"][stage].items() if key not in of_others}


def write_config(path: Path, config: dict[str, Any]) -> Path:
    """The configuration as a file of YAML."""
    path.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    return path


def told_losses(storage: Path | str, run: str = "tiny.pretrain") -> list[dict[str, Any]]:
    """Each logged step and validation of the pre-training: which rows it had, and what came of them; no times."""
    measured = ("_per_s", "_fraction", "elapsed_s")
    rows = read_metrics(Folder(str(storage)) / run)
    return [{key: value for key, value in row.items() if not key.endswith(measured)} for row in rows]


def write_tokens(storage: Folder, num_rows: int, sequence_length: int = 8, rows_per_shard: int = 16) -> Folder:
    """Token shards without a corpus: row n of the train split is filled with the token n; the others are empty."""
    import numpy as np

    from llmcore.tokens.schema import PackedRows
    from llmcore.tokens.shards import KIND, SPLITS, shard_name, write_shard

    folder = artifact(storage, KIND, "made-by-a-test")
    about: dict[str, Any] = {"sequence_length": sequence_length, "vocab_size": num_rows, "rows_per_block": 4}
    about["mixture"] = [{"name": "made", "first_row": 0, "num_rows": num_rows, "weight": None, "max_epochs": None}]
    about["splits"] = {split: {"num_rows": 0, "shards": []} for split in SPLITS}
    about["splits"]["train"]["num_rows"] = num_rows
    with publish(folder, KIND, about) as publication:
        for number, first in enumerate(range(0, num_rows, rows_per_shard)):
            ids = np.arange(first, min(first + rows_per_shard, num_rows), dtype=np.int32)
            tokens = np.repeat(ids[:, None], sequence_length, axis=1)
            rows = PackedRows(tokens, [[sequence_length]] * len(ids), [[0]] * len(ids)).to_table(num_rows, first)
            name = shard_name("train", number)
            publication.add(write_shard(folder, name, rows, about["rows_per_block"]))
            about["splits"]["train"]["shards"].append({"name": name, "num_rows": len(ids)})
        publication.about.update(about)
    return folder
