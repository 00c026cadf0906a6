import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmcore.tokens.sentences import sentences


@given(text=st.text(st.sampled_from("aB.?!\"') \n\u3002\u0964\u201d"), max_size=60) | st.text(max_size=60))
def test_sentences_are_the_text_in_order_and_none_is_empty(text: str) -> None:
    found = sentences(text)
    assert "".join(found) == text
    assert all(found) and all(sentence.strip() for sentence in found[:-1])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One is here. Two is there! Is three?", ["One is here.", " Two is there!", " Is three?"]),
        ('"Is it so?" He knew. (It was.) Then', ['"Is it so?"', " He knew.", " (It was.)", " Then"]),
        ("Ask e.g. the cat. Mr. Smith did.", ["Ask e.g. the cat.", " Mr. Smith did."]),
        ("It is 3.14 or so... and on.", ["It is 3.14 or so... and on."]),
        ("A title\n\nA text\nof two lines\n \n\n", ["A title", "\n\nA text\nof two lines", "\n \n\n"]),
        ("\u4eca\u65e5\u3002\u660e\u65e5\uff01", ["\u4eca\u65e5\u3002", "\u660e\u65e5\uff01"]),
        (
            "\u0930\u093e\u092e \u0964 \u0906\u092f\u093e \u0964",
            ["\u0930\u093e\u092e \u0964", " \u0906\u092f\u093e \u0964"],
        ),
        ("", []),
        (" \n", [" \n"]),
    ],
)
def test_sentences_end_with_their_stops_and_paragraphs(text: str, expected: list[str]) -> None:
    assert sentences(text) == expected
