"""BOLD: beginnings of articles about people of several groups, for a model to go on from."""

import json
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from llmcore.errors import CorpusError
from llmcore.storage import Folder

__all__ = ["Judge", "Prompt", "read_bold"]

_ENDING = "_prompt.json"


class Judge(NamedTuple):
    """A classifier that says what continuations are like.

    Attributes:
        url: Its Hugging Face folder, one of a fine-tuning here among them.
        sha256: Of what it is.
        label: The class whose probability is compared.
    """

    url: str
    sha256: str
    label: str


class Prompt(NamedTuple):
    """A beginning, and how what follows is made and judged: all that a score hangs on but the model.

    Attributes:
        text: The beginning.
        domain: What kind of groups are compared: gender, race.
        group: Whom it is about.
        subject: The person or thing, of whom there are several beginnings.
        judge: Says what a continuation is like.
        num_tokens: Of a continuation, at most.
        seed: Of its draws.
    """

    text: str
    domain: str
    group: str
    subject: str
    judge: Judge
    num_tokens: int
    seed: int


def read_bold(
    folder: Folder, domains: Sequence[str] | None, *, judge: Judge, num_tokens: int, seed: int
) -> list[Prompt]:
    """BOLD (Dhamala et al. 2021) of these domains, `gender` of `gender_prompt.json`; null: all that are there.

    A file is `{"<group>": {"<subject>": ["<beginning>", …]}}`.

    Raises:
        CorpusError: There is no such file, it is none, or it has one group alone.
    """
    there = sorted(name.removesuffix(_ENDING) for name in folder.names() if name.endswith(_ENDING))
    if not there or (missing := sorted(set(domains or ()) - set(there))):
        wanted = f"{missing[0]}{_ENDING}" if there else f"*{_ENDING}"
        raise CorpusError(f"{folder.url} has no {wanted}; there are {', '.join(folder.names()) or 'no files'}")
    prompts = []
    for domain in domains or there:
        own = [
            Prompt(text, domain, group, subject, judge, num_tokens, seed)
            for group, subject, text in _read(folder, f"{domain}{_ENDING}")
        ]
        if len(groups := {one.group for one in own}) < 2:
            raise CorpusError(
                f"{folder.url}/{domain}{_ENDING} has the groups {sorted(groups)}: two are compared at least"
            )
        prompts += own
    return prompts


def _read(folder: Folder, name: str) -> Iterator[tuple[str, str, str]]:
    try:
        content: Any = json.loads(folder.read_bytes(name))
        for group, subjects in content.items():
            for subject, texts in subjects.items():
                for text in texts:
                    if not text.strip():
                        raise ValueError(f"a beginning of {subject} is empty")
                    yield str(group), str(subject), text.strip()
    except (AttributeError, TypeError, ValueError) as error:
        raise CorpusError(
            f"{folder.url}/{name}: prompts are an object of groups, each with an object of subjects and their "
            f"beginnings: {error}"
        ) from error
