"""A stream, frozen: the listing of its shards, its tokenizer and its validation rows, before anything is trained on.

What must be known beforehand is learnt from a bounded sample, taken from all over the listing; the sample's validation
documents are never trained on. It is published like token shards, whose train split is not there yet.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import ray

from jobs.runtime.errors import fetch
from jobs.runtime.publish_tokens import publish_split, publish_tokenizer
from jobs.runtime.samples import Sample, take_samples
from jobs.runtime.sources import found_tokenizer, inputs_of, open_sources, other_sets, publish_sources
from jobs.runtime.tasks import data_task
from jobs.runtime.token_rows import ReadyTokenizer, TokenRows, make_tokenizer, write_rows
from llmcore.config import identity_of
from llmcore.config.stream import StreamSettings
from llmcore.corpus.shards import Shard
from llmcore.storage import Folder, artifact, content_hash, publish, read_manifest
from llmcore.tokens.frozen import ENCODER, HELD_OUT, LISTING, held_out_bytes, listing_bytes
from llmcore.tokens.shards import KIND, SPLITS, UNIGRAM_COUNTS, ShardLayout, array_bytes

__all__ = ["freeze", "frozen_folder"]

VERSION = 2


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
    samples = take_samples(settings, sources)
    tokenizer = found_tokenizer(settings.tokenizer, storage)
    ready = data_task(make_tokenizer).remote(tokenizer, *[sample.texts for sample in samples])
    pack = data_task(_pack, num_returns=3)
    packed = [
        Packed(*pack.remote(sample.validation, sample.texts, ready, settings, source.chat is not None))
        for sample, source in zip(samples, settings.sources, strict=True)
    ]
    listing = [source.shards for source in sources]
    _publish(settings, folder, listing, samples, fetch(ready), packed, sorted(one.hash for one in others.values()))
    return name


class Packed(NamedTuple):
    """Of one source, as references: its validation rows, their number, and how often each token is a target."""

    rows: "ray.ObjectRef[pa.Table]"
    num_rows: "ray.ObjectRef[int]"
    targets: "ray.ObjectRef[np.ndarray[Any, Any]]"


def _pack(
    validation: pa.Table, texts: list[str], ready: ReadyTokenizer, settings: StreamSettings, special: bool
) -> tuple[Any, ...]:
    """The validation rows of a source, their number, and how often each token is a target in the sample."""
    from llmcore.tokens.encode import count_rows, pack_documents

    encoder = ready.load()
    rows, _ = pack_documents(validation, encoder, settings.packing, special=special, seed=settings.seed)
    sample = pa.table({"text": pa.array(texts, pa.string()), "source": pa.array([0] * len(texts), pa.int16())})
    train, _ = pack_documents(sample, encoder, settings.packing, special=special, seed=settings.seed)
    return rows, rows.num_rows, count_rows(train, ready.vocab_size, 1, ready.special.end).targets


def _publish(
    settings: StreamSettings,
    folder: Folder,
    listing: Sequence[Sequence[Shard]],
    samples: Sequence[Sample],
    tokenizer: ReadyTokenizer,
    packed: Sequence[Packed],
    decontaminated: list[str],
) -> None:
    length, vocab_size = settings.packing.sequence_length, tokenizer.vocab_size
    layout = ShardLayout.of(length, vocab_size, settings.packing.shard_bytes)
    rows = [TokenRows([one.rows], [fetch(one.num_rows)]) for one in packed]
    with publish(folder, KIND, {}) as publication:
        references = write_rows(folder, "validation", rows, layout, vocab_size, tokenizer.special.end)
        publish_tokenizer(publication, tokenizer, settings.packing)
        publication.write_bytes(ENCODER, tokenizer.tokenizer.encode())
        publication.write_bytes(LISTING, listing_bytes(listing))
        publication.write_bytes(HELD_OUT, held_out_bytes([sample.held_out for sample in samples]))
        publication.write_bytes(UNIGRAM_COUNTS, array_bytes(sum(fetch(one.targets) for one in packed)))
        validation = publish_split(publication, [fetch(shard) for of_source in references for shard in of_source])
        nothing = {"num_rows": 0, "num_tokens": 0, "shards": []}
        publication.about |= {
            "streamed": True,
            "sources": [source.name for source in settings.sources],
            "sequence_length": length,
            "vocab_size": vocab_size,
            "rows_per_block": layout.rows_per_block,
            "splits": {split: validation if split == "validation" else nothing for split in SPLITS},
            "mixture": [],
            "special_ids": tokenizer.special._asdict(),
            "sentence_pairs": settings.packing.sentence_pairs,
            "encoder": tokenizer.encoder,
            "decontaminated": decontaminated,
        }
