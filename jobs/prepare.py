"""`prepare`: Ray Data reads corpora; out come token shards, and labelled sets, named by what they are made from."""

from collections import Counter
from typing import TYPE_CHECKING, Any

from jobs.runtime.console import say
from jobs.runtime.options import RunOptions
from jobs.runtime.retries import counted_retries
from jobs.runtime.start import find_or_do
from jobs.runtime.timings import Timings
from llmcore.config import identity_of
from llmcore.config.prepare import PrepareConfig, SourceSettings
from llmcore.records import begin_attempt, finished_result
from llmcore.storage import Folder, artifact, content_hash, read_manifest

if TYPE_CHECKING:
    from jobs.runtime.token_rows import ReadyTokenizer

__all__ = ["finished", "plan", "prepare", "result_line", "run"]

KIND = "prepare"
STEP_VERSION = 5
_TOLD = ("labelled_sets", "dropped", "counts", "fill_fraction", "sentence_pairs")
"""What the manifest of the tokens and the run's result share."""


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
    what = "sentence pairs" if result["sentence_pairs"] else "documents"
    return (
        f"prepare: {counts['num_documents']:,} {what}, {counts['num_tokens']:,} tokens in {counts['num_rows']:,} "
        f"rows ({result['fill_fraction']:.1%} filled), dropped {dropped or 'nothing'}, in {storage.url}/"
        f"{result['tokens']}"
    )


def finished(config: PrepareConfig, storage: Folder) -> dict[str, Any] | None:
    """The result of an earlier start, if all that it published is there. Raises CorpusError for a missing corpus."""
    from jobs.runtime.sources import inputs_of

    return _finished(config, storage, inputs_of(config, storage))


def _finished(config: PrepareConfig, storage: Folder, inputs: dict[str, str]) -> dict[str, Any] | None:
    result = finished_result(storage, config, kind=KIND, step_version=STEP_VERSION, inputs=inputs)
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

    inputs = inputs_of(config, storage)  # once: it asks for every shard, and the hub for every dataset
    result = _finished(config, storage, inputs)
    if result is not None:
        return result
    attempt = begin_attempt(
        storage,
        config,
        kind=KIND,
        step_version=STEP_VERSION,
        inputs=inputs,
        allow_changes=options.allow_changes,
        say=say,
    )
    urls = [storage.url, *(source.url for source in config.sources if source.url)]
    with attempt, attempt.ledger.measure("compute"), counted_retries(KIND, urls, attempt.result):
        name = content_hash(KIND, STEP_VERSION, inputs, identity_of(config))
        folder = artifact(storage, "tokens", name)
        timings = Timings(KIND)
        if read_manifest(folder) is None:
            _make(config, storage, folder, timings)
        manifest = read_manifest(folder)
        assert manifest is not None
        attempt.result |= {"tokens": f"artifacts/tokens/{name}", "tokens_sha256": manifest.sha256}
        attempt.result |= {key: manifest.about[key] for key in _TOLD}
        attempt.result["seconds"] = timings.seconds
    return attempt.result


def _make(config: PrepareConfig, storage: Folder, folder: Folder, timings: Timings) -> None:
    """Publish the labelled sets, then the token shards, whose manifest says that all is there."""
    from jobs.runtime.errors import fetch
    from jobs.runtime.labelled_sets import publish_labelled_set
    from jobs.runtime.prepared import prepared_documents
    from jobs.runtime.publish_tokens import publish_tokens
    from jobs.runtime.sources import found_tokenizer, open_sources, other_sets, places_of, publish_sources
    from jobs.runtime.token_rows import pack_buckets, ready_tokenizer

    with timings.part("corpus"):
        urls, unreadable = publish_sources(config, storage)
        sources = open_sources(config, urls, storage)
        others = other_sets(config, storage)
    buckets, passport = prepared_documents(config, sources, others, timings)
    dropped = passport.dropped() + Counter({"unparsable_files": len(unreadable)})
    making = ready_tokenizer(buckets, found_tokenizer(config.tokenizer, storage))  # meanwhile, the labelled sets
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
        special = [source.chat is not None for source in config.sources]
        packed = pack_buckets(buckets, making, config.packing, special, config.seed)
        for source, of_source in zip(config.sources, packed.rows["train"], strict=True):
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
        publish_tokens(config, folder, buckets, packed, tokenizer, passport, about)
