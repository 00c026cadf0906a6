"""Real data of every kind becomes a labelled set from its own files, with nothing but a configuration."""

import os
from pathlib import Path
from typing import Any

import pytest

from llmcore.config.labelled import LabelledDataSettings
from llmcore.errors import CorpusError
from llmcore.storage import Folder
from llmcore.tasks.columns import KINDS
from llmcore.tasks.labelled import LabelledData, publish_labelled_data

DATA = Path(os.environ.get("LLMCORE_DATA", "nowhere"))

pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="LLMCORE_DATA names no folder with the real data")


def publish(folder: Path, kind: str, **given: Any) -> LabelledData:
    return publish_labelled_data(Folder(str(folder)), LabelledDataSettings.model_validate(given), KINDS[kind])


def sizes(data: LabelledData) -> dict[str, int]:
    return {split: data.evaluation_set.num_rows(split) for split in data.evaluation_set.splits}


def test_sst2_has_one_sentence_of_its_test_in_train(tmp_path: Path) -> None:
    given = {
        "train": str(DATA / "sst2/train.tsv"),
        "test": str(DATA / "sst2/dev.tsv"),
        "header": ["text", "label"],
        "label_names": {"0": "negative", "1": "positive"},
    }
    with pytest.raises(
        CorpusError, match=r"test row 79 \(id 'dev\.tsv:79'\): .* train split, row \d+ \(id 'train\.tsv:2867'\)"
    ):
        publish(tmp_path, "text_classification", **given)
    made = publish(tmp_path, "text_classification", **given, allow_duplicates=True)
    found = sizes(made)
    assert found["test"] == 872 and found["train"] + found["validation"] == 6920
    assert found["validation"] == pytest.approx(692, abs=75)
    report = made.report()["splits"]
    assert report["test"]["duplicates"] == {"train": 1}, "cool, and cool ?"
    assert "train" not in report["validation"]["duplicates"], "carving divides no duplicates"
    assert report["test"]["labels"] == {"negative": 428, "positive": 444}


def test_ag_news(tmp_path: Path) -> None:
    names = ["World", "Sports", "Business", "Sci/Tech"]
    made = publish(
        tmp_path,
        "text_classification",
        train=str(DATA / "ag_news/train.csv"),
        test=str(DATA / "ag_news/dev.csv"),
        label_names={str(number): name for number, name in enumerate(names, 1)},
    )
    found = sizes(made)
    assert made.evaluation_set.label_names == names
    assert found["test"] == 800 and found["train"] + found["validation"] == 7978
    assert made.report()["splits"]["test"]["labels"] == dict.fromkeys(names, 200)


def test_xquad_is_divided_by_article(tmp_path: Path) -> None:
    file = str(DATA / "xquad/xquad.en.json")
    labelled = publish(tmp_path, "question_answering", train=file, metadata=["title"]).evaluation_set
    assert sum(map(labelled.num_rows, labelled.splits)) == 1190
    titles = [set(labelled.rows(split)["title"].to_pylist()) for split in labelled.splits]
    assert sum(map(len, titles)) == len(set.union(*titles)) == 48, "an article is in one split"
    assert all(labelled.num_rows(split) > 100 for split in labelled.splits)


def test_covidqa_has_234_answers_that_stand_elsewhere(tmp_path: Path) -> None:
    given = {"train": str(DATA / "covidqa_squad/200423_covidQA.json.gz"), "carve": {"validation": 0, "test": 0}}
    with pytest.raises(CorpusError, match="is said to start at character"):
        publish(tmp_path, "question_answering", **given, answers="fail")
    made = publish(tmp_path, "question_answering", **given)
    assert sizes(made) == {"train": 1380}
    assert made.reading == {"train": {"answers_repaired": 234}}
    for row in made.evaluation_set.rows("train").to_pylist():
        for answer in row["answers"]:
            assert row["context"][answer["start"] :].startswith(answer["text"])
    both = publish(
        tmp_path,
        "question_answering",
        train=[str(DATA / "xquad/xquad.en.json"), str(DATA / "covidqa_squad/200423_covidQA.json.gz")],
        carve={"validation": 0.1, "test": 0},
    )
    assert sum(sizes(both).values()) == 1190 + 1380


def test_multi30k_is_aligned_text(tmp_path: Path) -> None:
    names = {"train": "train", "validation": "val", "test": "test_2016_flickr"}
    given = {
        split: {"source": f"{DATA}/multi30k_en_de/{name}.en.gz", "target": f"{DATA}/multi30k_en_de/{name}.de.gz"}
        for split, name in names.items()
    }
    with pytest.raises(
        CorpusError, match=r"validation row 686 \(id 'val\.en\.gz:686'\): the same source stands in the train"
    ):
        publish(tmp_path, "translation", **given)
    made = publish(tmp_path, "translation", **given, allow_duplicates=True)
    assert sizes(made) == {"train": 29_000, "validation": 1014, "test": 1000}
    assert made.evaluation_set.rows("train")["target"][0].as_py().startswith("Zwei junge weiße Männer")


def test_dialogsum_is_divided_without_groups(tmp_path: Path) -> None:
    file = str(DATA / "dialogsum/dialogsum.dev.jsonl")
    columns = {"document": "dialogue"}
    made = publish(tmp_path, "summarization", train=file, columns=columns, id="fname", metadata=["topic"])
    assert sum(sizes(made).values()) == 500 and min(sizes(made).values()) > 25
    assert made.evaluation_set.rows("train")["id"][0].as_py() == "dev_0"
    assert all(made.evaluation_set.rows("test")["topic"].to_pylist())


def test_mbpp_brings_its_tests(tmp_path: Path) -> None:
    made = publish(
        tmp_path,
        "code_generation",
        train=str(DATA / "mbpp/train.jsonl"),
        test=str(DATA / "mbpp/validation.jsonl"),
        columns={"prompt": "text", "solution": "code", "tests": "test_list", "setup": "test_setup_code"},
        id="task_id",
    )
    assert sizes(made)["test"] == 90 and sum(sizes(made).values()) == 464
    assert all(len(tests) >= 1 for tests in made.evaluation_set.rows("test")["tests"].to_pylist())


def test_instructions_become_conversations(tmp_path: Path) -> None:
    turns = [("user", "{instruction}\n{instances.0.input}"), ("assistant", "instances.0.output")]
    made = publish(
        tmp_path,
        "chat",
        train=str(DATA / "instruct_seed/seed_tasks.jsonl"),
        messages=[{"role": role, "content": content} for role, content in turns],
        id="id",
        metadata=["is_classification"],
    )
    assert sum(sizes(made).values()) == 175
    first = made.evaluation_set.rows("train").to_pylist()[0]
    assert [message["role"] for message in first["messages"]] == ["user", "assistant"]
    assert first["messages"][1]["content"].startswith("Yes, you can have")
