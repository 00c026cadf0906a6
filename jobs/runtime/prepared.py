"""From sources to documents: cleaned, without duplicates, in splits, free of held-out rows; and their passport.

The train split is balanced by the groups it names, and has its counterfactual copies. These are made after near
duplicates are dropped, which they are themselves, and before held-out rows are looked for, which a copy may have, too.
"""

from collections import Counter
from collections.abc import Mapping

from jobs.runtime.decontamination import decontaminate
from jobs.runtime.documents import Buckets, count_buckets, exchange, fill_buckets, read_documents, tally_of
from jobs.runtime.groups import add_counterfactuals, balance
from jobs.runtime.near_duplicates import drop_near_duplicates
from jobs.runtime.sources import Source, places_of
from jobs.runtime.timings import Timings
from llmcore.config.prepare import PrepareConfig
from llmcore.corpus.buckets import SplitRule, num_buckets_for
from llmcore.corpus.cleaning import Tally
from llmcore.corpus.passport import Contents, Passport
from llmcore.corpus.split import Shares
from llmcore.errors import CorpusError, ShardError
from llmcore.tasks.evaluation_set import EvaluationSet

__all__ = ["prepared_documents"]


def prepared_documents(
    config: PrepareConfig, sources: list[Source], others: Mapping[str, EvaluationSet], timings: Timings
) -> tuple[Buckets, Passport]:
    """All documents, read, cleaned, without duplicates, and split; and what was done to them.

    The train documents have no held-out row of the labelled sets to come, nor of `others`.

    Raises CorpusError for a source or a split without documents.
    """
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
    names = list(passport.read)
    if config.balance is not None:
        with timings.part("balance"):
            buckets.tables, passport.balanced = balance(
                buckets.tables, config.balanced_groups(), config.balance.tolerance, names
            )
    if config.counterfactuals is not None:
        with timings.part("counterfactuals"):
            buckets.tables, passport.counterfactuals = add_counterfactuals(
                buckets.tables, config.counterfactuals, config.seed, names
            )
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


def _check_quarantine(source: Source, tally: Tally, max_share: float) -> None:
    """Raises ShardError where more shards are in quarantine than may be."""
    if len(tally.quarantined) > max_share * len(source.shards):
        first = "; ".join(list(tally.quarantined.values())[:3])
        raise ShardError(
            f"source {source.reader.source}: {len(tally.quarantined)} of {len(source.shards)} shards cannot be read, "
            f"more than bad_shards.max_share={max_share}: {first}"
        )
