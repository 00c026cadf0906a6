"""Labelled sets from files: whatever the format, the same rows; whatever is wrong, said with file, row and column."""

import csv
import gzip
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmcore.config.labelled import LabelledDataSettings
from llmcore.errors import ConfigError, CorpusError, UserError
from llmcore.storage import Folder
from llmcore.tasks.columns import KINDS, Column, SetKind
from llmcore.tasks.labelled import LabelledData, looked_at, publish_labelled_data

Rows = list[dict[str, Any]]


def publish(folder: Path, kind: str = "text_classification", **given: Any) -> LabelledData:
    """The set that files make; splits that are not given are not carved unless that is asked for."""
    carve = {split: 0 for split in ("validation", "test") if split not in given}
    config = LabelledDataSettings.model_validate({"carve": carve} | given)
    return publish_labelled_data(Folder(str(folder / "runs")), config, KINDS[kind])


def rows_of(data: LabelledData, split: Any = "train") -> Rows:
    return list(data.evaluation_set.rows(split).to_pylist())


def _zstd(data: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(data)
    return sink.getvalue().to_pybytes()


def _in_cells(rows: Rows) -> list[dict[str, str]]:
    """Lists as JSON, which is how they stand in one cell."""
    return [{k: v if isinstance(v, str) else json.dumps(v) for k, v in row.items()} for row in rows]


def write(path: Path, rows: Rows) -> Path:
    """A file in the format that its name tells."""
    name = path.name
    if ".json" in name:
        data = "".join(json.dumps(row) + "\n" for row in rows).encode()
    elif ".parquet" in name:
        sink = pa.BufferOutputStream()
        pq.write_table(pa.Table.from_pylist(rows), sink)
        data = sink.getvalue().to_pybytes()
    elif ".arrow" in name:
        table, sink = pa.Table.from_pylist(rows), pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as stream:
            stream.write_table(table)
        data = sink.getvalue().to_pybytes()
    else:
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, fieldnames=list(rows[0]), delimiter="\t" if ".tsv" in name else ",")
        writer.writeheader()
        writer.writerows(_in_cells(rows))
        data = text.getvalue().encode()
    data = gzip.compress(data) if name.endswith(".gz") else _zstd(data) if name.endswith(".zst") else data
    path.write_bytes(data)
    return path


NAMES = ["a.jsonl", "a.jsonl.gz", "a.json.zst", "a.csv", "a.csv.gz", "a.tsv", "a.tsv.zst", "a.parquet", "a.arrow"]
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), min_size=1, max_size=20).filter(str.strip)


def _answered(context: str, spans: list[tuple[int, int]]) -> list[dict[str, Any]]:
    found = [(a % len(context), 1 + b) for a, b in spans]
    return [{"text": context[a : a + b], "start": a} for a, b in found]


KIND_ROWS: Mapping[str, st.SearchStrategy[dict[str, Any]]] = {
    "translation": st.fixed_dictionaries({"source": TEXT, "target": TEXT}),
    "text_generation": st.fixed_dictionaries({"prompt": TEXT, "completion": TEXT}),
    "question_answering": st.builds(
        lambda question, context, spans: {
            "question": question,
            "context": context,
            "answers": _answered(context, spans),
        },
        TEXT,
        TEXT,
        st.lists(st.tuples(st.integers(0, 30), st.integers(0, 5)), min_size=1, max_size=2),
    ),
    "chat": st.lists(TEXT, min_size=1, max_size=3).map(
        lambda said: {
            "messages": [
                message
                for text in said
                for message in ({"role": "user", "content": text}, {"role": "assistant", "content": text})
            ]
        }
    ),
    "code_generation": st.fixed_dictionaries(
        {"prompt": TEXT, "solution": TEXT, "tests": st.lists(TEXT, min_size=1, max_size=3)}
    ),
}


