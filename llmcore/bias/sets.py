"""The published sets as they are distributed: each file is read as its makers left it."""

import csv
import gzip
import io
import json
import re
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

from llmcore.bias.answers import Kind
from llmcore.errors import CorpusError
from llmcore.storage import Folder

__all__ = [
    "Coreference",
    "Question",
    "SentencePair",
    "Triple",
    "bbq_categories",
    "read_bbq",
    "read_crows_pairs",
    "read_stereoset",
    "read_winobias",
    "read_winogender",
]

_MENTION = re.compile(r"\[([^\]]+)\]")
_LABELS = ("stereotype", "anti-stereotype", "unrelated")
_BBQ = (".jsonl", ".jsonl.gz")
_GENDERS = {"he": "male", "him": "male", "his": "male", "she": "female", "her": "female", "hers": "female"}


class SentencePair(NamedTuple):
    """Two sentences that differ in whom they are about; the first says more of what is said of a group."""

    more: str
    less: str
    group: str


class Coreference(NamedTuple):
    """A sentence with a pronoun, who may be meant, and who is.

    Attributes:
        sentence: As it is read.
        pronoun: The word that is to be understood.
        candidates: Two people of the sentence.
        meant: Which of them the pronoun means: 0 or 1.
        gender: Of the pronoun.
        is_pro: Whether the pronoun goes with what is usual for who is meant.
        part: Of the set, `type1` say; empty where there is one alone.
    """

    sentence: str
    pronoun: str
    candidates: tuple[str, str]
    meant: int
    gender: Literal["male", "female", "neutral"]
    is_pro: bool
    part: str = ""


class Question(NamedTuple):
    """A question of BBQ with three answers.

    Attributes:
        context: What is told.
        question: About it.
        answers: Three.
        kinds: Whom each answer names.
        right: Which is right.
        is_ambiguous: Whether the context does not tell.
        is_negative: Whether it asks for what is held against the group.
        group: The category of people.
        template: From which it was made; questions of one template resemble each other.
    """

    context: str
    question: str
    answers: tuple[str, str, str]
    kinds: tuple[Kind, Kind, Kind]
    right: int
    is_ambiguous: bool
    is_negative: bool
    group: str
    template: str


def read_crows_pairs(folder: Folder, name: str = "crows_pairs_anonymized.csv") -> list[SentencePair]:
    """CrowS-Pairs (Nangia et al. 2020). Raises CorpusError where a row is none."""
    pairs = []
    for number, row in enumerate(csv.DictReader(io.StringIO(_text(folder, name), newline="")), start=2):
        if not all(row.get(key) for key in ("sent_more", "sent_less", "bias_type")):
            raise CorpusError(f"{folder.url}/{name}:{number}: a pair has sent_more, sent_less and bias_type, not {row}")
        pairs.append(SentencePair(row["sent_more"], row["sent_less"], row["bias_type"]))
    return pairs


def read_winobias(folder: Folder, kind: Literal[1, 2], split: str = "dev") -> list[Coreference]:
    """WinoBias (Zhao et al. 2018) of one kind of sentence, pro and anti.

    Who may be meant is told by the pro and the anti sentence of a pair of occupations: sentences of type 1 and 2 stand
    in pairs, the second of which means the other one.
    """
    found = []
    for is_pro, word in ((True, "pro"), (False, "anti")):
        name = f"{word}_stereotyped_type{kind}.txt.{split}"
        lines = [line for line in _text(folder, name).splitlines() if line.strip()]
        mentions = [_mentions(folder, name, number, line) for number, line in enumerate(lines, start=1)]
        for number, (first, second) in enumerate(zip(mentions[::2], mentions[1::2], strict=True)):
            both = first[0], second[0]
            for meant in (0, 1):
                who, pronoun = (first, second)[meant]
                sentence = _plain(lines[2 * number + meant])
                if not all(_stands(other, sentence) for other in both):
                    raise CorpusError(
                        f"{folder.url}/{name}:{2 * number + meant + 1}: {sentence!r} has not both of {both}"
                    )
                gender: Any = _GENDERS[pronoun.lower()]
                found.append(Coreference(sentence, pronoun, both, both.index(who), gender, is_pro, f"type{kind}"))
    return found


def _mentions(folder: Folder, name: str, number: int, line: str) -> tuple[str, str]:
    """Who is meant, and the pronoun: of the marked mentions one is a person, the others mean the same."""
    marked = _MENTION.findall(line)
    pronouns = [word for word in marked if word.lower() in _GENDERS]
    people = [word for word in marked if word.lower() not in _GENDERS]
    if not pronouns or len(people) != 1:
        raise CorpusError(f"{folder.url}/{name}:{number}: {line!r} marks {marked}, and not a person and a pronoun")
    return people[0].lower(), pronouns[0]


def _plain(line: str) -> str:
    return _MENTION.sub(r"\1", line.split(" ", 1)[1]).strip()


def _stands(who: str, sentence: str) -> bool:
    return who in sentence.lower()


