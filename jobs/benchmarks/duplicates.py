"""`duplicates`: near duplicates of 50,000 to 500,000 passages: time, memory, and what is found, held against the truth.

The truth is the exact Jaccard similarity of all pairs that share a shingle, by scipy, from shingles made word by word.
The peer is datatrove's MinHash on the same passages, with words split as ours, bands of the same size, and no
comparison after it.
"""

import struct
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from jobs.benchmarks.passages import write_passages
from jobs.benchmarks.rows import Measured, Row
from jobs.runtime.console import say
from jobs.runtime.options import RunOptions
from llmcore.config.common import ClusterSettings
from llmcore.config.prepare import NearDuplicateSettings

__all__ = ["measure"]

SIZES = (50_000, 150_000, 500_000)
BYTES_PER_PASSAGE = 1650
NUM_CPUS = 2
PEER = "datatrove"
MARGIN = 0.05

Pairs = dict[tuple[str, str], float]


def measure(options: RunOptions) -> Measured:
    """Seconds and memory at each size; at the smallest, recall and precision, and the peer's pairs."""
    from cluster.connect import connect

    settings = NearDuplicateSettings()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as name, connect(ClusterSettings(num_cpus=NUM_CPUS), verbose=options.verbose):
        for size in SIZES:
            corpus = Path(name) / str(size)
            write_passages(corpus, size * BYTES_PER_PASSAGE)
            documents, kept, seconds, peak = _ours(corpus, settings)
            say(f"duplicates: {len(documents):,} passages, {seconds:.1f} s, {len(documents) - len(kept):,} dropped")
            rows += [
                Row(f"{size // 1000} k passages", seconds, "s"),
                Row(f"{size // 1000} k passages, a million", seconds / len(documents) * 1e6, "s"),
                Row(f"{size // 1000} k passages, largest process", peak / 1e6, "MB"),
            ]
            if size == SIZES[0]:
                truth = _alike(documents, settings)
                rows += _judged(documents, kept, truth, settings.threshold)
                rows += _beside(documents, kept, truth, settings, Path(name) / "datatrove")
    return Measured(rows, {"sizes": list(SIZES), "num_cpus": NUM_CPUS, **settings.model_dump()})


def _ours(corpus: Path, settings: NearDuplicateSettings) -> tuple[dict[str, str], set[str], float, float]:
    """Texts by id, the ids that are kept, seconds of the step alone, and bytes of the largest process."""
    import ray

    from jobs.runtime.documents import exchange, fill_buckets, read_documents
    from jobs.runtime.near_duplicates import drop_near_duplicates
    from jobs.runtime.sources import Source
    from llmcore.corpus.buckets import SplitRule, num_buckets_for
    from llmcore.corpus.read import DocumentReader
    from llmcore.corpus.shards import find_shards
    from llmcore.corpus.split import Shares

    shards = find_shards("passages", str(corpus))
    source = Source(str(corpus), shards, DocumentReader("passages", 0, "text"), None)
    parts, census = exchange([read_documents(source, 0)], num_buckets_for(sum(shard.size for shard in shards)))
    buckets = fill_buckets(parts, SplitRule.of(census, Shares(0.1, 0.1), 0))
    ray.wait(buckets.tables, num_returns=len(buckets.tables), fetch_local=False)
    documents: dict[str, str] = {}
    for table in map(ray.get, buckets.tables):
        documents |= dict(zip(table["id"].to_pylist(), table["text"].to_pylist(), strict=True))
    with _largest_process() as largest:
        started = time.perf_counter()
        tables, _ = drop_near_duplicates(buckets.tables, settings)
        ray.wait(tables, num_returns=len(tables), fetch_local=False)
        seconds = time.perf_counter() - started
    kept = {name for table in map(ray.get, tables) for name in table["id"].to_pylist()}
    return documents, kept, seconds, max(largest.values(), default=0)


@contextmanager
def _largest_process() -> Iterator[dict[int, int]]:
    """The most private memory of each of Ray's workers, in bytes, looked at ten times a second."""
    import psutil

    largest: dict[int, int] = {}
    done = threading.Event()

    def look() -> None:
        while not done.wait(0.1):
            for process in psutil.process_iter(["cmdline"]):
                if " ".join(process.info["cmdline"] or []).startswith("ray::"):
                    try:
                        status = Path(f"/proc/{process.pid}/status").read_text()
                    except OSError:
                        continue
                    anonymous = next(
                        (line for line in status.splitlines() if line.startswith("RssAnon:")), "RssAnon: 0"
                    )
                    largest[process.pid] = max(largest.get(process.pid, 0), int(anonymous.split()[1]) * 1024)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    yield largest
    done.set()
    thread.join()


