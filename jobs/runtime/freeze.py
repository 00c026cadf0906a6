"""A stream, frozen: the listing of its shards, its tokenizer and its validation rows, before anything is trained on.

What must be known beforehand is learnt from a bounded sample, taken from all over the listing; the sample's validation
documents are never trained on. It is published like token shards, whose train split is not there yet.
"""

import hashlib
from collections import Counter
from collections.abc import Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import ray

from jobs.runtime.errors import fetch
from jobs.runtime.sources import Source, inputs_of, open_sources, other_sets, publish_sources
from jobs.runtime.token_rows import ReadyTokenizer, TokenRows, WrittenShard, make_tokenizer, write_rows
from llmcore.config import identity_of
from llmcore.config.stream import StreamSettings
from llmcore.corpus.buckets import with_digests
from llmcore.corpus.portions import HeldOut, PortionReader, portions_of
from llmcore.errors import CorpusError
from llmcore.storage import Folder, artifact, content_hash, publish, read_manifest, readable_json
from llmcore.tokens.frozen import ENCODER, HELD_OUT, LISTING, listing_bytes
from llmcore.tokens.shards import KIND, SPLITS, UNIGRAM_COUNTS, ShardLayout, array_bytes

__all__ = ["freeze", "frozen_folder"]

VERSION = 1
_PLACES = 16
"""Of a source, from which its sample is taken."""


def frozen_folder(storage: Folder, name: str) -> Folder:
    """Where the frozen stream of that name is."""
    return artifact(storage, KIND, name)


def freeze(settings: StreamSettings, storage: Folder) -> str:
    """List the shards as they are now, and learn what training needs; returns the name of what is published.

    Raises CorpusError for a source that is missing or empty, ShardError for a shard of the sample that cannot be read,
    ConfigError for a vocabulary larger than the sample can fill.
    """
    others = other_sets(settings, storage)
    name = content_hash("stream", VERSION, inputs_of(settings, storage), identity_of(settings))
    folder = frozen_folder(storage, name)
    if read_manifest(folder) is not None:
        return name
    urls, _ = publish_sources(settings, storage)
    sources = open_sources(settings, urls, storage)
    samples = _take_samples(settings, sources)
    ready = ray.remote(make_tokenizer).remote(settings.tokenizer, *[sample.texts for sample in samples])
    pack = ray.remote(_pack).options(num_returns=3)
    special = [source.chat is not None for source in settings.sources]
    packed = [
        pack.remote(sample.validation, sample.texts, ready, settings, meant)
        for sample, meant in zip(samples, special, strict=True)
    ]
    tokenizer: ReadyTokenizer = fetch(ready)
    rows = [TokenRows([table], [fetch(size)]) for table, size, _ in packed]
    _publish(settings, folder, sources, samples, tokenizer, rows, [fetch(counts) for *_, counts in packed], others)
    return name


class _Sample(NamedTuple):
    """Of one source: references to train texts and validation documents; and what says which those are."""

    texts: "ray.ObjectRef[list[str]]"
    validation: "ray.ObjectRef[pa.Table]"
    held_out: HeldOut
    characters: int


