"""Token shards, their tokenizer and what is said of them, published as one artifact."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import ray
from tokenizers import Tokenizer

from jobs.runtime.documents import Buckets
from jobs.runtime.errors import fetch
from jobs.runtime.tasks import data_task
from jobs.runtime.token_rows import PackedBuckets, ReadyTokenizer, WrittenShard, write_rows
from llmcore.config.prepare import PackingSettings, PrepareConfig
from llmcore.corpus.document_lists import write_document_lists
from llmcore.corpus.passport import Passport
from llmcore.errors import CorpusError
from llmcore.storage import FileEntry, Folder, Publication, publish, readable_json
from llmcore.tokens.encode import PieceCounts
from llmcore.tokens.shards import KIND as TOKENS
from llmcore.tokens.shards import PASSPORT, UNIGRAM_COUNTS, ShardLayout, array_bytes
from llmcore.tokens.tokenizer import hugging_face_files

__all__ = ["publish_split", "publish_tokenizer", "publish_tokens"]


def publish_tokens(
    config: PrepareConfig,
    folder: Folder,
    buckets: Buckets,
    packed: PackedBuckets,
    tokenizer: ReadyTokenizer,
    passport: Passport,
    about: dict[str, Any],
) -> None:
    """Write the token shards, the tokenizer, the counts of train targets and the passport; the manifest last.

    Where a source has metadata, also what is told of each document.
    """
    length, vocab_size = config.packing.sequence_length, tokenizer.vocab_size
    layout = ShardLayout.of(length, vocab_size, config.packing.shard_bytes)
    splits: dict[str, dict[str, Any]] = {}
    with publish(folder, TOKENS, about) as publication:
        writing = {
            split: write_rows(folder, split, rows, layout, vocab_size, tokenizer.special.end)
            for split, rows in packed.rows.items()
        }
        listed = _write_lists(config, folder, buckets, packed)
        publish_tokenizer(publication, tokenizer, config.packing)
        for split, references in writing.items():
            of_sources: list[list[WrittenShard]] = [fetch(of_source) for of_source in references]
            written = [shard for of_source in of_sources for shard in of_source]
            splits[split] = publish_split(publication, written) | {
                "num_characters": buckets.characters[split],
                "num_keys": buckets.num_keys[split],
            }
            passport.count_tokens(split, [shard.counts.by_source for shard in written])
            if split == "train":
                publication.write_bytes(
                    UNIGRAM_COUNTS, array_bytes(np.sum([shard.counts.targets for shard in written], axis=0))
                )
                publication.about["mixture"] = _mixture(config, of_sources)
        for entries in listed:
            for entry in fetch(entries):
                publication.add(entry)
        passport.languages = {
            source.name: found for source, found in zip(config.sources, packed.languages, strict=True)
        }
        publication.write_bytes(PASSPORT, readable_json(passport.to_json()))
        publication.about |= {
            "sequence_length": length,
            "vocab_size": vocab_size,
            "rows_per_block": layout.rows_per_block,
            "splits": splits,
            "special_ids": tokenizer.special._asdict(),
            "sentence_pairs": config.packing.sentence_pairs,
            **_totals(splits, length),
        }


def publish_tokenizer(publication: Publication, tokenizer: ReadyTokenizer, packing: PackingSettings) -> None:
    """Add the tokenizer to what is published, as Hugging Face files: those it was found in, or new ones."""
    files = tokenizer.files or hugging_face_files(
        Tokenizer.from_str(tokenizer.tokenizer),
        packing.sequence_length,
        begin=tokenizer.special.begin is not None,
        token_types=packing.sentence_pairs,
    )
    for name, data in files.items():
        publication.write_bytes(f"tokenizer/{name}", data)


def publish_split(publication: Publication, written: Sequence[WrittenShard]) -> dict[str, Any]:
    """Add the shards of a split to what is published; returns what the manifest says of it."""
    for shard in written:
        publication.add(shard.entry)
    return {
        "num_rows": sum(shard.num_rows for shard in written),
        "num_tokens": sum(shard.counts.num_tokens for shard in written),
        "num_documents": sum(shard.counts.num_documents for shard in written),
        "pieces": {name: sum(getattr(shard.counts.pieces, name) for shard in written) for name in PieceCounts._fields},
        "shards": [{"name": shard.entry.name, "num_rows": shard.num_rows} for shard in written],
    }


def _write_lists(
    config: PrepareConfig, folder: Folder, buckets: Buckets, packed: PackedBuckets
) -> "list[ray.ObjectRef[list[FileEntry]]]":
    """Write what is told of each document, a task a bucket; nothing where no source has metadata."""
    if not any(source.metadata for source in config.sources):
        return []
    write = data_task(write_document_lists)
    names = [source.name for source in config.sources]
    return [
        write.remote(folder, number, table, num_tokens, names)
        for number, (table, num_tokens) in enumerate(zip(buckets.tables, packed.num_tokens, strict=True))
    ]


def _mixture(config: PrepareConfig, shards: list[list[WrittenShard]]) -> list[dict[str, Any]]:
    """What the train split has of each source, and how a pre-training is to read it."""
    mixture: list[dict[str, Any]] = []
    first_row = 0
    for source, written in zip(config.sources, shards, strict=True):
        num_rows = sum(shard.num_rows for shard in written)
        if source.weight is not None and not num_rows:
            raise CorpusError(f"source {source.name} has a weight, but no train rows: give it more documents, or none")
        counts = {"first_row": first_row, "num_rows": num_rows}
        counts["num_tokens"] = sum(shard.counts.num_tokens for shard in written)
        mixture.append({"name": source.name, **counts, "weight": source.weight, "max_epochs": source.max_epochs})
        first_row += num_rows
    return mixture


def _totals(splits: dict[str, dict[str, Any]], sequence_length: int) -> dict[str, Any]:
    """Counts of all splits together, then of each; and the share of the rows that is no padding."""
    names = ("num_documents", "num_characters", "num_tokens", "num_rows")
    total = {name: sum(split[name] for split in splits.values()) for name in names}
    num_places = total["num_rows"] * sequence_length
    counts = total | {"num_padding": num_places - total["num_tokens"]}
    by_split = {split: {name: about[name] for name in (*names, "num_keys")} for split, about in splits.items()}
    return {"counts": counts | by_split, "fill_fraction": round(total["num_tokens"] / num_places, 5)}