def _alike(documents: dict[str, str], settings: NearDuplicateSettings) -> Pairs:
    """Each pair of passages whose exact similarity is at least the threshold less the margin, smaller id first."""
    import re

    import numpy as np
    from scipy.sparse import csr_matrix, triu

    word = re.compile(r"[^\W_]+")
    numbers: dict[tuple[str, ...], int] = {}
    names, columns, ends = list(documents), [], [0]
    for text in documents.values():
        words, size = word.findall(text.lower()), settings.shingle_words
        own = {tuple(words[at : at + size]) for at in range(max(1, len(words) - size + 1))}
        columns += [numbers.setdefault(shingle, len(numbers)) for shingle in own]
        ends.append(len(columns))
    shingles = csr_matrix((np.ones(len(columns), np.int32), columns, ends), shape=(len(names), len(numbers)))
    sizes = np.diff(ends)
    common = triu(shingles @ shingles.T, k=1).tocoo()
    similarity = common.data / (sizes[common.row] + sizes[common.col] - common.data)
    alike = similarity >= settings.threshold - MARGIN
    found = zip(common.row[alike].tolist(), common.col[alike].tolist(), similarity[alike].tolist(), strict=True)
    return {_pair(names[one], names[two]): value for one, two, value in found}


def _pair(one: str, two: str) -> tuple[str, str]:
    return (one, two) if one < two else (two, one)


def _judged(documents: dict[str, str], kept: set[str], truth: Pairs, threshold: float) -> list[Row]:
    """Recall of the pairs that are surely alike, and precision of what was dropped."""
    sure = [pair for pair, similarity in truth.items() if similarity >= threshold + MARGIN]
    over = [pair for pair, similarity in truth.items() if similarity >= threshold]
    partners = Counter(name for pair in truth for name in pair if kept & (set(pair) - {name}))
    dropped = [name for name in documents if name not in kept]
    return [
        Row(f"pairs over {threshold + MARGIN:.2f} that lost one", _share(not kept >= set(p) for p in sure), "of 1"),
        Row(f"pairs over {threshold:.2f} that lost one", _share(not kept >= set(p) for p in over), "of 1"),
        Row(
            f"dropped with a kept partner over {threshold - MARGIN:.2f}", _share(n in partners for n in dropped), "of 1"
        ),
        Row(f"pairs over {threshold + MARGIN:.2f}", len(sure), "pairs"),
        Row("dropped", len(dropped), "passages"),
    ]


def _share(found: Iterable[bool]) -> float:
    values = list(found)
    return sum(values) / max(1, len(values))


def _beside(
    documents: dict[str, str], kept: set[str], truth: Pairs, settings: NearDuplicateSettings, folder: Path
) -> list[Row]:
    """The peer's pairs: how many of them are alike, and how many of those lost one in ours."""
    started = time.perf_counter()
    pairs = _datatrove_pairs(documents, settings, folder)
    seconds = time.perf_counter() - started
    alike = [pair for pair in pairs if truth.get(pair, 0) >= settings.threshold]
    ours = [pair for pair in truth if truth[pair] >= settings.threshold and not kept >= set(pair)]
    theirs = _together(pairs)
    return [
        Row("datatrove's MinHash", seconds, "s"),
        Row("datatrove's pairs", len(pairs), "pairs"),
        Row("… that are alike", len(alike), "pairs"),
        Row("… of which ours dropped one", _share(not kept >= set(pair) for pair in alike), "of 1"),
        Row("ours that datatrove puts together", _share(theirs.get(a, a) == theirs.get(b, b) for a, b in ours), "of 1"),
    ]


def _together(pairs: set[tuple[str, str]]) -> dict[str, str]:
    """Of each passage in a pair, the first of those that pairs connect it with."""
    parents: dict[str, str] = {}

    def root(name: str) -> str:
        while (parent := parents.setdefault(name, name)) != name:
            name = parents[name] = parents[parent]
        return name

    for one, two in pairs:
        first, later = sorted((root(one), root(two)))
        parents[later] = first
    return {name: root(name) for name in list(parents)}


def _datatrove_pairs(documents: dict[str, str], settings: NearDuplicateSettings, folder: Path) -> set[tuple[str, str]]:
    """Pairs that share a bucket, by its own steps 1 and 2."""
    from datatrove.data import Document
    from datatrove.pipeline.dedup import MinhashDedupBuckets, MinhashDedupSignature
    from datatrove.pipeline.dedup.minhash import MinhashConfig
    from datatrove.utils.hashing import HashConfig
    from datatrove.utils.text import TextNormConfig

    from llmcore.corpus.cleaning.quality import word_splitter
    from llmcore.corpus.near import Banding

    names = list(documents)
    banding = Banding.of(settings.threshold, settings.num_permutations)
    config = MinhashConfig(
        n_grams=settings.shingle_words,
        num_buckets=banding.num_bands,
        hashes_per_bucket=banding.num_rows,
        hash_config=HashConfig(hash_fc="sha1"),
        norm_config=TextNormConfig(norm_numbers=False, norm_weekdays=False, norm_monthnames=False),
    )
    signatures, buckets = str(folder / "signatures"), str(folder / "buckets")
    first = MinhashDedupSignature(signatures, config, language=word_splitter("near_duplicates"))
    first.run(Document(text=text, id=name) for name, text in documents.items())
    pairs = set()
    for number in range(banding.num_bands):
        MinhashDedupBuckets(signatures, buckets, config=config).run(rank=number, world_size=banding.num_bands)
    for file in Path(buckets).rglob("*.dups"):
        for _, one, _, two in struct.iter_unpack("<4I", file.read_bytes()):
            pairs.add(_pair(names[one], names[two]))
    return pairs
