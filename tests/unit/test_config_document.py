import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmcore.config.document import dump_yaml, read_yaml

TEXTS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=12) | st.sampled_from(
    ["yes", "no", "null", "~", "6e-4", "5e8", "010", "0x1f", "1_000", "<<", "true", ".inf", "2026-01-01", "1:30", "- a"]
)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)


@given(PLAIN)
def test_what_is_written_is_read_back(data: object) -> None:
    document = read_yaml(dump_yaml(data))
    assert not document.mistakes
    assert document.data == data
    assert repr(document.data) == repr(data)  # 1 is not 1.0, and true is not 1


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_float_as_python_writes_it_is_a_number(number: float) -> None:
    read = read_yaml(repr(number)).data
    assert isinstance(read, int | float)
    assert float(read) == number
    assert math.copysign(1, read) == math.copysign(1, number) or read == 0


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("6e-4", 6e-4),
        ("1E-5", 1e-5),
        ("5e8", 500_000_000),
        ("64_000_000", 64_000_000),
        ("010", 10),
        (".5", 0.5),
        ("no", "no"),
        ("on", "on"),
        ("1:30", "1:30"),
        ("2026-01-01", "2026-01-01"),
        (".nan", ".nan"),
        ("e5", "e5"),
        ("0x1F", 31),
        ("", None),
    ],
)
def test_plain_values_are_those_of_yaml_1_2(text: str, value: object) -> None:
    document = read_yaml(text)
    assert not document.mistakes
    assert document.data == value
    assert type(document.data) is type(value)


def test_each_key_knows_its_line() -> None:
    document = read_yaml("a:\n  b: 1\n  c:\n    - x\n    - d: 2\n")
    assert document.lines["a", "b"] == 2
    assert document.lines["a", "c", 1, "d"] == 5


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("a: 1\nb: 2\na: 3\n", 3, "a: written twice, first on line 1"),
        ("{a: 1, a: 2}", 1, "written twice"),
        ("a: [1\nb: 2\n", 2, "not valid YAML"),
        ("a: !!python/object:os.system x\n", 1, "tag"),
        ("1: x\n", 1, "expected a text as key"),
        ("a: 1e999\n", 1, "a number that can be held"),
        ("a: &a\n  b: *a\n", 1, "not valid YAML"),
        ("[" * 600, 1, "nested too deeply"),
        ("a: 1\n---\nb: 2\n", 2, "not valid YAML"),
        ("a: \x00", 1, "not valid YAML"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(text: str, line: int, words: str) -> None:
    (mistake,) = read_yaml(text).mistakes
    assert mistake[0] == line
    assert words in mistake[1]


def test_merge_keys_may_be_written_over() -> None:
    document = read_yaml("base: &base {x: 1, y: 2}\nuse:\n  <<: *base\n  y: 3\n")
    assert not document.mistakes
    assert document.data["use"] == {"x": 1, "y": 3}
