import random
import re

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmcore.corpus.decontaminate import Protected

rng = random.Random(0)
WORDS = [f"w{number}" for number in range(300)]
ROWS = [" ".join(rng.choice(WORDS) for _ in range(size)) for size in (60, 40, 20, 13, 12, 8, 7, 3)]


def _protected(rows: list[str], name: str = "set", ngram_words: int = 13, min_words: int = 8) -> Protected:
    return Protected.of(name, pa.array(rows, pa.string()), ngram_words, min_words)


def _plain(text: str, size: int) -> set[tuple[str, ...]]:
    words = re.findall(r"[^\W_]+", text.lower())
    return {tuple(words[at : at + size]) for at in range(len(words) - size + 1)}


@given(
    rows=st.lists(st.text(alphabet="ab cd", min_size=1, max_size=30).filter(str.strip), min_size=1, max_size=4),
    texts=st.lists(st.text(alphabet="ab cd", min_size=1, max_size=60).filter(str.strip), min_size=1, max_size=4),
    size=st.integers(1, 4),
)
@settings(deadline=None)
def test_what_is_found_is_what_the_definition_says(rows: list[str], texts: list[str], size: int) -> None:
    found = _protected(rows, ngram_words=size, min_words=2).find(pa.array(texts), min_overlap=0.4)
    best: dict[int, float] = {}
    for number, text in enumerate(texts):
        for row in rows:
            words = len(re.findall(r"[^\W_]+", row))
            own = _plain(row, min(size, words))
            share = len(own & _plain(text, min(size, words))) / len(own) if words >= 2 else 0
            if share >= 0.4:
                best[number] = max(share, best.get(number, 0))
    assert {one.document: one.share for one in found} == pytest.approx(best)


def _edited(row: str) -> str:
    """Every twentieth word replaced."""
    return " ".join("other" if number % 20 == 10 else word for number, word in enumerate(row.split()))


def test_rows_are_found_verbatim_inside_other_text_and_lightly_edited() -> None:
    filler = " ".join(rng.choice(WORDS) for _ in range(500))
    texts = [
        ROWS[0],
        f"{filler} {ROWS[1].upper().replace(' ', ', ')}! {filler}",
        _edited(ROWS[0]),
        f"{filler} {ROWS[4]} {filler}",
        filler,
        " ".join(reversed(ROWS[0].split())),
        f"{ROWS[6]} {ROWS[7]}",
    ]
    protected = _protected(ROWS)
    found = protected.find(pa.array(texts), min_overlap=0.2)
    assert [(one.document, one.row) for one in found] == [(0, 0), (1, 1), (2, 0), (3, 4)]
    assert found[0].share == 1 and 0.2 <= found[2].share < 0.4
    assert protected.num_rows() == {"set": 6} and protected.unchecked == {"set": 2}


def test_parts_of_one_set_are_one_and_sets_are_told_apart() -> None:
    parts = [
        _protected(ROWS[:2], "a"),
        _protected(ROWS[2:4], "b"),
        _protected([ROWS[4], "x"], "a"),
        _protected([], "c"),
    ]
    joined = Protected.join(parts)
    assert joined.num_rows() == {"a": 3, "b": 2, "c": 0} and joined.unchecked == {"a": 1}
    found = joined.find(pa.array([ROWS[3], ROWS[4], ROWS[0]]), min_overlap=1)
    assert [(joined.names[one.set], one.row) for one in found] == [("b", 1), ("a", 0), ("a", 0)]
    assert Protected.join([]).find(pa.array(["a b c"]), 0.1) == []


def test_a_text_is_contaminated_by_the_row_it_has_most_of() -> None:
    both = f"{ROWS[1]} {' '.join(ROWS[0].split()[:40])}"
    (found,) = _protected(ROWS).find(pa.array([both]), min_overlap=0.3)
    assert (found.row, found.share) == (1, 1)
