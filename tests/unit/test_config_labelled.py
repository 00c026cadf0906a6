"""Labelled data in a configuration: a name or a section, and what a change of it means."""

from pathlib import Path
from typing import Any

import pytest

from llmcore.config import dump_config, load_config
from llmcore.config.finetune import FinetuneConfig
from llmcore.config.fingerprint import fingerprint, identity_of
from llmcore.config.labelled import LabelledDataSettings, told_data
from llmcore.config.tune import TuneConfig
from llmcore.errors import ConfigError

YAML = """\
name: mine
base: other
train: {num_epochs: 1}
data:
  train: {source: a.en, target: a.de}
  test: [b.jsonl]
  columns: {source: english}
"""


def _load(tmp_path: Path, *overrides: str) -> FinetuneConfig:
    path = tmp_path / "job.yaml"
    path.write_text(YAML)
    return load_config(FinetuneConfig, path, overrides)


def test_a_section_or_a_name(tmp_path: Path) -> None:
    config = _load(tmp_path)
    assert isinstance(config.data, LabelledDataSettings)
    assert config.data.train == {"source": "a.en", "target": "a.de"}
    assert (config.data.carved().validation, config.data.carved().test) == (0.1, 0.0), "a given test is not carved"
    again = tmp_path / "again.yaml"
    again.write_text(dump_config(config))
    assert load_config(FinetuneConfig, again) == config
    named = _load(tmp_path, "data=my.prepare/areas")
    assert named.data == told_data(named.data) == "my.prepare/areas"
    assert identity_of(named)["data"] == "my.prepare/areas"
    # The same in a search, whose trials are given the section itself.
    tune = {"name": "t", "base": "b", "data": {"train": "a.csv"}, "finetune": {"train": {"num_epochs": 1}}}
    searched = TuneConfig.model_validate(tune | {"space": {"train.seed": {"choice": [0]}}})
    trial = {"name": "t.0", "base": "b", "data": searched.data, "train": searched.finetune.train}
    assert FinetuneConfig.model_validate(trial).data == searched.data


def test_files_that_moved_are_the_same_run_and_another_mapping_is_another(tmp_path: Path) -> None:
    before = fingerprint(_load(tmp_path), {"data": "hash"}, 1)
    assert fingerprint(_load(tmp_path, "data.train=/elsewhere/a.csv", "data.name=new"), {"data": "hash"}, 1) == before
    assert fingerprint(_load(tmp_path), {"data": "other rows"}, 1) != before
    assert fingerprint(_load(tmp_path, "data.columns.source=french"), {"data": "hash"}, 1) != before


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("data=5", "data=5: got 5; expected a text or a section of keys"),
        ("data.trian=x", "data.trian=x: got an unknown key; expected one of name, train, .*did you mean data.train"),
        ("data={test: x}", "data.train: missing; expected a value: Files of the split"),
        ("data.test=[]", r"test=\[\] names no file"),
        ("data.carve.test=0.3", r"test=.* is given, so carve.test=0.3 carves nothing: leave one out"),
        ("data.label_names=[a, a]", "label_names=.*has fewer than two classes"),
        ("data.label_names=[a, b, a]", "label_names=.*has a name twice"),
        ("data.header=[a, a]", "header=.*has a name twice"),
        ("data.columns.source='{a'", "expected '}' before end of string|single '{'"),
        ("data.dataset={path: glue}", "with `dataset` it is the name of one of its splits"),
        ("data={train: x, dataset: {path: glue, split: y}}", "dataset.split is said by"),
        ("data={train: x, dataset: {path: glue}, format: csv}", "format=csv is for files"),
        ("data.format=xml", 'got "xml"; expected .*squad'),
        ("data.answers=guess", 'got "guess"; expected'),
    ],
)
def test_what_is_wrong_is_said_at_its_key(tmp_path: Path, override: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        _load(tmp_path, override)


@pytest.mark.parametrize("data", [{"train": "a"}, "a/b"])
def test_python_values_are_taken_as_well(data: Any) -> None:
    config = FinetuneConfig.model_validate({"name": "a", "base": "b", "data": data, "train": {"num_epochs": 1}})
    assert FinetuneConfig.model_validate_json(config.model_dump_json(), strict=True) == config
