"""WEAT and SEAT: tests of two target groups and two attributes, as May et al. distribute them."""

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from llmcore.errors import CorpusError
from llmcore.storage import Folder

__all__ = ["WordLists", "read_word_lists"]

_PARTS = ("targ1", "targ2", "attr1", "attr2")
_SENTENCES = "sent-"
_ENDINGS = (".jsonl", ".json")
_FEWEST_TARGETS = 2


class WordLists(NamedTuple):
    """A test: X, Y, A and B of Caliskan et al., words or sentences.

    Attributes:
        name: Its file's, without the ending.
        first: X.
        second: Y, as many.
        attribute: A, which X is held to be nearer to.
        counterpart: B.
    """

    name: str
    first: tuple[str, ...]
    second: tuple[str, ...]
    attribute: tuple[str, ...]
    counterpart: tuple[str, ...]


def read_word_lists(folder: Folder, tests: Sequence[str] | None, *, sentences: bool) -> list[WordLists]:
    """The tests of these names; without names all `*.jsonl` of words, or all `sent-*.jsonl` of sentences.

    A file is one JSON object, `{"targ1": {"category": …, "examples": […]}, "targ2", "attr1", "attr2"}`, whatever its
    name ends with (May et al. 2019, github.com/W4ngatang/sent-bias).

    Raises:
        CorpusError: There is no such test, or it is none.
    """
    there = folder.names()
    if tests is None:
        tests = [name.removesuffix(".jsonl") for name in sorted(there) if name.endswith(".jsonl")]
        tests = [name for name in tests if name.startswith(_SENTENCES) == sentences]
        if not tests:
            wanted = f"{_SENTENCES}*.jsonl" if sentences else f"*.jsonl but {_SENTENCES}*"
            raise CorpusError(f"{folder.url} has no {wanted}; there are {', '.join(there) or 'no files'}: give `tests`")
    return [_test(folder, name, there) for name in tests]


def _test(folder: Folder, name: str, there: Sequence[str]) -> WordLists:
    file = next((name + ending for ending in _ENDINGS if name + ending in there), None)
    if file is None:
        raise CorpusError(f"{folder.url} has no {name}.jsonl and no {name}.json; there are {', '.join(there)}")
    try:
        content: Any = json.loads(folder.read_bytes(file))
        parts = [tuple(map(str, content[part]["examples"])) for part in _PARTS]
    except (KeyError, TypeError, ValueError) as error:
        raise CorpusError(
            f'{folder.url}/{file}: a test is an object of {", ".join(_PARTS)}, each with "examples": {error!r}'
        ) from error
    first, second, attribute, counterpart = parts
    if not all(text.strip() for part in parts for text in part) or not attribute or not counterpart:
        raise CorpusError(f"{folder.url}/{file}: an attribute, or one of the examples, is empty")
    if len(first) != len(second) or len(first) < _FEWEST_TARGETS:
        raise CorpusError(
            f"{folder.url}/{file}: targ1 has {len(first)} examples and targ2 {len(second)}: a test compares as many, "
            f"{_FEWEST_TARGETS} or more"
        )
    return WordLists(name, first, second, attribute, counterpart)
