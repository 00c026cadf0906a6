from collections import Counter
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmcore.config.cleaning import CleaningSettings, PersonalDataSettings
from llmcore.corpus.cleaning import Cleaner, Draft, Tally, steps_of
from llmcore.corpus.cleaning.passages import passages_of
from llmcore.corpus.cleaning.personal import MaskPersonalData, excerpt
from llmcore.corpus.read import DocumentReader
from llmcore.errors import ConfigError

PROSE = (
    "The keeper of the lighthouse had been awake for most of the night, and he knew that the storm would not be over "
    "before the morning. He went down to the harbour with his daughter to look at the boats that lay there. "
    "They had to be pulled up to the wall of the church, which stood a little higher than the rest of the town. "
    "Nobody spoke of it afterwards. The sea had taken two of them, and the men who owned these never asked why."
)


def _documents(texts: list[str | None]) -> pa.Table:
    schema = DocumentReader("s", 0, "text").schema()
    rows = [
        {"id": f"s/{row}", "text": text, "source": 0, "shard": 0, "row": row, "passage": 0}
        for row, text in enumerate(texts)
    ]
    return pa.Table.from_pylist(rows, schema=schema)


def _clean(texts: list[str | None], **steps: Any) -> tuple[list[dict[str, Any]], Tally]:
    tally = Tally()
    cleaned = Cleaner(CleaningSettings.model_validate(steps)).clean(_documents(texts), "part.jsonl", tally)
    return cleaned.to_pylist(), tally


def test_unicode_is_made_uniform_and_repaired() -> None:
    decomposed, broken = "e\u0301tude", "it\u00e2\u20ac\u2122s"
    rows, tally = _clean([decomposed, broken, "plain"], unicode={"repair": True})
    assert [row["text"] for row in rows] == ["\u00e9tude", "it's", "plain"]
    assert tally.steps["unicode"].found == {"normalized": 1, "repaired": 1}
    rows, _ = _clean([decomposed, "\ufb01ne"], unicode={"form": "NFKC"})
    assert [row["text"] for row in rows] == ["\u00e9tude", "fine"]
    rows, _ = _clean([broken], unicode={})
    assert rows[0]["text"] == broken, "repair is asked for by itself"


def test_lengths_have_bounds() -> None:
    rows, tally = _clean(["ab", "abc", "abcde", "abcdef"], length={"min_characters": 3, "max_characters": 5})
    assert [row["text"] for row in rows] == ["abc", "abcde"]
    assert tally.steps["length"].dropped == {"too_short": 1, "too_long": 1}
    assert (tally.steps["length"].characters, tally.steps["length"].characters_kept) == (16, 8)


def test_languages_are_told_and_kept() -> None:
    german = "Der Leuchtturmwärter war fast die ganze Nacht wach gewesen und wusste, dass der Sturm nicht enden würde."
    texts: list[str | None] = [PROSE, german, "xq 7 zz 19 - 4"]
    rows, tally = _clean(texts, language={"keep": ["en"]})
    assert [(row["id"], row["language"]) for row in rows] == [("s/0", "en")]
    assert tally.steps["language"].dropped == {"not_wanted": 1, "unsure": 1}
    rows, tally = _clean(texts, language={"min_score": 0})
    assert [row["language"] for row in rows[:2]] == ["en", "de"] and len(rows) == 3
    assert tally.languages.total() == 3 and tally.languages["de"] == 1


@pytest.mark.parametrize(
    ("step", "text", "reason"),
    [
        ("gopher", "Too short to be a document.", "short_doc"),
        ("gopher", "of the and to " * 60, "below_avg_threshold"),
        ("gopher", PROSE.replace(" the ", " # ").replace(" of ", " # "), "too_many_hashes"),
        ("gopher", "\n".join(f"- {line}" for line in PROSE.split(".") if line), "too_many_bullets"),
        ("gopher", " ".join("zebra piano lantern" for _ in range(30)), "enough_stop_words"),
        ("gopher_repetition", "\n".join([PROSE[:60]] * 10), "dup_line_frac"),
        ("gopher_repetition", PROSE + " the grey sea " * 60, "top_2_gram"),
        ("c4", "One line. Two lines.", "too_few_sentences"),
        ("c4", PROSE + "\nint main() { return 0; }.", "curly_bracket"),
        ("c4", PROSE + "\nLorem ipsum dolor sit amet.", "lorem_ipsum"),
        ("fineweb", "\n".join(["a line that has no end and is long enough"] * 1), "line_punct_ratio"),
        ("fineweb", "\n".join(f"Item {number}." for number in range(40)), "short_line_ratio"),
    ],
)
def test_quality_filters_drop_what_they_are_for_and_keep_prose(step: str, text: str, reason: str) -> None:
    rows, tally = _clean([text, PROSE], **{step: {}})
    assert tally.steps[step].dropped == {reason: 1}
    assert [row["id"] for row in rows] == ["s/1"]
    assert rows[0]["text"] == PROSE


