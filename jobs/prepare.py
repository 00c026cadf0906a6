"""`prepare`: Ray Data reads corpora; out come token shards, and labelled sets, named by what they are made from."""

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from jobs.runtime.console import say
from jobs.runtime.options import RunOptions
from jobs.runtime.start import find_or_do
from llmcore.config import identity_of
from llmcore.config.prepare import PrepareConfig, SourceSettings
from llmcore.corpus.cleaning import Tally
from llmcore.corpus.passport import Contents, Passport
from llmcore.errors import CorpusError, ShardError
from llmcore.records import begin_attempt, finished_result
from llmcore.storage import Folder, artifact, content_hash, publish, read_manifest, readable_json

if TYPE_CHECKING:
    from jobs.runtime.documents import Buckets
    from jobs.runtime.sources import Source
    from jobs.runtime.token_rows import ReadyTokenizer, TokenRows, WrittenShard
    from llmcore.tasks.evaluation_set import EvaluationSet

__all__ = ["finished", "plan", "prepare", "result_line", "run"]

KIND = "prepare"
STEP_VERSION = 2


def run(config: PrepareConfig, options: RunOptions) -> None:
    """`python -m jobs prepare`."""
    result, storage = find_or_do(config, options, finished, lambda storage, _: prepare(config, storage, options))
    say(result_line(result, storage))


def plan(config: PrepareConfig) -> list[str]:
    """What `--dry-run` says."""
    sources = ", ".join(f"{source.name} ({_origin(source)})" for source in config.sources)
    sets = "".join(f", and the labelled set {labelled.name}" for labelled in config.labelled_sets)
    return [
        f"Reads {sources}; validation {config.splits.validation:.0%}, test {config.splits.test:.0%} of the documents",
        f"Writes token shards of {config.packing.sequence_length} tokens a row, from {_vocabulary(config)}{sets}",
    ]


def _origin(source: SourceSettings) -> str:
    return source.dataset.path if source.dataset is not None else str(source.builtin or source.url)


def _vocabulary(config: PrepareConfig) -> str:
    tokenizer = config.tokenizer
    return f"the vocabulary of {tokenizer.folder}" if tokenizer.folder else f"a vocabulary of {tokenizer.vocab_size}"


def result_line(result: dict[str, Any], storage: Folder) -> str:
    """The result in one line."""
    counts = result["counts"]
    dropped = ", ".join(f"{count} {reason.replace('_', ' ')}" for reason, count in result["dropped"].items() if count)
    return (
        f"prepare: {counts['num_documents']:,} documents, {counts['num_tokens']:,} tokens in {counts['num_rows']:,} "
        f"rows ({result['fill_fraction']:.1%} filled), dropped {dropped or 'nothing'}, in {storage.url}/"
        f"{result['tokens']}"
    )


def finished(config: PrepareConfig, storage: Folder) -> dict[str, Any] | None:
    """The result of an earlier start, if all that it published is there. Raises CorpusError for a missing corpus."""
    from jobs.runtime.sources import inputs_of

    result = finished_result(storage, config, kind=KIND, step_version=STEP_VERSION, inputs=inputs_of(config, storage))
    if result is None:
        return None
    published = [result["tokens"], *result["labelled_sets"].values()]
    return result if all(read_manifest(storage / path) is not None for path in published) else None


def prepare(config: PrepareConfig, storage: Folder, options: RunOptions) -> dict[str, Any]:
    """Publishes token shards and labelled sets, unless they are there; Ray is connected.

    Raises:
        CorpusError: a corpus is missing, empty, or not as the configuration says; the message names its URL.
        ConfigError: the vocabulary is larger than the train split can fill.
        ShardError: a shard cannot be read; the message names it, and the row.
    """
    from jobs.runtime.sources import inputs_of

    result = finished(config, storage)
    if result is not None:
        return result
    inputs = inputs_of(config, storage)
    attempt = begin_attempt(
        storage,
        config,
        kind=KIND,
        step_version=STEP_VERSION,
        inputs=inputs,
        allow_changes=options.allow_changes,
        say=say,
    )
    with attempt, attempt.ledger.measure("compute"):
        name = content_hash(KIND, STEP_VERSION, inputs, identity_of(config))
        folder = artifact(storage, "tokens", name)
        timings = _Timings()
        if read_manifest(folder) is None:
            _make(config, storage, folder, timings)
        manifest = read_manifest(folder)
        assert manifest is not None
        attempt.result |= {"tokens": f"artifacts/tokens/{name}", "tokens_sha256": manifest.sha256}
        attempt.result |= {key: manifest.about[key] for key in ("labelled_sets", "dropped", "counts", "fill_fraction")}
        attempt.result["seconds"] = timings.seconds
    return attempt.result