def _take_samples(settings: StreamSettings, sources: Sequence[Source]) -> list[_Sample]:
    """A sample of each source, by its share of the bytes."""
    wanted = settings.validation_bytes + settings.tokenizer.sample_bytes
    total = sum(shard.size for source in sources for shard in source.shards)
    take = ray.remote(_take).options(num_returns=4)
    taken = []
    for number, (source, of) in enumerate(zip(sources, settings.sources, strict=True)):
        share = sum(shard.size for shard in source.shards) / max(1, total)
        num_bytes = max(1, int(wanted * share))
        reader = PortionReader(
            source.reader,
            source.shards,
            of.cleaning or settings.cleaning,
            max(1, num_bytes // _PLACES),
            seed=settings.seed,
            pass_bad=settings.bad_shards.policy == "quarantine",
        )
        taken.append(take.remote(reader, number, num_bytes, int(settings.validation_bytes * share)))
    samples = [_Sample(texts, validation, *fetch([held_out, size])) for texts, validation, held_out, size in taken]
    if not any(sample.held_out.keys or sample.held_out.digests for sample in samples):
        raise CorpusError(
            f"the sources {[source.reader.source for source in sources]} have no document in their samples"
        )
    return samples


def _take(reader: PortionReader, number: int, num_bytes: int, validation_bytes: int) -> tuple[Any, ...]:
    """Documents from all over a source, as train texts and as validation documents; which those are; their size."""
    import pyarrow.compute as pc

    portions = portions_of(number, reader.shards, reader.window_bytes, reader.seed)
    step = -(-len(portions) // _PLACES)
    under_way = [reader.windows(portion) for portion in portions[::step]]
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
    size = pc.sum(pc.utf8_length(validation["text"])).as_py() or 0
    return train["text"].to_pylist(), validation.drop_columns(["digest"]), held_out, size


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


def _pack(
    validation: pa.Table, texts: list[str], ready: ReadyTokenizer, settings: StreamSettings, special: bool
) -> tuple[Any, ...]:
    """The validation rows of a source, their number, and how often each token is a target in the sample."""
    from llmcore.tokens.encode import count_rows, pack_documents

    encoder = ready.load()
    rows = pack_documents(validation, encoder, settings.packing, special=special)
    sample = pa.table({"text": pa.array(texts, pa.string()), "source": pa.array([0] * len(texts), pa.int16())})
    train = pack_documents(sample, encoder, settings.packing, special=special)
    return rows, rows.num_rows, count_rows(train, ready.vocab_size, 1, ready.special.end).targets


def _publish(
    settings: StreamSettings,
    folder: Folder,
    sources: Sequence[Source],
    samples: Sequence[_Sample],
    tokenizer: ReadyTokenizer,
    rows: list[TokenRows],
    targets: list[Any],
    others: Any,
) -> None:
    from tokenizers import Tokenizer

    from llmcore.tokens.tokenizer import hugging_face_files

    length, vocab_size = settings.packing.sequence_length, tokenizer.vocab_size
    layout = ShardLayout.of(length, vocab_size, settings.packing.shard_bytes)
    names = [source.name for source in settings.sources]
    with publish(folder, KIND, {}) as publication:
        references = write_rows(folder, "validation", rows, layout, vocab_size, tokenizer.special.end)
        files = tokenizer.files or hugging_face_files(Tokenizer.from_str(tokenizer.tokenizer), length)
        for name, data in files.items():
            publication.write_bytes(f"tokenizer/{name}", data)
        publication.write_bytes(ENCODER, tokenizer.tokenizer.encode())
        publication.write_bytes(LISTING, listing_bytes([source.shards for source in sources]))
        held_out = {
            "keys": sorted(chain.from_iterable(sample.held_out.keys for sample in samples)),
            "digests": sorted(digest.hex() for sample in samples for digest in sample.held_out.digests),
        }
        publication.write_bytes(HELD_OUT, readable_json(held_out))
        publication.write_bytes(UNIGRAM_COUNTS, array_bytes(sum(targets)))
        written: list[WrittenShard] = [fetch(shard) for of_source in references for shard in of_source]
        for shard in written:
            publication.add(shard.entry)
        splits: dict[str, dict[str, Any]] = {split: {"num_rows": 0, "num_tokens": 0, "shards": []} for split in SPLITS}
        splits["validation"] = {
            "num_rows": sum(shard.num_rows for shard in written),
            "num_tokens": sum(shard.counts.num_tokens for shard in written),
            "num_documents": sum(shard.counts.num_documents for shard in written),
            "num_characters": sum(sample.characters for sample in samples),
            "shards": [{"name": shard.entry.name, "num_rows": shard.num_rows} for shard in written],
        }
        publication.about |= {
            "streamed": True,
            "sources": names,
            "sequence_length": length,
            "vocab_size": vocab_size,
            "rows_per_block": layout.rows_per_block,
            "splits": splits,
            "mixture": [],
            "special_ids": tokenizer.special._asdict(),
            "encoder": tokenizer.encoder,
            "decontaminated": sorted(labelled.hash for labelled in others.values()),
        }
