from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmcore.config.common import WorkerSettings
from llmcore.config.loading import load_config
from llmcore.config.pretrain import PretrainConfig
from llmcore.errors import ConfigError

PRETRAIN = "name: a\ntokens: b\ntrain: {num_steps: 10, global_batch_size: 4}\n"


def load(folder: Path, workers: str, *overrides: str) -> PretrainConfig:
    path = folder / "job.yaml"
    path.write_text(f"{PRETRAIN}workers: {workers}\n")
    return load_config(PretrainConfig, path, list(overrides))


@given(fewest=st.integers(1, 9), more=st.integers(0, 9))
def test_elastic_workers_are_at_most_and_at_least_so_many_also_after_a_journey(fewest: int, more: int) -> None:
    workers = WorkerSettings.model_validate({"elastic": [fewest, fewest + more]})
    assert (workers.min_workers, workers.num_workers) == (fewest, fewest + more)
    assert WorkerSettings.model_validate(workers.model_dump(mode="json")) == workers


def test_a_plain_number_of_workers_is_both() -> None:
    assert WorkerSettings(num_workers=3).min_workers == 3


@pytest.mark.parametrize(
    ("workers", "says"),
    [
        ("{elastic: [3, 1]}", "elastic=[3, 1] is no range of workers: give [min, max] with 1 <= min <= max"),
        ("{elastic: [0, 2]}", "elastic=[0, 2] is no range of workers"),
        ("{elastic: [1, 3], num_workers: 2}", "num_workers=2 contradicts elastic=[1, 3]: leave num_workers out"),
        ("{elastic: [1, 5]}", "train.global_batch_size=4 is smaller than workers.num_workers=5"),
        ("{hang_s: 0}", "workers.hang_s: got 0"),
    ],
)
def test_what_contradicts_itself_is_refused(tmp_path: Path, workers: str, says: str) -> None:
    with pytest.raises(ConfigError) as raised:
        load(tmp_path, workers)
    assert says in str(raised.value)


def test_a_line_of_text_tells_the_range() -> None:
    assert [WorkerSettings.model_validate(given).told() for given in ({"elastic": [1, 3]}, {"num_workers": 3})] == [
        "1 to 3",
        "3",
    ]
