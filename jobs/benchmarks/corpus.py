"""`corpus`: 1 GB of passages through every step of `prepare`; and tokenizing and packing against `datasets.map`.

The passages are made first, from real text, with duplicates planted; Ray is started once: both stand apart. The peer
tokenizes the same texts with the same tokenizer, in as many processes, and its ids are compared with those in the rows.
"""

import multiprocessing
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from jobs.benchmarks.passages import write_passages
from jobs.benchmarks.rows import Measured, Row
from jobs.runtime.console import say
from jobs.runtime.options import RunOptions
from llmcore.config.common import ClusterSettings
from llmcore.config.prepare import PrepareConfig
from llmcore.errors import RunError
from llmcore.storage import Folder

__all__ = ["measure"]

NUM_BYTES = 1_000_000_000
NUM_ADDED_BYTES = 64_000_000
NUM_TOKENIZED_BYTES = 250_000_000
NUM_CPUS = 2
SEQUENCE_LENGTH = 1024
VOCAB_SIZE = 16_384
PEER = "datasets.map, tokenizers"
CLEANING = {"unicode": {}, "language": {"keep": ["en"]}, "gopher": {}, "personal_data": {}}


def measure(options: RunOptions) -> Measured:
    """MB/s of the whole and of each step. Raises RunError where the peer's ids are not ours."""
    from cluster.connect import connect
    from jobs.prepare import prepare

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        planted = write_passages(folder / "all", NUM_BYTES)
        say(f"corpus: {planted.documents:,} passages, {planted.exact:,} exact and {planted.near:,} near copies")
        some = write_passages(folder / "some", NUM_TOKENIZED_BYTES, seed=7)
        with connect(ClusterSettings(num_cpus=NUM_CPUS), verbose=options.verbose) as session:
            storage = Folder(str(folder / "runs"))
            plain = _config("plain", folder / "some")
            tokenized = prepare(plain, storage, options)
            rows = _tokenizing(tokenized, storage, folder, some.bytes)
            whole = _config("whole", folder / "all", cleaning=CLEANING, near_duplicates={})
            started = time.perf_counter()
            result = prepare(whole, storage, options)
            seconds = time.perf_counter() - started
            passport = (storage / result["tokens"]).read_json("passport.json")
            rows += _whole(result, passport, planted.bytes / 1e6, seconds)
            write_passages(folder / "more", NUM_ADDED_BYTES, seed=9)
            for shard in (folder / "more").iterdir():
                shard.rename(folder / "all" / f"more-{shard.name}")
            again = _config("again", folder / "all", cleaning=CLEANING, near_duplicates={})
            started = time.perf_counter()
            prepare(again, storage, options)
            rows.append(
                Row("again, with one shard more", time.perf_counter() - started, "s", "the first time", seconds)
            )
        rows.append(Row("Ray's start, once", session.connect_s, "s"))
    settings = {"bytes": planted.bytes, "documents": planted.documents, "num_cpus": NUM_CPUS}
    return Measured(rows, settings | {"sequence_length": SEQUENCE_LENGTH, "vocab_size": VOCAB_SIZE})


def _config(name: str, corpus: Path, **changes: Any) -> PrepareConfig:
    given = {
        "name": name,
        "sources": [{"name": "passages", "url": str(corpus)}],
        "splits": {"validation": 0, "test": 0},
        "tokenizer": {"vocab_size": VOCAB_SIZE, "sample_bytes": 10_000_000},
        "packing": {"sequence_length": SEQUENCE_LENGTH},
    }
    return PrepareConfig.model_validate(given | changes)


def _tokenizing(result: dict[str, Any], storage: Folder, folder: Path, num_bytes: int) -> list[Row]:
    """Tokenize, pack and write, beside the peer's map over the same texts, duplicates included."""
    import numpy as np

    from llmcore.tokens.shards import TokenShards

    passport = (storage / result["tokens"]).read_json("passport.json")
    kept = sum(passport["sources"]["passages"]["kept"]["bytes"].values()) / 1e6
    shards = TokenShards.open(storage / result["tokens"])
    tokenizer = str(shards.tokenizer_folder().as_local() / "tokenizer.json")
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        peer_s, counts = pool.submit(_map, str(folder / "some"), tokenizer, str(folder / "peer")).result()
    table = shards.rows("train", np.arange(shards.num_rows("train")))
    ids = table["tokens"].combine_chunks().flatten().to_numpy()
    found = np.bincount(ids, minlength=VOCAB_SIZE)
    differing = int((found[64:] != counts[64:]).sum())  # the special ones are ours alone: ends and padding
    if differing:
        raise RunError(
            f"{differing} of {VOCAB_SIZE} ids are not as frequent in our rows as in the peer's: not the same"
        )
    seconds = result["seconds"]
    packing = seconds["tokenize and pack"] + seconds["write"]
    return [
        Row("tokenize, pack and write", kept / packing, "MB/s", PEER, num_bytes / 1e6 / peer_s),
        Row("tokenize and pack", kept / seconds["tokenize and pack"], "MB/s", PEER, num_bytes / 1e6 / peer_s),
    ]


def _map(corpus: str, tokenizer_file: str, cache: str) -> tuple[float, Any]:
    """Seconds of the map alone; and how often each id came, of each text once."""
    import numpy as np
    from datasets import load_dataset
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(tokenizer_file)
    tokenizer.encode_special_tokens = True
    texts = load_dataset("parquet", data_dir=corpus, cache_dir=cache, split="train")

    def encode(batch: dict[str, list[str]]) -> dict[str, list[list[int]]]:
        return {"ids": [one.ids for one in tokenizer.encode_batch_fast(batch["text"], add_special_tokens=False)]}

    started = time.perf_counter()
    encoded = texts.map(encode, batched=True, num_proc=NUM_CPUS, remove_columns=["text"])
    seconds = time.perf_counter() - started
    counts = np.zeros(tokenizer.get_vocab_size(), dtype=np.int64)
    seen: set[str] = set()
    texts, encoded = texts.with_format("arrow"), encoded.with_format("arrow")
    for these, those in zip(texts.iter(4096), encoded.iter(4096), strict=True):
        for text, ids in zip(these["text"].to_pylist(), those["ids"], strict=True):
            if text not in seen:
                seen.add(text)
                counts += np.bincount(ids.values.to_numpy(), minlength=len(counts))
    return seconds, counts


def _whole(result: dict[str, Any], passport: dict[str, Any], megabytes: float, seconds: float) -> list[Row]:
    source = passport["sources"]["passages"]
    rows = [Row("the whole pass", megabytes / seconds, "MB/s")]
    for name, step in source["cleaning"]["steps"].items():
        rows.append(Row(f"{name}, one core", step["characters"] / 1e6 / step["seconds"], "M characters/s"))
    kept = sum(source["kept"]["bytes"].values()) / 1e6
    rows += [
        Row("read and clean", megabytes / result["seconds"]["read"], "MB/s"),
        Row("near duplicates", kept / result["seconds"]["near duplicates"], "MB/s"),
        Row(
            "dropped by cleaning",
            sum(sum(step["dropped"].values()) for step in source["cleaning"]["steps"].values()),
            "documents",
        ),
        Row("exact duplicates", sum(passport["exact_duplicates"].values()), "documents"),
        Row("near duplicates found", sum(passport["near_duplicates"]["dropped"].values()), "documents"),
        Row("fill of the rows", result["fill_fraction"], "of 1"),
    ]
    return rows
