"""What a stream is refused, and why; and that a run has one kind of data."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from llmcore.config import load_config
from llmcore.config.pretrain import PretrainConfig
from llmcore.errors import ConfigError

SOURCE = {"name": "a", "url": "/corpus"}


def load(folder: Path, **changes: Any) -> PretrainConfig:
    given = {"name": "run", "train": {"num_steps": 3}, "stream": {"sources": [SOURCE]}} | changes
    (folder / "job.yaml").write_text(yaml.safe_dump(given))
    return load_config(PretrainConfig, folder / "job.yaml", [])


def test_what_prepare_says_of_documents_may_be_said_of_a_stream(tmp_path: Path) -> None:
    stream = {"sources": [SOURCE], "cleaning": {"unicode": {}}, "packing": {"sequence_length": 64}, "lanes": 3}
    config = load(tmp_path, stream=stream)
    assert config.stream is not None and config.stream.packing.sequence_length == 64
    assert (config.stream.num_sequences, config.stream.num_tasks) == (1, 4)
    weighted = [SOURCE | {"weight": 1}, SOURCE | {"name": "b", "weight": 2}]
    mixed = load(tmp_path, stream={"sources": weighted}).stream
    assert mixed is not None and (mixed.num_sequences, mixed.num_tasks) == (2, 6)


@pytest.mark.parametrize(
    ("refused", "why"),
    [
        ({"near_duplicates": {}}, "near duplicates are found among all documents"),
        ({"labelled_sets": [{"name": "s", "label": "l"}]}, "a labelled set is made of all documents"),
        ({"splits": {"validation": 0.2}}, "`validation_bytes` says what is held out"),
        ({"group_terms": {}}, "groups are counted in all documents"),
        ({"counterfactuals": {}}, "a copy is held against all documents"),
        ({"sources": [SOURCE | {"max_tokens": 5}]}, "the rows of a budget are chosen among all rows"),
        ({"sources": [SOURCE | {"stratum": "area"}]}, "splits are balanced over all documents"),
        ({"sources": [SOURCE | {"metadata": ["site"]}]}, "it is kept in a table of all documents"),
    ],
    ids=lambda given: next(iter(given)) if isinstance(given, dict) else "",
)
def test_what_needs_all_documents_is_refused_with_the_reason(tmp_path: Path, refused: dict[str, Any], why: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, stream={"sources": [SOURCE]} | refused)
    assert why in str(caught.value) and "cannot be had while streaming" in str(caught.value)
    assert "Run `prepare`, or leave it out" in str(caught.value)


def test_a_run_has_token_shards_or_a_stream_and_a_stream_has_steps(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="give exactly one of `tokens` and `stream`"):
        load(tmp_path, tokens="tiny.prepare")
    with pytest.raises(ConfigError, match="give exactly one of `tokens` and `stream`"):
        load(tmp_path, stream=None)
    with pytest.raises(ConfigError, match="which a stream does not know: give num_steps"):
        load(tmp_path, train={"num_epochs": 1})


def test_a_stream_is_refused_beside_elastic_workers(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"workers.elastic=\[1, 2\] with `stream`: they would take the CPUs"):
        load(tmp_path, workers={"elastic": [1, 2]})