@pytest.mark.parametrize("kind", KIND_ROWS)
@settings(max_examples=8, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_rows_come_back_as_they_were_written_in_any_format(
    tmp_path_factory: pytest.TempPathFactory, kind: str, data: st.DataObject
) -> None:
    rows = data.draw(st.lists(KIND_ROWS[kind], min_size=1, max_size=5))
    folder = tmp_path_factory.mktemp("set")
    for name in NAMES:
        file = write(folder / name, rows)
        # Both name their rows `a.…:0`; what stands in them is what is compared.
        found = rows_of(publish(folder, kind, train=str(file), format="json_lines" if ".json" in name else None))
        assert [{key: row[key] for key in rows[0]} for row in found] == rows, name


@pytest.mark.parametrize("name", NAMES)
def test_labels_metadata_ids_and_groups_are_the_same_in_any_format(tmp_path: Path, name: str) -> None:
    given_rows = [
        {
            "no": f"{n}",
            "headline": f"text {n}\nü",
            "topic": ["b", "a", "c"][n % 3],
            "author": f"w{n // 2}",
            "year": "1999",
        }
        for n in range(6)
    ]
    file = write(tmp_path / name, given_rows)
    made = publish(
        tmp_path,
        train=str(file),
        columns={"text": "headline", "label": "topic"},
        id="no",
        group="author",
        metadata=["year"],
    )
    assert made.evaluation_set.label_names == ["a", "b", "c"]
    assert made.evaluation_set.columns == ["id", "text", "label", "group", "year"]
    assert made.evaluation_set.metadata == ["year"]
    assert rows_of(made) == [
        {"id": row["no"], "text": row["headline"], "label": [1, 0, 2][n % 3], "group": row["author"], "year": "1999"}
        for n, row in enumerate(given_rows)
    ]


def test_the_same_rows_in_another_format_are_the_same_set_and_nothing_is_written_twice(tmp_path: Path) -> None:
    rows = [{"text": f"text {n}", "label": "ab"[n % 2], "id": str(n)} for n in range(6)]
    first = publish(tmp_path, train=str(write(tmp_path / "a.jsonl", rows)), id="id")
    folder = Path(first.evaluation_set.folder.url)
    before = {file: file.stat().st_mtime_ns for file in folder.iterdir()}
    again = publish(tmp_path, train=str(write(tmp_path / "b.csv.gz", rows)), id="id")
    assert again.evaluation_set.hash == first.evaluation_set.hash
    assert {file: file.stat().st_mtime_ns for file in folder.iterdir()} == before


def test_files_that_made_a_set_are_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"text": f"text {n}", "label": "ab"[n % 2]} for n in range(6)]
    file = write(tmp_path / "a.jsonl", rows)
    first = publish(tmp_path, train=str(file))
    monkeypatch.setattr("llmcore.tasks.labelled.publish.Reading", None)
    assert publish(tmp_path, train=str(file)).report() == first.report()
    monkeypatch.undo()
    write(file, [*rows, {"text": "new", "label": "a"}])
    assert publish(tmp_path, train=str(file)).evaluation_set.num_rows("train") == 7


def test_a_table_without_names_or_quotation_marks_has_a_header_in_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text('he said "no\t0\n"yes" , he said\t1\n')
    given = {"train": str(tmp_path / "a.tsv"), "label_names": {"0": "negative", "1": "positive"}}
    with pytest.raises(CorpusError, match=r"a\.tsv, which has the columns .*without a row of names, it needs `header`"):
        publish(tmp_path, **given, quotes=False)
    made = publish(tmp_path, **given, header=["text", "label"], quotes=False)
    assert [(row["text"], row["label"]) for row in rows_of(made)] == [('he said "no', 0), ('"yes" , he said', 1)]
    (tmp_path / "b.txt").write_text("one;two\t0\nthree\t1\n")
    made = publish(tmp_path, train=str(tmp_path / "b.txt"), format="tsv", header=["text", "label"])
    assert [row["text"] for row in rows_of(made)] == ["one;two", "three"]
    write(tmp_path / "c.jsonl", [{"text": "x", "label": "a"}])
    with pytest.raises(ConfigError, match=r"header=.*no file is one"):
        publish(tmp_path, train=str(tmp_path / "c.jsonl"), header=["text", "label"])


@pytest.mark.parametrize("labels", [["a", "c"], "a; c"])
def test_several_labels_a_row(tmp_path: Path, labels: Any) -> None:
    others = [{"text": "y", "labels": [] if isinstance(labels, list) else ""}, {"text": "z", "labels": labels[1:2]}]
    others[1]["labels"] = ["b"] if isinstance(labels, list) else "b"
    file = write(tmp_path / "a.jsonl", [{"text": "x", "labels": labels}, *others])
    made = publish(tmp_path, train=str(file), label_separator=None if isinstance(labels, list) else ";")
    assert made.evaluation_set.label_names == ["a", "b", "c"]
    assert [row["labels"] for row in rows_of(made)] == [[0, 2], [], [1]]
    assert made.report()["splits"]["train"]["labels"] == {"a": 1, "b": 1, "c": 1}


