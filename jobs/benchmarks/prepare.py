"""`prepare`: our job, from shards on storage to token shards, against the same by Hugging Face's datasets.

Both read the built-in corpus from the same Parquet shards, drop exact duplicates, split by module, train the same
tokenizer on the same texts, tokenize, pack into rows of 256 tokens, and write. Ray is started once, and that stands
apart.
"""

import multiprocessing
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from jobs.benchmarks.prepare_peer import PARTS, prepare_with_datasets
from jobs.benchmarks.rows import Measured, Row, in_turn, median_of
from jobs.runtime.console import say
from jobs.runtime.options import RunOptions
from llmcore.config.common import ClusterSettings
from llmcore.config.prepare import PrepareConfig
from llmcore.errors import RunError
from llmcore.storage import Folder

__all__ = ["measure"]

NUM_REPETITIONS = 3
VOCAB_SIZE = 4096
SEQUENCE_LENGTH = 256
NUM_CPUS = 2
PEER = "datasets, tokenizers"

Figures = Mapping[str, Any]
"""`seconds` by part, and counts: `num_documents`, `num_tokens`, `num_rows`, `num_cuts`."""


def measure(options: RunOptions) -> Measured:
    """Seconds and MB/s in turn, and what was made of the documents. Raises RunError where the work was not the same."""
    from cluster.connect import connect
    from llmcore.corpus.builtin import publish_stdlib

    with tempfile.TemporaryDirectory() as folder:
        corpus = publish_stdlib(Folder(f"{folder}/corpus"))
        config = _config(corpus)
        with connect(ClusterSettings(num_cpus=NUM_CPUS), verbose=options.verbose) as session:
            say(f"prepare: Ray runs after {session.connect_s:.1f} s")
            peer = _Peer(Path(folder), config, corpus)

            def ours(repetition: int) -> Figures:
                return _ours(config, Folder(f"{folder}/ours-{repetition}"), options)

            contenders: dict[str, Callable[[int], Figures]] = {"ours": ours, PEER: peer}
            found = in_turn(contenders, NUM_REPETITIONS)
        num_bytes = peer.num_bytes
    rows = [*_rows(found["ours"], found[PEER], num_bytes / 1e6), Row("Ray's start, once", session.connect_s, "s")]
    settings = {
        "corpus_bytes": num_bytes,
        "vocab_size": VOCAB_SIZE,
        "sequence_length": SEQUENCE_LENGTH,
        "num_cpus": NUM_CPUS,
        "num_repetitions": NUM_REPETITIONS,
    }
    return Measured(rows, settings)


def _config(corpus: Folder) -> PrepareConfig:
    source = {"name": "python_stdlib", "url": corpus.url, "key": "key", "stratum": "area"}
    return PrepareConfig.model_validate(
        {
            "name": "benchmark",
            "sources": [source],
            "tokenizer": {"vocab_size": VOCAB_SIZE},
            "packing": {"sequence_length": SEQUENCE_LENGTH},
        }
    )


def _ours(config: PrepareConfig, storage: Folder, options: RunOptions) -> Figures:
    from jobs.prepare import prepare

    started = time.perf_counter()
    result = prepare(config, storage, options)
    total = time.perf_counter() - started
    counts = {name: result["counts"][name] for name in ("num_documents", "num_tokens", "num_rows")}
    return {"total": total, "seconds": result["seconds"], **counts, "num_cuts": _num_cuts(storage, result["tokens"])}


def _num_cuts(storage: Folder, tokens: str) -> int:
    """Pieces in the token shards that do not end where their document does."""
    import numpy as np

    from llmcore.tokens.shards import SPLITS, TokenShards
    from llmcore.tokens.tokenizer import END_OF_TEXT, SPECIAL_TOKENS

    shards = TokenShards.open(storage / tokens)
    num_cuts = 0
    for split in SPLITS:
        rows = shards.rows(split, np.arange(shards.num_rows(split), dtype=np.int64))
        ids = rows["tokens"].combine_chunks().flatten().to_numpy().reshape(rows.num_rows, -1)
        for row, lengths in zip(ids, rows["document_lengths"].to_pylist(), strict=True):
            num_cuts += int((row[np.cumsum(lengths) - 1] != SPECIAL_TOKENS.index(END_OF_TEXT)).sum())
    return num_cuts


class _Peer:
    """The peer in a fresh process each time, with nothing cached; what it is given for nothing is the split."""

    def __init__(self, folder: Path, config: PrepareConfig, corpus: Folder) -> None:
        import pyarrow.compute as pc
        import pyarrow.parquet as pq

        from llmcore.corpus.buckets import Census, SplitRule
        from llmcore.corpus.split import Shares

        self._folder = folder
        self._shards = [str(path) for path in sorted(corpus.as_local().glob("*.parquet"))]
        documents = pq.read_table(self._shards, columns=["text", "key", "area"])
        self.num_bytes: int = pc.sum(pc.binary_length(documents["text"])).as_py()
        census = Census()
        for key, area in zip(documents["key"].to_pylist(), documents["area"].to_pylist(), strict=True):
            census.keys.setdefault(key, Counter())[area or ""] += 1
        shares = Shares(config.splits.validation, config.splits.test)
        self._split_of_key = dict(SplitRule.of(census, shares, config.seed).keys)

    def __call__(self, repetition: int) -> Figures:
        given = (self._shards, self._split_of_key, VOCAB_SIZE, SEQUENCE_LENGTH, f"{self._folder}/peer-{repetition}")
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            found: dict[str, Any] = pool.submit(prepare_with_datasets, *given).result()
        found["total"] = sum(found["seconds"].values())
        say(f"{PEER}: " + ", ".join(f"{name} {seconds:.1f} s" for name, seconds in found["seconds"].items()))
        return found


def _rows(ours: list[Figures], peer: list[Figures], megabytes: float) -> list[Row]:
    """Rows of the repetitions' medians. Raises RunError where documents or tokens are not the same."""
    mine, theirs = ours[-1], peer[-1]
    for name in ("num_documents", "num_tokens"):
        if mine[name] != theirs[name]:
            raise RunError(
                f"ours has {mine[name]:,} and {PEER} {theirs[name]:,} {name.removeprefix('num_')}: they did not do "
                "the same work, and their seconds cannot be compared"
            )

    def seconds(results: list[Figures], part: str) -> float:
        return median_of(results, lambda result: result["seconds"].get(part, 0.0))

    total, peer_total = (median_of(results, lambda result: result["total"]) for results in (ours, peer))
    return [
        Row("all", total, "s", PEER, peer_total),
        Row("all", megabytes / total, "MB/s", PEER, megabytes / peer_total),
        *(Row(part, seconds(ours, part), "s", PEER, seconds(peer, part)) for part in PARTS),
        Row("fill of the rows", _fill(mine), "share", PEER, 1.0),
        Row("tokens left out", 0, "tokens", PEER, theirs["num_tokens"] - theirs["num_rows"] * SEQUENCE_LENGTH),
        Row("cuts of documents", mine["num_cuts"], "cuts", PEER, theirs["num_cuts"]),
    ]


def _fill(figures: Figures) -> float:
    return float(figures["num_tokens"] / (figures["num_rows"] * SEQUENCE_LENGTH))