@dataclass
class _Timings:
    """Seconds by part, said as they pass."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - started, 2)
        say(f"prepare: {name}, {self.seconds[name]:.1f} s")


def _make(config: PrepareConfig, storage: Folder, folder: Folder, timings: _Timings) -> None:
    """Publish the labelled sets, then the token shards, whose manifest says that all is there."""
    from jobs.runtime.documents import fetch
    from jobs.runtime.labelled_sets import publish_labelled_set
    from jobs.runtime.sources import open_sources, other_sets, places_of, publish_sources
    from jobs.runtime.token_rows import pack_buckets, ready_tokenizer

    with timings.part("corpus"):
        urls, unreadable = publish_sources(config, storage)
        sources = open_sources(config, urls, storage)
        others = other_sets(config, storage)
    buckets, passport = _documents(config, sources, others, timings)
    dropped = passport.dropped() + Counter({"unparsable_files": len(unreadable)})
    making = ready_tokenizer(buckets, config.tokenizer)  # meanwhile, the labelled sets
    sets = {}
    checked = {name: labelled.hash for name, labelled in others.items()}
    with timings.part("labelled sets"):
        for settings in config.labelled_sets:
            labelled, left_out = publish_labelled_set(storage, buckets, settings, places_of(config))
            sets[settings.name] = f"artifacts/evaluation-sets/{labelled.hash}"
            checked[settings.name] = labelled.hash
            dropped.update({f"{settings.name}: {reason}": count for reason, count in left_out.items()})
    if passport.decontamination is not None:
        passport.decontamination.hashes = checked
    with timings.part("tokenizer"):
        tokenizer: ReadyTokenizer = fetch(making)
        if tokenizer.slow_because is not None:
            say(f"prepare: encodes with {tokenizer.encoder}, since {tokenizer.slow_because}")
    with timings.part("tokenize and pack"):
        rows = pack_buckets(buckets, making, config.packing, len(config.sources))
        for source, of_source in zip(config.sources, rows["train"], strict=True):
            if source.max_tokens is not None and (
                over := of_source.cut(source.max_tokens // config.packing.sequence_length)
            ):
                dropped[f"{source.name}: rows over max_tokens"] = over
    with timings.part("write"):
        about = {
            "labelled_sets": sets,
            "dropped": dict(sorted(dropped.items())),
            "unparsable_files": unreadable,
            "sources": [source.name for source in config.sources],
            "encoder": tokenizer.encoder,
            "decontaminated": sorted(checked.values()) if passport.decontamination is not None else [],
        }
        _publish(config, folder, buckets, rows, tokenizer, passport, about)


def _documents(
    config: PrepareConfig, sources: "list[Source]", others: "Mapping[str, EvaluationSet]", timings: _Timings
) -> "tuple[Buckets, Passport]":
    """All documents, read, cleaned, without duplicates, and split; and what was done to them.

    The train documents have no held-out row of the labelled sets to come, nor of `others`.

    Raises CorpusError for a source or a split without documents.
    """
    from jobs.runtime.decontamination import decontaminate
    from jobs.runtime.documents import count_buckets, exchange, fill_buckets, read_documents, tally_of
    from jobs.runtime.near_duplicates import drop_near_duplicates
    from jobs.runtime.sources import places_of
    from llmcore.corpus.buckets import SplitRule, num_buckets_for
    from llmcore.corpus.split import Shares

    passport = Passport()
    with timings.part("read"):
        datasets = [read_documents(source, config.seed, config.read_parallelism) for source in sources]
        num_bytes = sum(shard.size for source in sources for shard in source.shards)
        parts, census = exchange(datasets, num_buckets_for(num_bytes))
        for number, source in enumerate(sources):
            name = source.reader.source
            passport.read[name] = census.sources[number]
            if (tally := tally_of(source)) is not None:
                passport.cleaning[name] = tally
                _check_quarantine(source, tally, config.bad_shards.max_share)
    for number, source in enumerate(sources):
        if not census.sources[number]:
            raise CorpusError(
                f"source {source.reader.source}: {source.url} has no documents in its {len(source.shards)} shards"
                f"{passport.reason(source.reader.source)}; give a corpus that has some"
            )
    with timings.part("split and deduplicate"):
        rule = SplitRule.of(census, Shares(config.splits.validation, config.splits.test), config.seed)
        buckets = fill_buckets(parts, rule)
        del parts
        passport.exact_duplicates = buckets.dropped + Counter({"empty": census.empty})
    if config.near_duplicates is not None:
        with timings.part("near duplicates"):
            buckets.tables, passport.near_duplicates = drop_near_duplicates(buckets.tables, config.near_duplicates)
    if config.decontamination is not None:
        with timings.part("decontaminate"):
            buckets.tables, passport.decontamination = decontaminate(
                buckets.tables, config.decontamination, config.labelled_sets, places_of(config), others
            )
    contents = count_buckets(buckets, config.tokenizer.sample_bytes, config.group_terms)
    passport.kept = {source.reader.source: contents.get(number, Contents()) for number, source in enumerate(sources)}
    for split, share in {"train": 1.0, **config.splits.model_dump()}.items():
        if share > 0 and not buckets.documents[split]:
            raise CorpusError(
                f"the {split} split is empty: {buckets.documents.total()} documents with {len(rule.keys)} keys do not "
                "fill it; give more documents, or keys, or another share in `splits`"
            )
    return buckets, passport


def _check_quarantine(source: "Source", tally: Tally, max_share: float) -> None:
    """Raises ShardError where more shards are in quarantine than may be."""
    if len(tally.quarantined) > max_share * len(source.shards):
        first = "; ".join(list(tally.quarantined.values())[:3])
        raise ShardError(
            f"source {source.reader.source}: {len(tally.quarantined)} of {len(source.shards)} shards cannot be read, "
            f"more than bad_shards.max_share={max_share}: {first}"
        )


def _publish(
    config: PrepareConfig,
    folder: Folder,
    buckets: "Buckets",
    rows: "dict[str, list[TokenRows]]",
    tokenizer: "ReadyTokenizer",
    passport: Passport,
    about: dict[str, Any],
) -> None:
    """Write the token shards, the tokenizer, the counts of train targets and the passport; the manifest last."""
    import numpy as np
    from tokenizers import Tokenizer

    from jobs.runtime.documents import fetch
    from jobs.runtime.token_rows import write_rows
    from llmcore.tokens.shards import KIND as TOKENS
    from llmcore.tokens.shards import PASSPORT, UNIGRAM_COUNTS, ShardLayout, array_bytes
    from llmcore.tokens.tokenizer import hugging_face_files

    length, vocab_size = config.packing.sequence_length, tokenizer.vocab_size
    layout = ShardLayout.of(length, vocab_size, config.packing.shard_bytes)
    splits: dict[str, dict[str, Any]] = {}
    with publish(folder, TOKENS, about) as publication:
        writing = {
            split: write_rows(folder, split, packed, layout, vocab_size, tokenizer.special.end)
            for split, packed in rows.items()
        }
        files = tokenizer.files or hugging_face_files(Tokenizer.from_str(tokenizer.tokenizer), length)
        for name, data in files.items():
            publication.write_bytes(f"tokenizer/{name}", data)
        for split, references in writing.items():
            of_sources: list[list[WrittenShard]] = [fetch(of_source) for of_source in references]
            written = [shard for of_source in of_sources for shard in of_source]
            for shard in written:
                publication.add(shard.entry)
            splits[split] = {
                "num_rows": sum(shard.num_rows for shard in written),
                "num_tokens": sum(shard.counts.num_tokens for shard in written),
                "num_documents": sum(shard.counts.num_documents for shard in written),
                "num_characters": buckets.characters[split],
                "num_keys": buckets.num_keys[split],
                "shards": [{"name": shard.entry.name, "num_rows": shard.num_rows} for shard in written],
            }
            passport.count_tokens(split, [shard.counts.by_source for shard in written])
            if split == "train":
                publication.write_bytes(
                    UNIGRAM_COUNTS, array_bytes(np.sum([shard.counts.targets for shard in written], axis=0))
                )
                publication.about["mixture"] = _mixture(config, of_sources)
        publication.write_bytes(PASSPORT, readable_json(passport.to_json()))
        publication.about |= {
            "sequence_length": length,
            "vocab_size": vocab_size,
            "rows_per_block": layout.rows_per_block,
            "splits": splits,
            "special_ids": tokenizer.special._asdict(),
            **_totals(splits, length),
        }


def _mixture(config: PrepareConfig, shards: "list[list[WrittenShard]]") -> list[dict[str, Any]]:
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