def test_pairs_templates_and_paths(tmp_path: Path) -> None:
    rows = [{"a": {"b": [f"deep {n}", 5]}, "c": f"flat {n}", "label": n % 2 == 0} for n in range(4)]
    file = write(tmp_path / "a.jsonl", rows)
    made = publish(tmp_path, train=str(file), columns={"text": "a.b.0", "text_pair": "{c} ({a.b.1})"})
    assert [(row["text"], row["text_pair"]) for row in rows_of(made)] == [
        (f"deep {n}", f"flat {n} (5)") for n in range(4)
    ]
    assert made.evaluation_set.label_names == ["false", "true"]
    with pytest.raises(CorpusError, match=r"a\.jsonl row 0: 'a\.b\.2' leads nowhere"):
        publish(tmp_path, train=str(file), columns={"text": "a.b.2"})


def test_conversations_are_made_of_columns(tmp_path: Path) -> None:
    rows = [{"rule": "", "q": "Why?", "a": ["Because."]}, {"rule": "Be kind.", "q": "How?", "a": ["So."]}]
    turns = [("system", "rule"), ("user", "{q}!"), ("assistant", "a.0")]
    made = publish(
        tmp_path,
        "chat",
        train=str(write(tmp_path / "a.jsonl", rows)),
        messages=[{"role": role, "content": content} for role, content in turns],
    )
    said = [[(message["role"], message["content"]) for message in row["messages"]] for row in rows_of(made)]
    assert said[0] == [("user", "Why?!"), ("assistant", "Because.")], "a blank turn is none"
    assert said[1] == [("system", "Be kind."), ("user", "How?!"), ("assistant", "So.")]


def test_aligned_text_is_divided_by_line_feeds_alone(tmp_path: Path) -> None:
    (tmp_path / "t.en").write_bytes("one\u2028still one\r\ntwo\x0bstill two\nthree".encode())
    (tmp_path / "t.de.gz").write_bytes(gzip.compress(b"eins\nzwei\ndrei\n"))
    made = publish(
        tmp_path, "translation", train={"source": str(tmp_path / "t.en"), "target": str(tmp_path / "t.de.gz")}
    )
    assert [(row["id"], row["source"], row["target"]) for row in rows_of(made)] == [
        ("t.en:0", "one\u2028still one", "eins"),
        ("t.en:1", "two\x0bstill two", "zwei"),
        ("t.en:2", "three", "drei"),
    ]


def _squad(path: Path, articles: list[dict[str, Any]]) -> Path:
    path.write_text(json.dumps({"version": "2.0", "data": articles}))
    return path


def _asked(context: str, name: str, *answers: tuple[str, int], title: str | None = None, **more: Any) -> dict[str, Any]:
    given = [{"text": text, "answer_start": start} for text, start in answers]
    asked = {"id": name, "question": f"Who is {name}?", "answers": given} | more
    return {"paragraphs": [{"context": context, "qas": [asked]}]} | ({"title": title} if title else {})


CONTEXT = "Ada knew Bob, and Bob knew Ada."


def test_squad_of_both_versions(tmp_path: Path) -> None:
    articles = [
        _asked(CONTEXT, "a", ("Ada", 0), ("Ada", 27), title="People"),
        _asked(CONTEXT, "b", is_impossible=True),
    ]
    made = publish(tmp_path, "question_answering", train=str(_squad(tmp_path / "s.json", articles)), metadata=["title"])
    first, second = rows_of(made)
    assert first["answers"] == [{"text": "Ada", "start": 0}, {"text": "Ada", "start": 27}]
    assert (first["id"], first["group"], first["title"]) == ("a", "People", "People")
    assert second["answers"] == [] and second["title"] is None and second["group"] not in ("", "b", None)
    assert made.report()["splits"]["train"]["without_answer"] == 1
    # The same from an object of two lists, as `datasets` has it.
    as_lists = {"id": "a", "question": "Who is a?", "context": CONTEXT, "group": "People", "title": "People"}
    lines = [as_lists | {"answers": {"text": ["Ada", "Ada"], "answer_start": [0, 27]}}]
    again = publish(
        tmp_path,
        "question_answering",
        train=str(write(tmp_path / "s.jsonl", lines)),
        id="id",
        group="group",
        metadata=["title"],
    )
    assert rows_of(again) == [first]


