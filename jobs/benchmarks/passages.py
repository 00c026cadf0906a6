"""A corpus of any size from real text: passages of books, speeches and code, with duplicates planted in it.

From the second pass over the texts on, a fifth of a passage's words are replaced, so that it is no duplicate of what it
was made from. All of it is a function of the seed.
"""

import gzip
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from jobs.benchmarks.shared_data import shared_data
from llmcore.corpus.cleaning.passages import passages_of

__all__ = ["Planted", "write_passages"]

SHARD_BYTES = 64_000_000
_FILES = (
    "books_public_domain/books_train.jsonl.gz",
    "us_speeches/speeches.jsonl.gz",
    "code_python_stdlib/train.jsonl.gz",
)
_EXACT, _NEAR = 0.05, 0.10
_REPLACED, _REPLACED_NEAR = 0.2, 0.01


@dataclass
class Planted:
    """What was written: documents, bytes of UTF-8, and how many copy the one before, exactly or nearly."""

    documents: int = 0
    bytes: int = 0
    exact: int = 0
    near: int = 0


def write_passages(folder: Path, num_bytes: int, seed: int = 0) -> Planted:
    """Write Parquet shards with a column `text`. Raises UserError where the shared texts are not there."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder.mkdir(parents=True)
    planted = Planted()
    shard: list[str] = []
    written = number = 0
    for text in _texts(planted, seed):
        shard.append(text)
        planted.bytes += len(text.encode())
        planted.documents += 1
        if planted.bytes - written > SHARD_BYTES or planted.bytes >= num_bytes:
            pq.write_table(pa.table({"text": shard}), folder / f"part-{number:05d}.parquet", compression="zstd")
            shard, written, number = [], planted.bytes, number + 1
        if planted.bytes >= num_bytes:
            break
    return planted


def _texts(planted: Planted, seed: int) -> Iterator[str]:
    rng = random.Random(seed)
    passages = [passage.split(" ") for passage in _passages(random.Random(seed + 1)) if len(passage) > 60]
    words = [word for passage in passages[::50] for word in passage]
    last: list[str] | None = None
    replaced = 0.0
    while True:
        for passage in passages:
            chance = rng.random()
            if last is not None and chance < _EXACT:
                planted.exact += 1
            elif last is not None and chance < _NEAR:
                planted.near += 1
                last = _edited(rng, last, words, _REPLACED_NEAR)
            else:
                last = _edited(rng, passage, words, replaced)
                if rng.random() < 0.01:
                    last.append(f"Write to clerk{planted.documents}@town.example.org or call +44 20 7946 0958.")
            yield " ".join(last)
        replaced = _REPLACED


def _passages(rng: random.Random) -> Iterator[str]:
    """Of 90 to 8,192 characters, as many of each power of two."""
    for text in _real_texts():
        start = 0
        while start < len(text):
            size = int(2 ** rng.uniform(6.5, 13))
            passage = next(passages_of(text[start : start + size + 1], size))
            yield passage
            start += len(passage)


def _real_texts() -> Iterator[str]:
    root = shared_data(*_FILES)
    for name in _FILES:
        with gzip.open(root / name, "rt", encoding="utf-8") as lines:
            for line in lines:
                yield json.loads(line)["text"]


def _edited(rng: random.Random, passage: list[str], words: list[str], share: float) -> list[str]:
    edited = passage.copy()
    for _ in range(int(len(edited) * share) if share else 0):
        edited[rng.randrange(len(edited))] = rng.choice(words)
    return edited