def test_thresholds_are_the_configurations() -> None:
    assert _clean(["Too short to be a document."], gopher={"min_doc_words": 3, "min_stop_words": 1})[0]


def test_c4_takes_single_lines_out() -> None:
    lines = [*(part.strip() + "." for part in PROSE.split(".") if part), "Home | About | Contact", "We use cookies."]
    rows, tally = _clean(["\n".join(lines)], c4={})
    assert rows[0]["text"] == "\n".join(lines[:-2])
    assert tally.steps["c4"].found == {"changed": 1}


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("write to jane.doe+x@mail.example.org.", "write to <email>."),
        ("a@b is no address, nor is @home or x@y.z", "a@b is no address, nor is @home or x@y.z"),
        ("from 8.8.8.8, not 10.0.0.1 or 127.0.0.1", "from <ip-address>, not 10.0.0.1 or 127.0.0.1"),
        ("version 1.2.3.4.5 and 999.8.8.8", "version 1.2.3.4.5 and 999.8.8.8"),
        ("at 2001:4860:4860::8888 since 12:30:45", "at <ip-address> since 12:30:45"),
        ("call +44 20 7946 0958 or +1 (650) 253-0000!", "call <telephone> or <telephone>!"),
        ("in 1914-1918 some +1000000 men, ISBN 978-3-16-148410-0", None),
    ],
)
def test_personal_data_is_masked_where_it_is_valid(text: str, masked: str | None) -> None:
    draft, found = Draft(text), Counter[str]()
    assert MaskPersonalData(PersonalDataSettings())(draft, found) is None
    assert draft.text == (text if masked is None else masked)
    assert found.total() == draft.text.count("<")


def test_national_numbers_need_a_region() -> None:
    text = "ring (650) 253-0000 on 2026-11-25 about order 123456789012"
    draft = Draft(text)
    MaskPersonalData(PersonalDataSettings())(draft, Counter())
    assert draft.text == text
    MaskPersonalData(PersonalDataSettings(region="US"))(draft, Counter())
    assert draft.text == "ring <telephone> on 2026-11-25 about order 123456789012"
    with pytest.raises(ConfigError, match="region='XX' is no country"):
        steps_of(CleaningSettings.model_validate({"personal_data": {"region": "XX"}}))


def test_examples_show_no_personal_data() -> None:
    text = "mail jane@mail.example.org or call 650-253-0000 from 8.8.8.8\nnow"
    assert excerpt(text) == "mail <email> or call <telephone> from <ip-address> now"
    _, tally = _clean([text], length={"min_characters": 1000})
    assert "jane" not in str(tally.to_json()) and "253" not in str(tally.to_json())


@given(text=st.text(alphabet="ab .\n", max_size=400), limit=st.integers(1, 60))
def test_passages_are_the_document(text: str, limit: int) -> None:
    passages = list(passages_of(text, limit))
    assert "".join(passages) == text
    assert all(0 < len(passage) <= limit for passage in passages) or not text


def test_passages_end_where_a_paragraph_does() -> None:
    assert list(passages_of("aaaa bbb\n\ncccc dddd", 12)) == ["aaaa bbb\n\n", "cccc dddd"]
    assert list(passages_of("aaaa. bbb cccc", 9)) == ["aaaa. ", "bbb cccc"]
    rows, tally = _clean(["x " * 150, "short"], passages={"max_characters": 100})
    assert [(row["id"], row["passage"]) for row in rows] == [("s/0", 0), ("s/0", 1), ("s/0", 2), ("s/1", 0)]
    assert (tally.documents, tally.passages) == (2, 4)


def test_what_has_no_text_is_left_for_others_to_count() -> None:
    rows, tally = _clean([None, "", "abc"], length={"min_characters": 3})
    assert [row["id"] for row in rows] == ["s/0", "s/1", "s/2"] and tally.documents == 1


def test_tallies_add_up_in_any_order() -> None:
    parts = [
        _clean([f"{number}" * length for length in range(1, 9)], length={"min_characters": 5})[1] for number in range(4)
    ]
    for part in parts:
        part.steps["length"].seconds = 0.5
    sums = []
    for order in (parts, parts[::-1]):
        whole = Tally()
        for part in order:
            whole.add(Tally.from_json(part.to_json()))
        sums.append(whole.to_json())
    assert sums[0] == sums[1]
    assert sums[0]["steps"]["length"]["dropped"] == {"too_short": 16}
    assert len(sums[0]["steps"]["length"]["examples"]["too_short"]) == 3
    assert Tally.from_json(sums[0]).to_json() == sums[0]


def test_a_missing_library_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "ftfy", None)
    with pytest.raises(ConfigError, match=r"cleaning\.unicode needs ftfy .* install llmcore\[clean\]"):
        steps_of(CleaningSettings.model_validate({"unicode": {"repair": True}}))
