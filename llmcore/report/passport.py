"""The data passport, as the page shows it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from llmcore.report.recorded import CleaningRecord, CounterfactualRecord, PassportRecord, SourceRecord, StepRecord

__all__ = ["DataPassport", "DroppedDocument", "NamedGroup", "SourceData", "passport_of"]


@dataclass(frozen=True)
class SourceData:
    """One source in the data passport.

    Attributes:
        read: Documents, before cleaning.
        kept: Documents in the splits; passages, where documents were split.
        megabytes, num_tokens: Of what is kept.
        tokens_per_byte: None where nothing is kept.
        languages, tokens_by_language: Documents kept, and tokens, the most frequent language first.
        counterfactuals: Copies in the train split.
        swaps: Words swapped in copies, by pair.
    """

    name: str
    read: int
    kept: int
    megabytes: float
    num_tokens: int
    tokens_per_byte: float | None
    languages: Mapping[str, int]
    tokens_by_language: Mapping[str, int]
    counterfactuals: int
    swaps: Mapping[str, int]


@dataclass(frozen=True)
class DroppedDocument:
    """An example of what a step dropped, and why."""

    step: str
    reason: str
    count: int
    id: str
    excerpt: str


@dataclass(frozen=True)
class NamedGroup:
    """How often a group of people is named in the train split of a source, and beside what."""

    source: str
    group: str
    terms: int
    documents: int
    beside_positive: int
    beside_negative: int


@dataclass(frozen=True)
class DataPassport:
    """What is in the corpus, and what was done to it.

    Attributes:
        masked: What was found and changed in documents, by step and kind.
        checked: Evaluation sets that were looked for: (name, held-out rows, contaminated documents).
    """

    sources: tuple[SourceData, ...] = ()
    masked: Mapping[str, int] = field(default_factory=dict)
    examples: tuple[DroppedDocument, ...] = ()
    checked: tuple[tuple[str, int, int], ...] = ()
    quarantined: Mapping[str, str] = field(default_factory=dict)
    groups: tuple[NamedGroup, ...] = ()


def passport_of(record: PassportRecord) -> DataPassport:
    """What the record says, in the order of the sources and steps."""
    masked: dict[str, int] = {}
    examples: list[DroppedDocument] = []
    quarantined: dict[str, str] = {}
    for name, source in record.sources.items():
        cleaning = source.cleaning or CleaningRecord()
        quarantined |= {f"{name}: {shard}": why for shard, why in cleaning.quarantined.items()}
        for step, done in cleaning.steps.items():
            examples += _examples(f"{name}: {step}", done)
            if step != "language":
                masked |= {f"{name}: {step}, {kind}": number for kind, number in done.found.items()}
    for step, across in (("near duplicates", record.near_duplicates), ("decontamination", record.decontamination)):
        examples += _examples(step, across or StepRecord())
    for name, source in record.sources.items():
        examples += _examples(f"{name}: balance", source.balance or StepRecord())
    sets = record.decontamination.sets if record.decontamination else {}
    return DataPassport(
        sources=tuple(_source(name, source) for name, source in record.sources.items()),
        masked=masked,
        examples=tuple(examples),
        checked=tuple((name, int(one["rows"]), int(one["contaminated_documents"])) for name, one in sets.items()),
        quarantined=quarantined,
        groups=tuple(
            NamedGroup(name, group, **counts)
            for name, source in record.sources.items()
            for group, counts in (source.group_terms or {}).items()
        ),
    )


def _source(name: str, source: SourceRecord) -> SourceData:
    kept = source.kept
    made = source.counterfactuals or CounterfactualRecord()
    return SourceData(
        name=name,
        read=source.read.get("documents", 0),
        kept=sum(kept.documents.values()),
        megabytes=sum(kept.bytes.values()) / 1e6,
        num_tokens=sum((source.tokenize.get("tokens") or {}).values()),
        tokens_per_byte=source.tokenize.get("tokens_per_byte"),
        languages=_most_first(kept.languages),
        tokens_by_language=_most_first(source.tokenize.get("tokens_by_language") or {}),
        counterfactuals=made.copies - made.duplicates,
        swaps=made.terms,
    )


def _most_first(languages: Mapping[str, int]) -> dict[str, int]:
    """The known languages, the most frequent first."""
    by_number = sorted(languages.items(), key=lambda item: (-item[1], item[0]))
    return {language: number for language, number in by_number if language != "unknown"}


def _examples(step: str, done: StepRecord) -> Iterator[DroppedDocument]:
    """One of each reason: the first of those that are kept."""
    for reason, shown in done.examples.items():
        if shown:
            first = shown[0]
            yield DroppedDocument(step, reason, done.dropped.get(reason, 0), str(first["id"]), str(first["excerpt"]))
