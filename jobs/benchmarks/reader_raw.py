"""Raw shards into consumers, tokenized and packed meanwhile; and the same work in one process."""

import json
import time
from pathlib import Path
from typing import Any

from jobs.benchmarks.rows import Row
from llmcore.storage import Folder

__all__ = ["raw_rows"]

NUM_SHARDS = 16
NUM_COPIES = 4
"""Of the standard library's documents, some 40 MB together."""
SEQUENCE_LENGTH = 1024
GLOBAL_BATCH = 64
NUM_STEPS = 250
PEER = "one process, no Ray"


def raw_rows(root: Path, consumed: Any, world_size: int) -> list[Row]:
    """Tokens a second from JSON Lines to rows at the consumers, the first batch left out; two lanes, no cleaning.

    `consumed(plan, server)` reads what a plan has, and tells of each consumer rows, seconds, and seconds to the first.
    """
    from jobs.runtime.freeze import freeze, frozen_folder
    from jobs.runtime.reader import StreamPlan
    from jobs.runtime.streaming import serve_rows
    from llmcore.config.stream import StreamSettings
    from llmcore.train.place import Place

    _write_shards(root / "raw")
    storage = Folder(str(root / "runs"))
    settings = StreamSettings.model_validate(
        {
            "sources": [{"name": "raw", "url": str(root / "raw")}],
            "tokenizer": {"vocab_size": 16_384, "sample_bytes": 8_000_000},
            "packing": {"sequence_length": SEQUENCE_LENGTH},
            "cpus_per_lane": 0.1,
        }
    )
    tokens = frozen_folder(storage, freeze(settings, storage))
    floor = _plain(settings, tokens)
    plan = StreamPlan(tokens.url, 0, GLOBAL_BATCH, world_size, 0, NUM_STEPS)
    plain = settings.model_dump(mode="json")
    server = serve_rows(plain, tokens.url, storage.url, Place(storage / "run", 1), plan.seed, 0)
    found = consumed(plan, server)
    speed = sum(one["rows"] for one in found) * SEQUENCE_LENGTH / max(one["seconds"] for one in found)
    return [
        Row("from raw shards, after the first batch", speed / 1e6, "M tokens/s", PEER, floor / 1e6),
        Row("from raw shards, the first batch after", max(one["first"] for one in found), "s"),
    ]


def _write_shards(folder: Path) -> None:
    from llmcore.corpus.stdlib import StdlibCorpus

    folder.mkdir()
    lines = [json.dumps({"text": document.text}) + "\n" for document in StdlibCorpus().documents()]
    for number in range(NUM_SHARDS):
        text = "".join(lines[number % 4 :: NUM_SHARDS // NUM_COPIES])
        (folder / f"part-{number:02d}.jsonl").write_text(text, encoding="utf-8")


def _plain(settings: Any, tokens: Folder) -> float:
    """Tokens a second of reading and packing all shards once, one window after the other."""
    from jobs.runtime.lanes import LaneWork, read_lane, sequences_of

    work = LaneWork.of(settings, tokens, tokens)
    started = time.perf_counter()
    num_tokens = 0
    for portion in sequences_of(settings, tokens)[0]:
        num_tokens += sum(window.streamed.tokens.total() for window in read_lane(work, portion, (0,)))
    return num_tokens / (time.perf_counter() - started)
