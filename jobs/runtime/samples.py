"""A bounded sample of each source of a stream: train texts to learn from, and documents that become validation rows."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import ray

from jobs.runtime.errors import fetch
from jobs.runtime.sources import Source
from jobs.runtime.tasks import data_task
from llmcore.config.stream import StreamSettings
from llmcore.corpus.buckets import with_digests
from llmcore.corpus.portions import HeldOut, Portion, PortionReader, portions_of
from llmcore.errors import CorpusError

__all__ = ["Sample", "take_samples"]

_PLACES = 16
"""Of a source, from which its sample is taken."""


class Sample(NamedTuple):
    """Of one source: references to train texts and validation documents; and what says which those are."""

    texts: "ray.ObjectRef[list[str]]"
    validation: "ray.ObjectRef[pa.Table]"
    held_out: HeldOut


def take_samples(settings: StreamSettings, sources: Sequence[Source]) -> list[Sample]:
    """A sample of each source, by its share of the bytes."""
    wanted = settings.validation_bytes + settings.tokenizer.sample_bytes
    total = sum(shard.size for source in sources for shard in source.shards)
    take = data_task(_take, num_returns=3)
    taken = []
    for number, (source, of) in enumerate(zip(sources, settings.sources, strict=True)):
        share = sum(shard.size for shard in source.shards) / max(1, total)
        num_bytes = max(1, int(wanted * share))
        portions = portions_of(number, source.shards, num_bytes // _PLACES, settings.seed)
        reader = PortionReader(
            source.reader,
            of.cleaning or settings.cleaning,
            max(1, num_bytes // _PLACES),
            seed=settings.seed,
            pass_bad=settings.bad_shards.policy == "quarantine",
        )
        taken.append(
            take.remote(
                reader, portions[:: -(-len(portions) // _PLACES)], num_bytes, int(settings.validation_bytes * share)
            )
        )
    samples = [Sample(texts, validation, fetch(held_out)) for texts, validation, held_out in taken]
    if not any(sample.held_out.keys or sample.held_out.digests for sample in samples):
        names = ", ".join(source.reader.source for source in sources)
        raise CorpusError(f"the samples of {names} have too few documents to hold one out: give more of them")
    return samples


def _take(reader: PortionReader, portions: Sequence[Portion], num_bytes: int, validation_bytes: int) -> tuple[Any, ...]:
    """Documents of portions from all over a source, as train texts and as validation documents; and which those are."""
    import pyarrow.compute as pc

    under_way = [reader.windows(portion) for portion in portions]
    tables, left = [], num_bytes
    while under_way and left > 0:
        for windows in list(under_way):
            window = next(windows, None)
            if window is None:
                under_way.remove(windows)
                continue
            tables.append(window.documents)
            left -= pc.sum(pc.binary_length(window.documents["text"])).as_py() or 0
            if left <= 0:
                break
    documents = with_digests(pa.concat_tables(tables), reader.seed)
    keys, digests = documents["key"].to_pylist(), documents["digest"].to_pylist()
    names = [key if key is not None else digest.hex() for key, digest in zip(keys, digests, strict=True)]
    chosen = _some(names, pc.binary_length(documents["text"]).to_pylist(), validation_bytes)
    held = np.array([name in chosen for name in names], bool)
    validation, train = documents.filter(pa.array(held)), documents.filter(pa.array(~held))
    of_held = [(keys[at], digests[at]) for at in np.flatnonzero(held)]
    held_out = HeldOut(
        frozenset(key for key, _ in of_held if key is not None),
        frozenset(digest for key, digest in of_held if key is None),
    )
    return train["text"].to_pylist(), validation.drop_columns(["digest"]), held_out


def _some(names: Sequence[str], sizes: Sequence[int], wanted: int) -> set[str]:
    """Names, as good as random, whose documents have about so many bytes: one at least, and half of them at most."""
    by_name: Counter[str] = Counter()
    for name, size in zip(names, sizes, strict=True):
        by_name[name] += size
    ranked = sorted(by_name, key=lambda name: hashlib.blake2b(name.encode(), digest_size=8).digest())
    chosen: set[str] = set()
    for name in ranked[: len(ranked) // 2]:
        chosen.add(name)
        wanted -= by_name[name]
        if wanted <= 0:
            break
    return chosen
