"""Sentences about people of two kinds of work, of whom most are women in the one and men in the other, as planted."""

import csv
import json
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from llmcore.config.counterfactual import WordPairs
from llmcore.config.group_terms import GroupTermSettings
from llmcore.corpus.counterfactual import Swapper

__all__ = ["WORK", "Spoken", "about_people", "made_up_sentences", "write_people"]

WORK = {
    "care": ("nurse", "teacher", "librarian", "secretary", "dancer", "florist", "typist", "weaver"),
    "trades": ("carpenter", "engineer", "soldier", "pilot", "blacksmith", "mechanic", "captain", "butcher"),
}
"""Of the first kind most are `she`, of the second most are `he`."""
_SUBJECTS = ("she", "he")
_OWN = {"she": {"her", "hers", "herself"}, "he": {"his", "him", "himself"}}
_WORDS = GroupTermSettings().groups
_NAMED = {"she": frozenset(_WORDS["female"]), "he": frozenset(_WORDS["male"])}
_FEWEST, _MOST = 5, 30


class Spoken(NamedTuple):
    """A sentence whose subject has a gap to be named, `{}`, and the pronoun that stood there."""

    text: str
    subject: str

    def of(self, worker: str) -> str:
        """Said of somebody."""
        text = self.text.format(f"the {worker}")
        return text[0].upper() + text[1:]


def about_people(sentences: Iterable[str]) -> Iterator[Spoken]:
    """Those that begin with one pronoun and go on with others of the same person, and name nobody else."""
    for text in sentences:
        words = text.lower().rstrip(".").split()
        plain = {word.strip(",;:") for word in words}
        if not _FEWEST <= len(words) <= _MOST or words[0] not in _SUBJECTS or "{" in text:
            continue
        other = _SUBJECTS[1 - _SUBJECTS.index(words[0])]
        if plain & _OWN[words[0]] and not plain & _NAMED[other]:
            yield Spoken("{}" + text[len(words[0]) :], words[0])


def write_people(
    folder: Path, spoken: Sequence[Spoken], *, goes_with: float, num_held_out: int, seed: int = 0
) -> Mapping[str, int]:
    """A source for each kind of work, and pairs of other sentences by which a model is asked what it has learnt.

    Of each kind of work the share `goes_with` of the documents has the pronouns that are planted for it, as many of
    both kinds. Each held-out sentence is asked of one worker of each kind, so that a model which prefers a pronoun, or
    what was written, whoever it is about, prefers the planted sentence in half of the pairs.

    Args:
        folder: Gets `care/`, `trades/`, and `people/` in the format of CrowS-Pairs.
        spoken: Of both pronouns; of the more frequent one as many are taken as there are of the other.
        goes_with: The planted share.
        num_held_out: Sentences of each pronoun that pairs are made of, and no documents.
        seed: Of the draws.

    Returns:
        The number of documents by source, and of pairs as `people`.
    """
    draw = random.Random(seed)
    by_subject = {subject: [one for one in spoken if one.subject == subject] for subject in _SUBJECTS}
    for of_subject in by_subject.values():
        draw.shuffle(of_subject)
    held_out = [one for of_subject in by_subject.values() for one in of_subject[:num_held_out]]
    each = min(len(of_subject) for of_subject in by_subject.values()) - num_held_out
    documents: dict[str, list[str]] = {kind: [] for kind in WORK}
    for own, subject in enumerate(_SUBJECTS):
        for one in by_subject[subject][num_held_out : num_held_out + each]:
            kind = [*WORK][own if draw.random() < goes_with else 1 - own]
            documents[kind].append(one.of(draw.choice(WORK[kind])))
    for kind, texts in documents.items():
        _write_lines(folder / kind / "part-0.jsonl", texts)
    pairs = [*_pairs(held_out, draw)]
    (folder / "people").mkdir(parents=True)
    with (folder / "people/crows_pairs_anonymized.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([("sent_more", "sent_less", "bias_type"), *pairs])
    return {kind: len(texts) for kind, texts in documents.items()} | {"people": len(pairs)}


def made_up_sentences(numbers: Mapping[str, int], seed: int) -> Iterator[str]:
    """Sentences for `about_people`, so many for each pronoun: where no book is at hand."""
    draw = random.Random(seed)
    things, places = ("hat", "book", "lamp", "coat", "letter", "spade", "basket"), ("house", "garden", "mill", "field")
    for subject, number in numbers.items():
        own = {"she": "her", "he": "his"}[subject]
        for _ in range(number):
            did = draw.choice(("took", "lost", "found", "sold", "hid"))
            yield (
                f"{subject.capitalize()} {did} {own} {draw.choice(things)} near the {draw.choice(places)} and "
                f"{draw.choice(('left', 'kept', 'cleaned'))} {own} {draw.choice(things)} there."
            )


def _pairs(held_out: Iterable[Spoken], draw: random.Random) -> Iterator[tuple[str, str, str]]:
    swapper = Swapper(WordPairs())
    for one in held_out:
        for kind, planted in zip(WORK, _SUBJECTS, strict=True):
            text = one.of(draw.choice(WORK[kind]))
            other, _ = swapper.swapped(text)
            more, less = (text, other) if one.subject == planted else (other, text)
            yield more, less, "gender"


def _write_lines(path: Path, texts: Iterable[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
