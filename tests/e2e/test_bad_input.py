"""What the user gives wrong: exit code 2, one message with the value, the rule and the fix, and no worker started."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from llmcore.config import load_config
from llmcore.config.pipeline import PipelineConfig
from llmcore.records import begin_attempt
from llmcore.storage import Folder
from tests.drivers import Ended, local_ray, ray_folder, run_jobs
from tests.tiny import write_config


@dataclass(frozen=True)
class Project:
    """A working directory with the tiny configuration, and a Ray folder that stays empty as long as no Ray starts."""

    folder: Path
    storage: Path
    ray: Path

    def run(self, *overrides: str, **environment: str) -> Ended:
        """The pipeline, with overrides."""
        return run_jobs("pipeline", "tiny.yaml", *overrides, cwd=self.folder, RAY_TMPDIR=str(self.ray), **environment)

    def ray_has_started(self) -> bool:
        """Whether a local Ray was started."""
        return any(self.ray.iterdir())

    def written_by_workers(self) -> list[Path]:
        """What Ray Train's workers write first: metrics, checkpoints, exports."""
        return [path for kind in ("metrics", "checkpoints", "exports") for path in self.storage.rglob(kind)]


@pytest.fixture
def project(tmp_path: Path, tiny: dict[str, Any]) -> Iterator[Project]:
    """A fresh project."""
    write_config(tmp_path / "tiny.yaml", tiny | {"storage": str(tmp_path / "runs")})
    with ray_folder() as ray:
        yield Project(tmp_path, tmp_path / "runs", Path(ray))


def assert_one_message(ended: Ended, *parts: str) -> None:
    assert ended.code == 2, ended
    assert "Traceback" not in ended.out + ended.err
    said = ended.err or _error_in_the_log_of_a_job(ended.out)
    assert said.startswith("error: "), ended
    assert said.count("error: ") == 1, said
    for part in parts:
        assert part in said, f"{part!r} is not in {said!r}"


def _error_in_the_log_of_a_job(out: str) -> str:
    """A Ray job has one log, of lines of JSON: the message of the only one that tells of an error."""
    lines = [json.loads(line) for line in out.splitlines()]
    (error,) = [line["message"] for line in lines if line["level"] == "ERROR"]
    return str(error)


@dataclass(frozen=True)
class Bad:
    """An input that is wrong before any cluster is needed, and what must be said of it."""

    overrides: tuple[str, ...]
    said: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)


BAD = {
    "unknown key and wrong type, both at once": Bad(
        ("stages.pretrain.train.learning_rate=0.1", "stages.pretrain.train.num_steps=many"),
        (
            "2 mistakes",
            "stages.pretrain.train.learning_rate=0.1: got an unknown key; expected one of",
            "did you mean stages.pretrain.train.optimizer.learning_rate?",
            'pretrain.train.num_steps=many: got "many"; expected an integer',
        ),
    ),
    "missing corpus": Bad(
        ("stages.prepare.sources.0.url=/there/is/no/corpus",),
        ("source tiny: url='/there/is/no/corpus'", "matches no file", "give a folder, a file or a glob"),
    ),
    "global batch smaller than the workers": Bad(
        ("stages.pretrain.train.global_batch_size=1",),
        ("train.global_batch_size=1", "smaller than workers.num_workers=2", "raise it, or use fewer workers"),
    ),
    "validation set that nobody has prepared": Bad(
        ("stages.pretrain.validation_sets={law: court}",),
        ("validation_sets.law='court': no finished `prepare` run at ", "run `prepare` first"),
    ),
    "relative storage inside a Ray job": Bad(
        ("storage=runs",),
        ("storage='runs' is relative", "inside a Ray job", "give an absolute path"),
        {"RAY_JOB_CONFIG_JSON_ENV_VAR": json.dumps({"runtime_env": {}})},
    ),
    "unwritable storage": Bad(
        ("storage=/dev/null/runs",),
        ("storage /dev/null/runs cannot be written to", "Not a directory", "give one that this user may write to"),
    ),
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
def test_what_is_known_before_a_cluster_is_needed(project: Project, bad: Bad) -> None:
    ended = project.run(*bad.overrides, **bad.environment)
    assert_one_message(ended, *bad.said)
    assert not project.ray_has_started()
    assert not project.written_by_workers()


def test_a_second_start_while_the_first_is_alive(project: Project) -> None:
    config = load_config(PipelineConfig, project.folder / "tiny.yaml")
    first = begin_attempt(Folder(str(project.storage)), config, kind="pipeline", step_version=2, inputs={})
    with first:
        ended = project.run()
    assert_one_message(ended, f"{first.folder.url} is alive", "process", "one writer", "give another `name`")
    assert not project.ray_has_started()
    assert not project.written_by_workers()
    attempts = [path.name for path in (project.storage / "tiny" / "attempts").iterdir()]
    assert attempts == [f"{first.number:02d}"], "the second start took a number"


def test_what_only_reading_the_corpus_tells(project: Project) -> None:
    """On one cluster, since each start of one takes seconds; its own list says which actors there were."""
    from ray._private.state import actors

    empty = project.folder / "empty"
    empty.mkdir()
    (empty / "part-00000.jsonl").write_text("")
    said = {
        f"stages.prepare.sources.0.url={empty}": (
            f"source tiny: {empty} has no documents",
            "give a corpus that has some",
        ),
        "stages.prepare.tokenizer.vocab_size=9000": (
            "tokenizer.vocab_size=9000 is larger than the train split can fill",
            "or give more text",
        ),
    }
    with local_ray() as session:
        for number, (override, parts) in enumerate(said.items()):
            ended = project.run(override, f"name=bad-{number}", f"cluster.address={session.address}")
            assert_one_message(ended, *parts)
        started = [actor["ActorClassName"] for actor in actors().values()]
    assert not project.written_by_workers()
    assert not [name for name in started if re.search("Train|Tune|Trainable", name)], started
