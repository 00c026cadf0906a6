import re
from dataclasses import asdict

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from llmcore.config.group_terms import GroupTermSettings
from llmcore.corpus.group_terms import GroupCounts, count_groups, merge_groups

GIVEN = GroupTermSettings(
    groups={"f": ["she", "her"], "m": ["he"]}, positive=["good"], negative=["bad"], window_words=2
)


def _plain(texts: list[str]) -> dict[str, GroupCounts]:
    """Word by word."""
    found = {name: GroupCounts() for name in GIVEN.groups}
    for text in texts:
        words = re.findall(r"[^\W_]+", text.lower())
        for name, terms in GIVEN.groups.items():
            places = [at for at, word in enumerate(words) if word in terms]
            near = [words[max(0, at - 2) : at + 3] for at in places]
            found[name].add(
                GroupCounts(len(places), bool(places), sum("good" in x for x in near), sum("bad" in x for x in near))
            )
    return found


@given(
    st.lists(
        st.lists(st.sampled_from(["she", "Her", "he", "good", "bad", "x", "y."]), max_size=12).map(" ".join), max_size=5
    )
)
@settings(deadline=None)
def test_counts_are_those_of_the_definition(texts: list[str]) -> None:
    assert count_groups(pa.array(texts, pa.string()), GIVEN) == _plain(texts)


def test_an_example() -> None:
    found = count_groups(pa.array(["She was good. He, they say, was not bad at all.", "He's a bad one"]), GIVEN)
    assert asdict(found["f"]) == {"terms": 1, "documents": 1, "beside_positive": 1, "beside_negative": 0}
    assert asdict(found["m"]) == {"terms": 2, "documents": 2, "beside_positive": 1, "beside_negative": 0}
    merge_groups(found, {"f": GroupCounts(2, 1, 0, 2), "x": GroupCounts(1)})
    assert (found["f"].terms, found["f"].beside_negative, found["x"].terms) == (3, 2, 1)


def test_the_default_list_is_of_single_words_and_no_word_is_in_two() -> None:
    given = GroupTermSettings()
    words = [word for terms in given.groups.values() for word in terms]
    assert len(words) == len(set(words)) and not set(given.positive) & set(given.negative)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"groups": {}}, "name one group at least"),
        ({"groups": {"a": ["two words"]}}, "a: .*two words.* are no single words in lower case"),
        ({"positive": ["Good"]}, "positive: .*Good"),
    ],
)
def test_what_is_no_list_of_words_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        GroupTermSettings.model_validate(changes)