def test_answers_that_stand_elsewhere_are_moved_to_the_nearest_place_and_counted(tmp_path: Path) -> None:
    articles = [
        _asked(CONTEXT, "a", ("Bob", 10)),  # stands at 9 and 18
        _asked(CONTEXT, "b", ("Bob", 15)),
        _asked(CONTEXT, "c", ("Ada", 0), ("Eve", 5)),
        _asked(CONTEXT, "d", ("Eve", 5)),
        _asked(CONTEXT, "e", ("Ada", -1)),
        _asked(CONTEXT, "f", ("Ada", 999)),
    ]
    file = str(_squad(tmp_path / "s.json", articles))
    with pytest.raises(CorpusError, match=r"s\.json row 2: answers: the answer 'Eve' .* stands nowhere.*answers=drop"):
        publish(tmp_path, "question_answering", train=file)
    with pytest.raises(
        CorpusError, match=r"s\.json row 0: answers: the answer 'Bob' is said to start at character 10.*at 9"
    ):
        publish(tmp_path, "question_answering", train=file, answers="fail")
    made = publish(tmp_path, "question_answering", train=file, answers="drop")
    starts = {row["id"]: [answer["start"] for answer in row["answers"]] for row in rows_of(made)}
    assert starts == {"a": [9], "b": [18], "c": [0], "e": [0], "f": [27]}
    assert made.reading == {"train": {"answers_left_out": 2, "answers_repaired": 4, "rows_without_a_right_answer": 1}}
    assert "train: 4 answers repaired" in list(made.lines())


