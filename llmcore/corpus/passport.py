"""The data passport: what is in a corpus, and what was done to it; each number under the step that made it."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from llmcore.config.group_terms import GroupTermSettings
from llmcore.corpus.cleaning.tally import StepTally, Tally
from llmcore.corpus.counterfactual import CounterfactualCounts
from llmcore.corpus.group_terms import GroupCounts, count_groups, merge_groups

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Balanced", "Contents", "Decontamination", "NearDuplicates", "Passport", "contents_of"]


@dataclass
class NearDuplicates:
    """What was found and dropped.

    Attributes:
        num_candidates: pairs that share a band.
        num_pairs: those whose similarity is at least the threshold.
        num_rounds: until each document had its verdict.
        tally: reasons `near_duplicate` and `near_duplicate_of_held_out`, with examples.
    """

    num_candidates: int = 0
    num_pairs: int = 0
    num_rounds: int = 0
    tally: StepTally = field(default_factory=StepTally)

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        counts = {"candidate_pairs": self.num_candidates, "alike_pairs": self.num_pairs, "rounds": self.num_rounds}
        return counts | self.tally.to_json()


@dataclass
class Decontamination:
    """Which evaluation sets were looked for in the train split, and what was found.

    Attributes:
        ngram_words, min_overlap: what counts as having a row; 0 where there was no set.
        num_rows: by set, the held-out rows that were looked for.
        unchecked: by set, those that are too short to be.
        contaminated: by set, train documents that had a row of it, and were dropped.
        hashes: by set, the `EvaluationSet.hash`.
        tally: reason `contaminated`, with examples.
    """

    ngram_words: int = 0
    min_overlap: float = 0.0
    num_rows: dict[str, int] = field(default_factory=dict)
    unchecked: Counter[str] = field(default_factory=Counter)
    contaminated: Counter[str] = field(default_factory=Counter)
    hashes: dict[str, str] = field(default_factory=dict)
    tally: StepTally = field(default_factory=StepTally)

    def to_json(self) -> dict[str, Any]:
        """As plain values, by set."""
        sets = {
            name: {
                "hash": self.hashes.get(name),
                "rows": number,
                "rows_too_short": self.unchecked[name],
                "contaminated_documents": self.contaminated[name],
            }
            for name, number in self.num_rows.items()
        }
        rule = {"ngram_words": self.ngram_words, "min_overlap": self.min_overlap}
        return rule | {"sets": sets} | self.tally.to_json()


@dataclass
class Balanced:
    """What was dropped of one source until groups of people were balanced.

    Attributes:
        documents: train documents that named this group alone, before.
        tally: reasons `over_represented: <group>`, with examples.
    """

    documents: dict[str, int]
    tally: StepTally = field(default_factory=StepTally)

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {"documents_of_group": self.documents} | self.tally.to_json()


@dataclass
class Contents:
    """Documents of one source (or passages, where it was split), by what they are.

    Attributes:
        documents, characters, bytes: by split; bytes of UTF-8.
        languages: documents by language, `unknown` where none was looked for.
        lengths: documents by the power of two that their number of characters reaches: 7 is 128 … 255.
        groups: of people, named in the train split; empty where that is not asked for.
    """

    documents: Counter[str] = field(default_factory=Counter)
    characters: Counter[str] = field(default_factory=Counter)
    bytes: Counter[str] = field(default_factory=Counter)
    languages: Counter[str] = field(default_factory=Counter)
    lengths: Counter[int] = field(default_factory=Counter)
    groups: dict[str, GroupCounts] = field(default_factory=dict)

    def add(self, other: "Contents") -> None:
        """Count other documents of the source, too."""
        for name in ("documents", "characters", "bytes", "languages", "lengths"):
            getattr(self, name).update(getattr(other, name))
        merge_groups(self.groups, other.groups)


def contents_of(documents: "pa.Table", group_terms: GroupTermSettings | None = None) -> dict[int, Contents]:
    """What a table of documents, each with its split, has of each source; groups are counted in the train split."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if documents.num_rows == 0:
        return {}
    characters = pc.cast(pc.utf8_length(documents["text"]), pa.int64())
    facts = pa.table(
        {
            "source": documents["source"],
            "split": documents["split"],
            "language": pc.fill_null(documents["language"], "unknown"),
            "length": pc.cast(pc.floor(pc.log2(pc.max_element_wise(characters, 1))), pa.int32()),
            "characters": characters,
            "bytes": pc.cast(pc.binary_length(documents["text"]), pa.int64()),
        }
    )
    found: dict[int, Contents] = {}
    groups = facts.group_by(["source", "split", "language", "length"]).aggregate(
        [("characters", "count"), ("characters", "sum"), ("bytes", "sum")]
    )
    for group in groups.to_pylist():
        contents = found.setdefault(group["source"], Contents())
        contents.documents[group["split"]] += group["characters_count"]
        contents.characters[group["split"]] += group["characters_sum"]
        contents.bytes[group["split"]] += group["bytes_sum"]
        contents.languages[group["language"]] += group["characters_count"]
        contents.lengths[group["length"]] += group["characters_count"]
    if group_terms is not None:
        train = documents.filter(pc.equal(documents["split"], "train"))
        for source, contents in found.items():
            texts = train["text"].filter(pc.equal(train["source"], source)).combine_chunks()
            contents.groups = count_groups(texts, group_terms)
    return found


