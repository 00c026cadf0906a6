"""What a submitted job is called, and how it is found again."""

from pathlib import Path

import pytest

from cluster.submit.identity import Name, find_job, settings_hash
from cluster.submit.jobs_api import Job
from cluster.submit.submission import Placement, make_submission, parse_labels
from llmcore.config import load_config
from llmcore.config.pretrain import PretrainConfig
from llmcore.errors import ConfigError, StorageError

CONFIG = "name: tiny-1\nstorage: /runs\ntokens: some.prepare\ntrain: {num_steps: 3}\n"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(CONFIG)
    return path


def _name(config: Path, *overrides: str) -> Name:
    return Name.of(load_config(PretrainConfig, config, overrides), "pretrain")


def test_the_name_is_of_what_makes_it_another_run(config: Path) -> None:
    name = _name(config)
    assert str(name) == f"tiny-1-{name.fingerprint}-01" and len(name.fingerprint) == 10
    assert _name(config, "train.seed=7") != name
    assert _name(config, "storage=/elsewhere") == name
    assert _name(config, "workers.grace_s=5") == name
    assert Name.of(load_config(PretrainConfig, config), "finetune") != name


def test_all_settings_tell_apart_what_has_one_name(config: Path) -> None:
    one, other = (load_config(PretrainConfig, config, more) for more in ((), ("storage=/elsewhere",)))
    assert settings_hash(one) == settings_hash(load_config(PretrainConfig, config))
    assert settings_hash(one) != settings_hash(other)


@pytest.mark.parametrize("run", ["tiny", "a-b.c_d", "tiny-0123456789-02"])
def test_a_name_is_read_back(run: str) -> None:
    name = Name(run, "0123456789", 7)
    assert Name.parse(str(name)) == name
    assert Name.parse(str(name.at(123))) == name.at(123)


@pytest.mark.parametrize("other", ["raysubmit_abc", "tiny", "tiny-0123456789", "tiny-01234-01", "tiny-0123456789-1"])
def test_other_names_are_not_ours(other: str) -> None:
    assert Name.parse(other) is None


def test_attempts_are_those_of_the_same_configuration() -> None:
    mine = Name("tiny", "0123456789", 1)
    names = [mine.at(2), mine, Name("tiny", "aaaaaaaaaa", 1), Name("tiny-0123456789", "0123456789", 1)]
    jobs = [Job(str(name), "FAILED") for name in names] + [Job("raysubmit_1", "RUNNING")]
    assert list(mine.attempts(jobs)) == [1, 2]


def test_a_job_is_found_by_what_a_user_calls_it() -> None:
    jobs = [Job(name, "FAILED") for name in ("tiny-0123456789-01", "tiny-0123456789-02", "tidy-0123456789-01", "ray_1")]
    assert find_job(jobs, "tiny-0123456789-01") is jobs[0]
    assert find_job(jobs, "tiny") is jobs[1], "the newest attempt"
    assert find_job(jobs, "tin") is jobs[1]
    assert find_job(jobs, "ray") is jobs[3]
    with pytest.raises(ConfigError, match="give more of it"):
        find_job(jobs, "ti")
    with pytest.raises(ConfigError, match="the newest are tiny-0123456789-02, tidy"):
        find_job(jobs, "other")
    with pytest.raises(ConfigError, match="none at all"):
        find_job([], "other")


def test_what_is_sent_says_what_runs_and_no_secret(config: Path) -> None:
    made = make_submission(
        "pretrain",
        config,
        ["train.num_steps=5", "sample_prompts=[a b]", "workers.grace_s=100", "cluster.place.drivers={zone: a, x: y}"],
        flags=["--allow-changes"],
        placement=Placement({"market": "!spot", "x": "z"}, 0.5),
    )
    request = made.request(made.name.at(3))
    assert request["submission_id"] == f"tiny-1-{made.name.fingerprint}-03"
    assert request["entrypoint"] == (
        "python -m jobs pretrain submitted/tiny.yaml train.num_steps=5 'sample_prompts=[a b]' workers.grace_s=100 "
        "'cluster.place.drivers={zone: a, x: y}' --allow-changes"
    )
    assert request["runtime_env"] == {
        "working_dir": made.package_uri,
        "env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": "160", "LLMCORE_SUBMISSION": request["submission_id"]},
    }
    assert request["metadata"]["attempt"] == "3" and request["metadata"]["storage"] == "/runs"
    assert all(isinstance(value, str) for value in request["metadata"].values())
    assert request["entrypoint_label_selector"] == {"zone": "a", "market": "!spot", "x": "z"}
    assert request["entrypoint_num_cpus"] == 0.5
    assert made.result == "/runs/tiny-1"
    assert Placement.from_json(made.metadata["placement"]) == made.placement


def test_what_would_be_refused_on_the_cluster_is_refused_here(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StorageError, match="is relative: inside a Ray job"):
        make_submission("pretrain", config, ["storage=runs"])
    with pytest.raises(ConfigError, match="num_steps"):
        make_submission("pretrain", config, ["train.num_steps=none"])
    with pytest.raises(ConfigError, match="with a credential in it") as refused:
        make_submission("pretrain", config, ["storage=ftp://me:planted-secret@host/runs"])
    assert "planted-secret" not in str(refused.value)


def test_labels_are_pairs() -> None:
    assert parse_labels(["a=b", "c=!in(d,e)"]) == {"a": "b", "c": "!in(d,e)"}
    for wrong in ("a", "a=", "=b"):
        with pytest.raises(ConfigError, match="expected key=value"):
            parse_labels(["a=b", wrong])