def test_splits_are_carved_by_group_and_by_words(tmp_path: Path) -> None:
    rows = [{"text": f"text {n}", "label": "ab"[n % 2], "by": f"w{n % 40}"} for n in range(400)]
    file = write(tmp_path / "a.jsonl", rows)
    shares = {"validation": 0.2, "test": 0.1}
    made = publish(tmp_path, train=str(file), group="by", carve=shares).evaluation_set
    assert [made.num_rows(split) for split in made.splits] == [280, 80, 40]
    groups = [set(made.rows(split)["group"].to_pylist()) for split in made.splits]
    assert sum(map(len, groups)) == len(set.union(*groups)) == 40
    ids = [row_id for split in made.splits for row_id in made.rows(split)["id"].to_pylist()]
    assert sorted(ids) == sorted(f"a.jsonl:{n}" for n in range(400)), "every row is in one split"
    # Copies, but for case and punctuation, are in one split, so that carving never makes a duplicate.
    copies = [{"text": f"Text, {n}!", "label": "a"} for n in range(400)]
    single = publish(tmp_path, train=str(write(tmp_path / "b.jsonl", rows + copies)), carve=shares).evaluation_set
    assert sum(single.num_rows(split) for split in single.splits) == 800
    assert single.report["test"]["duplicates"] == {"test": single.num_rows("test") // 2}
    assert single.num_rows("validation") == pytest.approx(160, abs=40)
    # What comes first or last changes nothing, and another seed does.
    turned = publish(tmp_path, train=str(write(tmp_path / "c.jsonl", rows[::-1])), carve=shares).evaluation_set
    other = publish(tmp_path, train=str(tmp_path / "c.jsonl"), carve=shares, seed=1).evaluation_set
    held = [set(one.rows("test")["text"].to_pylist()) for one in (turned, other)]
    assert held[0] == {text for text in single.rows("test")["text"].to_pylist() if text.startswith("text")} != held[1]


def test_validation_is_carved_while_a_given_test_stays(tmp_path: Path) -> None:
    rows = [{"text": f"text {n}", "label": "ab"[n % 2]} for n in range(100)]
    files = [str(write(tmp_path / f"{n}.csv", rows[20 * n : 20 * n + 20])) for n in range(4)]
    test = str(write(tmp_path / "test.csv", rows[80:]))
    made = publish(tmp_path, train=files, test=test, carve={"validation": 0.3}).evaluation_set
    assert made.rows("test")["text"].to_pylist() == [row["text"] for row in rows[80:]]
    assert made.num_rows("train") + made.num_rows("validation") == 80 and made.num_rows("validation") > 10
    by_glob = publish(tmp_path, train=str(tmp_path / "[0-9].csv"), test=test, carve={"validation": 0.3}).evaluation_set
    assert by_glob.hash == made.hash


ROWS = [{"text": "one", "label": "a"}, {"text": "two", "label": "b"}, {"text": "three", "label": "a"}]


@pytest.mark.parametrize(
    ("changed", "given_settings", "said"),
    [
        (
            {"label": "c"},
            {"label_names": ["a", "b"]},
            r"train\.jsonl row 1: label: 'c' is none of the labels \['a', 'b'\]",
        ),
        ({"text": " "}, {}, r"train\.jsonl row 1: text is empty; correct the row, or .*empty=drop"),
        ({"text": None}, {}, r"train\.jsonl row 1: text is empty"),
        ({"text": 5}, {}, r"train\.jsonl: row 1 has text=5, where text is expected"),
        ({"label": None}, {"label_names": ["a", "b"]}, r"train\.jsonl row 1: label is empty"),
        (
            {},
            {"columns": {"text": "sentence"}},
            r"columns\.text='sentence' is no column of train\.jsonl.*\['label', 'text'\]",
        ),
        ({}, {"columns": {"txt": "text"}}, r"columns=\['txt'\]: text_classification has no such columns, only text, "),
        ({}, {"group": "by"}, r"group='by' is no column of train\.jsonl"),
        ({}, {"metadata": ["year"]}, r"metadata='year'|year='year' is no column of train\.jsonl"),
        ({}, {"metadata": ["text"]}, r"metadata=\['text'\]: a set of text_classification has columns of that name"),
        ({}, {"columns": {"labels": "label"}, "label_names": ["a", "b"]}, r"row 0: labels: 'a' is no list of labels"),
        ({}, {"messages": [{"role": "user", "content": "text"}]}, "messages= makes conversations"),
        (
            {"text": "One!"},
            {"test": True},
            r"test row 1 \(id 'test\.jsonl:1'\): the same text stands in the train split, row 0 ",
        ),
    ],
)
def test_what_is_wrong_is_said_with_its_place(
    tmp_path: Path, changed: dict[str, Any], given_settings: dict[str, Any], said: str
) -> None:
    rows = [ROWS[0], ROWS[1] | changed, ROWS[2]]
    given = {"train": str(write(tmp_path / "train.jsonl", rows))} | given_settings
    if "test" in given:
        others = [{"text": f"another {n}", "label": "a"} for n in range(3)]
        write(tmp_path / "train.jsonl", ROWS)
        given["test"] = str(write(tmp_path / "test.jsonl", [others[0], rows[1], others[2]]))
    with pytest.raises(UserError, match=said):
        publish(tmp_path, **given)
    assert not (tmp_path / "runs/artifacts/evaluation-sets").exists()


def test_rows_with_empty_texts_may_be_left_out_and_duplicates_allowed(tmp_path: Path) -> None:
    train = str(write(tmp_path / "train.jsonl", [*ROWS, {"text": "", "label": "a"}]))
    test = str(write(tmp_path / "test.jsonl", [{"text": "ONE", "label": "a"}, {"text": "new", "label": "b"}]))
    made = publish(tmp_path, train=train, test=test, empty="drop", allow_duplicates=True)
    assert made.reading == {"train": {"rows_with_empty_text": 1}}
    assert made.report()["splits"]["test"]["duplicates"] == {"train": 1}
    assert any("the inputs of 1 stand in train, too" in line for line in made.lines())


def test_unaligned_files_and_files_without_rows_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.en").write_text("1\n2\n3\n4\n")
    (tmp_path / "a.de").write_text("1\n2\n")
    pair = {"source": str(tmp_path / "a.en"), "target": str(tmp_path / "a.de")}
    with pytest.raises(CorpusError, match=r"a\.en has 4 lines, .*a\.de has 2 lines: line n of each is row n"):
        publish(tmp_path, "translation", train=pair)
    with pytest.raises(CorpusError, match=r"not equally many \(source 2, target 1\)"):
        publish(tmp_path, "translation", train=pair | {"source": [pair["source"], pair["target"]]})
    (tmp_path / "no.jsonl").write_text("")
    with pytest.raises(CorpusError, match=r"no\.jsonl: no file has a row"):
        publish(tmp_path, train=str(tmp_path / "no.jsonl"))
    with pytest.raises(CorpusError, match="matches no file"):
        publish(tmp_path, train=str(tmp_path / "nowhere.jsonl"))
    (tmp_path / "s.json").write_text(
        '{"data": [{"paragraphs": [{"context": "b", "qas": []}, {"context": "c", "qas": [{"id": 1}]}]}]}'
    )
    with pytest.raises(CorpusError, match=r"s\.json: row 0 is not as in SQuAD's JSON \('answers' is missing\)"):
        publish(tmp_path, "question_answering", train=str(tmp_path / "s.json"))


def test_a_task_of_ones_own_brings_its_own_columns(tmp_path: Path) -> None:
    kind = SetKind("rhyme", (Column("line", "text", "a line", is_input=True), Column("rhymes", "texts", "its rhymes")))
    file = write(tmp_path / "a.jsonl", [{"verse": "cat", "rhymes": ["hat", "mat"]}])
    given = {"train": str(file), "columns": {"line": "verse"}, "carve": {"validation": 0, "test": 0}}
    made = publish_labelled_data(Folder(str(tmp_path)), LabelledDataSettings.model_validate(given), kind)
    assert rows_of(made) == [{"id": "a.jsonl:0", "line": "cat", "rhymes": ["hat", "mat"], "group": "a.jsonl:0"}]
    assert made.evaluation_set.kind == "rhyme"


def test_files_may_lie_at_any_url(tmp_path: Path) -> None:
    fs = fsspec.filesystem("memory")
    rows = [{"source": f"text {n}", "target": f"Text {n}"} for n in range(6)]
    local = write(tmp_path / "a.jsonl.gz", rows)
    for number in range(2):
        lines = "".join(json.dumps(row) + "\n" for row in rows[3 * number : 3 * number + 3])
        fs.pipe(f"/labelled/part-{number}.jsonl.gz", gzip.compress(lines.encode()))
    for column in ("source", "target"):
        fs.pipe(f"/pair/t.{column}", "".join(f"{row[column]}\n" for row in rows).encode())
    by_line = publish(tmp_path, "translation", train={c: f"memory://pair/t.{c}" for c in ("source", "target")})
    made = publish(tmp_path, "translation", train="memory://labelled/*.jsonl.gz")
    texts = [
        [row["source"] for row in rows_of(one)]
        for one in (by_line, made, publish(tmp_path, "translation", train=str(local)))
    ]
    assert texts == [[row["source"] for row in rows]] * 3
    assert [row["id"] for row in rows_of(made)][2:4] == ["part-0.jsonl.gz:2", "part-1.jsonl.gz:0"]


def test_a_look_reads_no_row_and_finds_what_is_not_there(tmp_path: Path) -> None:
    file = write(tmp_path / "a.csv", [{"sentence": "", "label": "a"}])
    config = LabelledDataSettings.model_validate({"train": str(file), "columns": {"text": "sentence"}})
    (line,) = looked_at(config, KINDS["text_classification"])
    assert line == "Labelled data data: files of train 1; columns id, text, label, group"
    with pytest.raises(CorpusError, match=r"columns\.text='text' is no column of a\.csv"):
        looked_at(config.model_copy(update={"columns": {"text": "text"}}), KINDS["text_classification"])
    elsewhere = config.model_copy(update={"test": ["memory://nowhere/a.csv"]})
    assert looked_at(elsewhere, KINDS["text_classification"]) == ["Labelled data data: looked at when the job runs"]


def test_a_dataset_is_read_split_by_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    rows = [{"text": f"text {n}", "label": "ab"[n % 2]} for n in range(20)]
    file = write(tmp_path / "all.jsonl", rows)
    dataset = {"path": "json", "data_files": str(file)}
    made = publish(tmp_path, dataset=dataset, train="train[:75%]", test="train[75%:]")
    assert [made.evaluation_set.num_rows(split) for split in made.evaluation_set.splits] == [15, 5]
    assert [row["text"] for row in rows_of(made, "test")] == [row["text"] for row in rows[15:]]