def read_winogender(folder: Folder) -> list[Coreference]:
    """Winogender (Rudinger et al. 2018): pro where most people of the occupation have the pronoun's gender.

    Sentences that mean the participant have no such gender and are left out, as are neutral pronouns: both are no part
    of the gap.
    """
    stats = {row["occupation"]: float(row["bls_pct_female"]) for row in _table(folder, "occupations-stats.tsv")}
    found = []
    for row in _table(folder, "all_sentences.tsv"):
        occupation, participant, answer, gender, _ = row["sentid"].split(".")
        if answer != "0" or gender == "neutral":
            continue
        pronouns = [word for word in re.findall(r"\w+", row["sentence"]) if word.lower() in _GENDERS]
        usual = "female" if stats[occupation] > 50 else "male"
        other = participant if _stands(participant, row["sentence"]) else "someone"
        gendered: Any = gender
        candidates = (f"the {occupation}", other if other == "someone" else f"the {other}")
        found.append(Coreference(row["sentence"], pronouns[-1], candidates, 0, gendered, gender == usual))
    return found


class Triple(NamedTuple):
    """An example of StereoSet: three sentences of which one means nothing there.

    Attributes:
        stereotypical: What is said of the target group.
        anti_stereotypical: Its counterpart.
        unrelated: Neither.
        target: The group.
        bias_type: What kind of group it is: gender, profession, race, religion.
    """

    stereotypical: str
    anti_stereotypical: str
    unrelated: str
    target: str
    bias_type: str


def read_stereoset(folder: Folder, name: str = "dev.json", part: str = "intrasentence") -> list[Triple]:
    """StereoSet (Nadeem et al. 2021) of one part, `intrasentence` or `intersentence`, whose context stands before.

    Raises CorpusError where there is no such part, or an example has not one sentence of each kind.
    """
    data = json.loads(_text(folder, name)).get("data", {})
    if part not in data:
        raise CorpusError(f"{folder.url}/{name} has no part {part}; there are {', '.join(data) or 'none'}")
    found = []
    for number, example in enumerate(data[part]):
        before = "" if part == "intrasentence" else f"{example['context']} "
        told = {one["gold_label"]: f"{before}{one['sentence']}" for one in example["sentences"]}
        if set(told) != set(_LABELS) or len(example["sentences"]) != len(_LABELS):
            labels = [one["gold_label"] for one in example["sentences"]]
            raise CorpusError(
                f"{folder.url}/{name}: {part} {number}: its sentences are {labels}, and not one each of {list(_LABELS)}"
            )
        stereotypical, anti, unrelated = (told[label] for label in _LABELS)
        found.append(Triple(stereotypical, anti, unrelated, example["target"], example["bias_type"]))
    return found


def bbq_categories(folder: Folder) -> list[str]:
    """The categories that have a file. Raises CorpusError where none has."""
    there = folder.names()
    found = {name.removesuffix(end) for name in there for end in _BBQ if name.endswith(end)}
    if not found:
        raise CorpusError(f"{folder.url} has no *{_BBQ[0]}; there are {', '.join(there) or 'no files'}")
    return sorted(found)


def read_bbq(folder: Folder, category: str) -> list[Question]:
    """BBQ (Parrish et al. 2022) of one category of people, from its JSON lines as they are or in gzip.

    Raises:
        CorpusError: There is no such file, a line is no question, or its answers do not name the group, another, and
            nobody.
    """
    return list(_bbq(folder, category))


def _bbq(folder: Folder, category: str) -> Iterator[Question]:
    there = folder.names()
    name = next((category + end for end in _BBQ if category + end in there), None)
    if name is None:
        raise CorpusError(f"{folder.url} has no {category}{_BBQ[0]}; there are {', '.join(there) or 'no files'}")
    data = folder.read_bytes(name)
    text = (gzip.decompress(data) if name.endswith(".gz") else data).decode("utf-8")
    for number, line in enumerate(text.splitlines(), start=1):
        try:
            question = _question(json.loads(line))
        except (IndexError, KeyError, TypeError, ValueError) as error:
            raise CorpusError(f"{folder.url}/{name}:{number}: it is no question of BBQ: {error!r}") from error
        if sorted(question.kinds) != ["other", "target", "unknown"]:
            raise CorpusError(
                f"{folder.url}/{name}:{number}: of its answers {question.answers} one names the group that is "
                f"stereotyped, one another, and one nobody; they are {question.kinds}"
            )
        yield question


def _question(row: dict[str, Any]) -> Question:
    answers: Any = tuple(row[f"ans{place}"] for place in range(3))
    kinds: Any = tuple(_kind(row, place) for place in range(3))
    return Question(
        row["context"],
        row["question"],
        answers,
        kinds,
        row["label"],
        row["context_condition"] == "ambig",
        row["question_polarity"] == "neg",
        row["category"],
        f"{row['category']} {row['question_index']}",
    )


def _kind(row: dict[str, Any], place: int) -> Kind:
    named = row["answer_info"][f"ans{place}"]
    if named[-1] == "unknown":
        return "unknown"
    groups = {group.lower() for group in row["additional_metadata"]["stereotyped_groups"]}
    return "target" if groups & {word.lower() for word in named} else "other"


def _table(folder: Folder, name: str) -> Iterator[dict[str, str]]:
    yield from csv.DictReader(io.StringIO(_text(folder, name), newline=""), delimiter="\t")


def _text(folder: Folder, name: str) -> str:
    data = folder.find_bytes(name)
    if data is None:
        raise CorpusError(f"{folder.url} has no {name}; there are {', '.join(folder.names())}")
    return data.decode("utf-8")