@dataclass
class Passport:
    """What is known of the sources, by their names, in their order.

    Attributes:
        read: documents that reading and cleaning gave.
        cleaning: what cleaning did; no entry for a source that is not cleaned.
        exact_duplicates: documents dropped, by reason.
        near_duplicates, decontamination: None where they were not looked for.
        balanced, counterfactuals: empty where they were not asked for.
        kept: what is in the splits.
        tokens: by split, the end of each document included.
        languages: tokens of all splits by language, `unknown` where none was looked for, also those over `max_tokens`.
    """

    read: dict[str, int] = field(default_factory=dict)
    cleaning: dict[str, Tally] = field(default_factory=dict)
    exact_duplicates: Counter[str] = field(default_factory=Counter)
    near_duplicates: NearDuplicates | None = None
    decontamination: Decontamination | None = None
    balanced: dict[str, Balanced] = field(default_factory=dict)
    counterfactuals: dict[str, CounterfactualCounts] = field(default_factory=dict)
    kept: dict[str, Contents] = field(default_factory=dict)
    tokens: dict[str, Counter[str]] = field(default_factory=dict)
    languages: dict[str, Counter[str]] = field(default_factory=dict)

    def count_tokens(self, split: str, shards: Iterable[Iterable[Any]]) -> None:
        """Count the tokens of one split, given for each shard in the order of the sources."""
        for by_source in shards:
            for name, number in zip(self.read, by_source, strict=True):
                self.tokens.setdefault(name, Counter())[split] += int(number)

    def dropped(self) -> Counter[str]:
        """Documents that are not in the splits, by the step and its reason."""
        counts: Counter[str] = Counter()
        for tally in self.cleaning.values():
            counts["shards in quarantine"] += len(tally.quarantined)
            for step, done in tally.steps.items():
                counts.update({f"{step}: {reason}": number for reason, number in done.dropped.items()})
        counts = +counts
        counts.update(self.exact_duplicates)
        for step_done in (self.near_duplicates, self.decontamination, *self.balanced.values()):
            if step_done is not None:
                counts.update(step_done.tally.dropped)
        return counts

    def reason(self, source: str) -> str:
        """Why a source that has documents may have none left; empty where nothing was dropped."""
        tally = self.cleaning.get(source)
        if tally is None or not tally.documents:
            return ""
        dropped = ", ".join(f"{number} by {step}" for step, number in _by_step(tally))
        return f" that cleaning keeps: of {tally.documents} it drops {dropped}"

    def to_json(self) -> dict[str, Any]:
        """As plain values: by source what was done and what is there, in order; and what was done across sources."""
        sources = {}
        for name, documents in self.read.items():
            contents, tokens = self.kept.get(name, Contents()), self.tokens.get(name, Counter())
            cleaned, balanced = self.cleaning.get(name), self.balanced.get(name)
            counterfactuals = self.counterfactuals.get(name)
            languages = self.languages.get(name, Counter())
            num_bytes = contents.bytes.total()
            sources[name] = {
                "read": {"documents": cleaned.documents if cleaned else documents},
                "cleaning": cleaned.to_json() if cleaned else None,
                "balance": balanced.to_json() if balanced else None,
                "counterfactuals": counterfactuals.to_json() if counterfactuals else None,
                "kept": {
                    "documents": dict(contents.documents),
                    "characters": dict(contents.characters),
                    "bytes": dict(contents.bytes),
                    "languages": dict(sorted(contents.languages.items())),
                    "documents_by_characters": _histogram(contents.lengths),
                },
                "group_terms": {group: asdict(counts) for group, counts in contents.groups.items()} or None,
                "tokenize": {
                    "tokens": dict(tokens),
                    "tokens_by_language": dict(sorted(languages.items())),
                    "tokens_over_maximum": languages.total() - tokens.total(),
                    "tokens_per_byte": round(tokens.total() / num_bytes, 4) if num_bytes else None,
                },
            }
        return {
            "sources": sources,
            "exact_duplicates": dict(sorted(self.exact_duplicates.items())),
            "near_duplicates": self.near_duplicates.to_json() if self.near_duplicates else None,
            "decontamination": self.decontamination.to_json() if self.decontamination else None,
        }


def _by_step(tally: Tally) -> Iterator[tuple[str, int]]:
    return ((name, step.dropped.total()) for name, step in tally.steps.items() if step.dropped.total())


def _histogram(lengths: Mapping[int, int]) -> dict[str, int]:
    return {f"{2**power} to {2 ** (power + 1) - 1}": number for power, number in sorted(lengths.items())}
