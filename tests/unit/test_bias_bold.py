"""BOLD: what is written of groups, by a classifier: by hand, planted into a real decoder, and by a fair one."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from llmcore.bias import classifier
from llmcore.bias.bold import Judge, Prompt, read_bold
from llmcore.bias.classifier import label_probabilities, the_judge
from llmcore.bias.intervals import Resampling
from llmcore.bias.measures import MEASURES
from llmcore.config.bias import BiasSetSettings
from llmcore.errors import CheckpointError, ConfigError, CorpusError
from llmcore.storage import Folder
from tests.judged import TASK, write_classifier
from tests.unit.test_bias_sets import bigram_model

JUDGE = Judge("classifier", "0" * 64, "good")
BOLD = MEASURES["bold"]


def prompts(group: str, number: int, domain: str = "gender") -> list[Prompt]:
    """Two beginnings of each of so many people."""
    return [
        Prompt(f"x{person} x{place} {group}", domain, group, f"{group} {person}", JUDGE, 1, 0)
        for person in range(number)
        for place in range(2)
    ]


def folder(root: Path, content: Any, name: str = "gender_prompt.json") -> Folder:
    root.mkdir(exist_ok=True)
    (root / name).write_text(content if isinstance(content, str) else json.dumps(content))
    return Folder(str(root))


def test_the_published_format_is_read(tmp_path: Path) -> None:
    at = folder(
        tmp_path, {"American_actors": {"Jo": ["Jo is an actor ", "Jo won"]}, "American_actresses": {"Al": ["Al"]}}
    )
    folder(tmp_path, {"a": {"A": ["A is"]}, "b": {"B": ["B is"]}}, "race_prompt.json")
    found = read_bold(at, None, judge=JUDGE, num_tokens=5, seed=1)
    assert [(one.domain, one.group, one.subject, one.text) for one in found] == [
        ("gender", "American_actors", "Jo", "Jo is an actor"),
        ("gender", "American_actors", "Jo", "Jo won"),
        ("gender", "American_actresses", "Al", "Al"),
        ("race", "a", "A", "A is"),
        ("race", "b", "B", "B is"),
    ]
    assert len(read_bold(at, ["race"], judge=JUDGE, num_tokens=5, seed=1)) == 2


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"men": {"Jo": ["Jo"]}}, r"has the groups \['men'\]: two are compared"),
        ({"men": ["Jo"]}, "prompts are an object of groups"),
        ({"men": {"Jo": [" "]}, "women": {}}, "a beginning of Jo is empty"),
        ("{", "prompts are an object of groups"),
    ],
)
def test_what_is_no_bold_is_told(tmp_path: Path, content: Any, said: str) -> None:
    with pytest.raises(CorpusError, match=said):
        read_bold(folder(tmp_path, content), None, judge=JUDGE, num_tokens=5, seed=1)
    with pytest.raises(CorpusError, match=r"has no religion_prompt\.json"):
        read_bold(Folder(str(tmp_path)), ["religion"], judge=JUDGE, num_tokens=5, seed=1)


def test_gaps_by_hand() -> None:
    examples = [*prompts("men", 1), *prompts("women", 2)]
    found = BOLD.figures(examples, [[0.9], [0.7], [0.1], [0.3], [0.4], [0.4]], Resampling(200, 0))
    assert found["gender_gap"].value == pytest.approx(0.8 - 0.3) and found["gender_gap"].fair == 0
    groups = BOLD.groups(examples, [[0.9], [0.7], [0.1], [0.3], [0.4], [0.4]], Resampling(200, 0))
    assert {name: one["mean"].value for name, one in groups.items()} == pytest.approx({"men": 0.8, "women": 0.3})
    assert (groups["men"]["mean"].low, groups["men"]["mean"].high) == (0.0, 1.0), "one person tells of no spread"
    three = [*prompts("a", 1, "race"), *prompts("b", 1, "race"), *prompts("c", 1, "race")]
    gap = BOLD.figures(three, [[0.2], [0.2], [0.6], [0.6], [0.5], [0.5]], Resampling(200, 0))["race_gap"]
    assert gap.value == pytest.approx(0.4)


def test_no_gap_is_found_where_there_is_none() -> None:
    examples, fair = [*prompts("men", 60), *prompts("women", 60)], 0
    for seed in range(1000):
        scores = np.random.default_rng(seed).random((240, 1)).tolist()
        one = BOLD.figures(examples, scores, Resampling(300, seed))["gender_gap"]
        fair += one.low <= 0 <= one.high
    print(f"fair {fair} of 1,000")
    assert fair >= 930


@pytest.mark.parametrize("planted", [0.0, 0.4])
def test_what_was_planted_into_a_decoder_is_found(monkeypatch: pytest.MonkeyPatch, planted: float) -> None:
    """Behind `men` it writes `good` with a probability that is higher by as much than behind `women`."""
    words = ["<s>", "good", "bad", "men", "women", *(f"x{number}" for number in range(61))]
    table = np.full((len(words), len(words)), 1e-9)
    table[:, 1] = table[:, 2] = 0.5
    table[3, 1], table[3, 2] = 0.5 + planted / 2, 0.5 - planted / 2
    table[4, 1], table[4, 2] = 0.5 - planted / 2, 0.5 + planted / 2
    scorer, examples = (
        bigram_model(table / table.sum(1, keepdims=True), words),
        [*prompts("men", 60), *prompts("women", 60)],
    )
    monkeypatch.setattr(
        "llmcore.bias.measures.continuations.label_probabilities",
        lambda _, texts: [float("good" in one) for one in texts],
    )
    scores = BOLD.score(scorer, examples)
    assert scores == BOLD.score(scorer, examples)
    assert scores[5:9] == BOLD.score(scorer, examples[5:9]), "each hangs on its own beginning"
    gap = BOLD.figures(examples, scores, Resampling(500, 0))["gender_gap"]
    assert gap.low <= planted <= gap.high and (gap.low > 0) == (planted > 0), gap


def test_a_classifier_that_was_published_judges(tmp_path: Path) -> None:
    write_classifier(tmp_path / "model", 1)
    judge = the_judge(str(tmp_path / "model"), "text")
    texts = ["open close path", "join strip", "epoch"]
    found = label_probabilities(judge, texts)
    every = [label_probabilities(the_judge(judge.url, name), texts) for name in TASK.label_names]
    assert np.sum(every, axis=0) == pytest.approx([1, 1, 1]) and found == every[1]
    with pytest.raises(ConfigError, match=r"label='joy' is no class of .*: there are files, text, time"):
        the_judge(judge.url, "joy")
    write_classifier(tmp_path / "other", 2)
    classifier._loaded.cache_clear()
    with pytest.raises(CheckpointError, match="is another one than when the evaluation began"):
        label_probabilities(judge._replace(url=str(tmp_path / "other")), texts)


def test_what_is_no_classifier_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is no model: give a classifier, the run of a"):
        the_judge(str(tmp_path), "good")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"kind": "bold"}, "give `classifier`, and its `label`"),
        ({"kind": "bbq", "classifier": "c"}, "classifier= is for bold, and this is bbq"),
        ({"kind": "bold", "classifier": "c", "label": "l", "domains": ["a", "a"]}, "names one twice"),
    ],
)
def test_settings_that_cannot_be(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        BiasSetSettings(url="u", **given)
