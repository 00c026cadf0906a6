"""Jobs on a real cluster that asks for its token: sent, followed over lost connections, stopped, and sent again."""

import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest

from cluster import local
from cluster.endpoint import resolve
from cluster.local.state import LocalCluster
from cluster.submit.jobs_api import Job, JobsApi
from llmcore.records import attempt_folder
from llmcore.storage import Folder
from tests.cables import cable
from tests.drivers import Ended, environment, run, wait_for
from tests.tiny import tiny_pipeline, tiny_stage, write_config, write_corpus

pytestmark = pytest.mark.timeout(900)

NAME = "submit"
LONG = 250
"""Steps of a pre-training that is still under way when something happens to it."""


@pytest.fixture(scope="module")
def env(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What commands are given: the state of this module's cluster, and no address of another."""
    given = environment(XDG_STATE_HOME=str(tmp_path_factory.mktemp("state")))
    return {name: value for name, value in given.items() if not name.startswith("RAY_")}


@pytest.fixture(scope="module")
def cluster(env: dict[str, str]) -> Iterator[LocalCluster]:
    """One node; the code is not on its path, so that what travels has to be whole."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", env["XDG_STATE_HOME"])
        patch.delenv("RAY_ADDRESS", raising=False)
        try:
            yield local.up(NAME, num_nodes=1, cpus_per_node=2, namespaces=False, environment=_on_nodes(env))
        finally:
            local.down(NAME)


def _on_nodes(env: dict[str, str]) -> dict[str, str]:
    return env | {"PYTHONPATH": "", "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.25"}


@pytest.fixture(scope="module")
def api(cluster: LocalCluster) -> JobsApi:
    return JobsApi(resolve(NAME))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("storage")


@pytest.fixture(scope="module")
def submit(env: dict[str, str], cluster: LocalCluster, storage: Path) -> Callable[..., Ended]:
    """`python -m cluster …`, to its end."""

    def command(*arguments: str, **added: str) -> Ended:
        return run(_command(*arguments), cwd=storage, env=env | added, timeout_s=600)

    return command


def _command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "cluster", *arguments]


@pytest.fixture(scope="module")
def start(env: dict[str, str], cluster: LocalCluster, storage: Path) -> Callable[..., "subprocess.Popen[str]"]:
    """`python -m cluster …`, left running; what it prints goes into files."""

    def command(*arguments: str, said: Path) -> "subprocess.Popen[str]":
        with Path(f"{said}.out").open("w") as out, Path(f"{said}.err").open("w") as err:
            return subprocess.Popen(_command(*arguments), cwd=storage, env=env, stdout=out, stderr=err, text=True)

    return command


@pytest.fixture(scope="module")
def prepare(corpus: Path, storage: Path) -> Path:
    """The configuration of a tiny `prepare`."""
    stage = tiny_stage(tiny_pipeline(corpus, storage), "prepare")
    return write_config(storage / "prepare.yaml", {"name": "tiny.prepare", "storage": str(storage), **stage})


def _pretrain(storage: Path, corpus: Path, name: str, num_steps: int = LONG, **changed: Any) -> Path:
    stage = tiny_stage(tiny_pipeline(corpus, storage), "pretrain")
    train = stage["train"] | {"num_steps": num_steps, "validate_every": num_steps}
    given = {"name": name, "storage": str(storage), "tokens": "tiny.prepare"}
    return write_config(storage / f"{name}.yaml", given | stage | {"train": train} | changed)


def _jobs(submit: Callable[..., Ended], run_name: str) -> list[dict[str, Any]]:
    listed = submit("list", "--cluster", NAME, "--json")
    assert listed.code == 0, listed.err
    return [job for job in json.loads(listed.out) if job["metadata"].get("run") == run_name]


def _steps(storage: Path, name: str) -> list[int]:
    return [row["step"] for row in told_losses_of(storage, name) if "loss" in row]


def told_losses_of(storage: Path, name: str) -> list[dict[str, Any]]:
    from llmcore.records import read_metrics

    return list(read_metrics(Folder(str(storage)) / name))


def _drivers(job: Job) -> list[psutil.Process]:
    """The processes of a job's entrypoint."""
    found = []
    for process in psutil.process_iter():
        try:
            if "jobs" in process.cmdline() and job.entrypoint.split()[-1] in process.cmdline():
                found.append(process)
        except psutil.Error:
            continue
    return found


def _running(api: JobsApi, storage: Path, name: str, attempt: int = 1) -> bool:
    """Whether the attempt has a checkpoint, and steps left to take."""
    checkpoints = storage / name / "checkpoints"
    return any(checkpoints.glob(f"step-*-attempt-{attempt:02d}/manifest.json"))


def test_a_job_runs_and_is_found_done(
    submit: Callable[..., Ended],
    start: Callable[..., "subprocess.Popen[str]"],
    prepare: Path,
    storage: Path,
    tmp_path: Path,
) -> None:
    began = time.monotonic()
    first = start("submit", "prepare", str(prepare), "--cluster", NAME, said=tmp_path / "first")
    assert wait_for(lambda: "\nprepare: " in (tmp_path / "first.out").read_text(), first)
    print(f"\nfrom submit to the first line of the job: {time.monotonic() - began:.1f} s")
    assert time.monotonic() - began < 20
    assert first.wait(300) == 0, (tmp_path / "first.err").read_text()
    told = (tmp_path / "first.err").read_text()
    assert "MB" in told and f"succeeded: {storage}/tiny.prepare" in told
    again = submit("submit", "prepare", str(prepare), "--cluster", NAME)
    assert again.code == 0 and "has succeeded" in again.err and f"{storage}/tiny.prepare" in again.err
    assert again.out == ""
    [job] = _jobs(submit, "tiny.prepare")
    assert job["id"].startswith("tiny.prepare-") and job["id"].endswith("-01") and job["exit_code"] == 0
    shown = submit("logs", "tiny.prepare", "--cluster", NAME)
    assert shown.out == (tmp_path / "first.out").read_text()
    stands = submit("status", "tiny.prepare", "--cluster", NAME)
    assert "succeeded" in stands.out and f"{storage}/tiny.prepare" in stands.out


@pytest.mark.parametrize(("code", "name"), [(1, "torn"), (2, "absent"), (3, "dear")])
def test_the_exit_code_is_the_job_s_own(
    code: int, name: str, submit: Callable[..., Ended], corpus: Path, storage: Path, prepare: Path
) -> None:
    """A shard that cannot be read; a corpus that is not there; a budget that is spent."""
    if name == "dear":
        command, config = "pretrain", _pretrain(storage, corpus, name, budget={"hours": 0.001})
    else:
        command, stage = "prepare", tiny_stage(tiny_pipeline(corpus, storage), "prepare")
        (storage / "torn").mkdir(exist_ok=True)
        (storage / "torn/part-0.jsonl").write_text('{"text": "all is w')
        stage["sources"][0]["url"] = str(storage / name)
        config = write_config(storage / f"{name}.yaml", {"name": name, "storage": str(storage), **stage})
    ended = submit("submit", command, str(config), "--cluster", NAME)
    assert ended.code == code, ended.out + ended.err
    assert f"exit code {code}" in ended.err and "error: " in ended.out
    assert len(_jobs(submit, name)) == 1, "an end of its own is not tried again"
    if name == "torn":
        why = submit("logs", name, "--cluster", NAME, "--why")
        assert why.code == 0 and "BadShardError" in why.out and "part-0.jsonl" in why.out


def test_a_token_that_is_wrong_or_missing_is_one_message(
    submit: Callable[..., Ended], cluster: LocalCluster, prepare: Path, tmp_path: Path
) -> None:
    for added, reason in (
        ({"RAY_AUTH_TOKEN": secrets.token_hex(32)}, "refuses the token"),
        ({"RAY_AUTH_MODE": "disabled"}, "asks for its token"),
    ):
        refused = submit("submit", "prepare", str(prepare), "--cluster", cluster.dashboard, **added)
        assert refused.code == 2 and reason in refused.err
        assert refused.err.count("error:") == 1 and "Traceback" not in refused.err
        assert not any(value in refused.err for value in added.values() if len(value) == 64)


def test_the_second_follows_the_first_and_a_lost_connection_loses_nothing(
    submit: Callable[..., Ended],
    start: Callable[..., "subprocess.Popen[str]"],
    api: JobsApi,
    cluster: LocalCluster,
    corpus: Path,
    storage: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    env: dict[str, str],
) -> None:
    config = _pretrain(storage, corpus, "followed", num_steps=120)
    sent = submit("submit", "pretrain", str(config), "--cluster", NAME, "--no-follow")
    assert sent.code == 0, sent.err
    job_id = sent.out.strip()
    url = urlsplit(cluster.dashboard)
    with cable((str(url.hostname), int(url.port or 0))) as way:
        monkeypatch.setitem(env, "RAY_AUTH_TOKEN_PATH", str(cluster.token_file))
        address = f"http://127.0.0.1:{way.address[1]}"
        second = start("submit", "pretrain", str(config), "--cluster", address, said=tmp_path / "second")
        out, err = tmp_path / "second.out", tmp_path / "second.err"
        assert wait_for(lambda: bool(out.read_text()), second)
        third = start("logs", job_id, "--cluster", NAME, "--follow", said=tmp_path / "third")
        assert wait_for(lambda: bool((tmp_path / "third.out").read_text()), third)
        third.send_signal(signal.SIGINT)
        assert third.wait(30) == 130 and "goes on without you" in (tmp_path / "third.err").read_text()
        way.cut()
        assert wait_for(lambda: "connection lost" in err.read_text(), second)
        time.sleep(2)
        way.mend()
        assert second.wait(300) == 0, err.read_text()
    assert way.num_cut > 0 and "connected again after" in err.read_text()
    assert f"{job_id} is there already" in err.read_text()
    shown = submit("logs", job_id, "--cluster", NAME).out
    assert out.read_text() == shown, "each line once, whatever happened to the connection"
    assert len(_jobs(submit, "followed")) == 1


def test_settings_of_a_run_that_is_under_way_are_its_own(
    submit: Callable[..., Ended], api: JobsApi, corpus: Path, storage: Path
) -> None:
    config = _pretrain(storage, corpus, "changed")
    sent = submit("submit", "pretrain", str(config), "--cluster", NAME, "--no-follow")
    assert sent.code == 0, sent.err
    other = submit("submit", "pretrain", str(config), "workers.grace_s=20", "--cluster", NAME)
    assert other.code == 2 and "with other settings" in other.err
    another = submit("submit", "pretrain", str(config), "train.seed=5", "--cluster", NAME)
    assert another.code == 2 and "with another configuration" in another.err
    stopped = submit("stop", "changed", "--cluster", NAME)
    assert stopped.code == 0 and "was stopped" in stopped.err


def test_a_stopped_job_has_its_checkpoint_and_goes_on(
    submit: Callable[..., Ended],
    start: Callable[..., "subprocess.Popen[str]"],
    api: JobsApi,
    corpus: Path,
    storage: Path,
    tmp_path: Path,
) -> None:
    config = _pretrain(storage, corpus, "stopped", num_steps=LONG)
    followed = start("submit", "pretrain", str(config), "--cluster", NAME, said=tmp_path / "stopped")
    assert wait_for(lambda: _running(api, storage, "stopped"), followed)
    stopped = submit("stop", "stopped", "--cluster", NAME)
    assert stopped.code == 0 and "was stopped" in stopped.err, stopped.err
    assert followed.wait(60) == 130
    run_folder = Folder(str(storage)) / "stopped"
    assert attempt_folder(run_folder, 1).read_json("end.json")["status"] == "interrupted"
    taken = _steps(storage, "stopped")
    saved = sorted(path.name for path in (storage / "stopped/checkpoints").iterdir())[-1]
    assert saved == f"step-{taken[-1]:08d}-attempt-01", "the step that it was in"
    resumed = submit("resume", "stopped", "--cluster", NAME)
    assert resumed.code == 0, resumed.out + resumed.err
    assert [job["id"][-3:] for job in _jobs(submit, "stopped")] == ["-01", "-02"]
    assert _steps(storage, "stopped") == list(range(1, LONG + 1))
    assert attempt_folder(run_folder, 2).read_json("begin.json")["accepted"][-1] == saved


@pytest.mark.proof
@pytest.mark.proof_cluster
def test_a_killed_driver_is_sent_again_and_goes_on(
    submit: Callable[..., Ended],
    start: Callable[..., "subprocess.Popen[str]"],
    api: JobsApi,
    corpus: Path,
    storage: Path,
    tmp_path: Path,
) -> None:
    config = _pretrain(storage, corpus, "killed")
    followed = start("submit", "pretrain", str(config), "--cluster", NAME, said=tmp_path / "killed")
    assert wait_for(lambda: _running(api, storage, "killed"), followed)
    [job] = [job for job in api.jobs() if job.metadata.get("run") == "killed"]
    for process in _drivers(job):
        os.kill(process.pid, signal.SIGKILL)
    told = tmp_path / "killed.err"
    assert followed.wait(300) == 0, told.read_text()
    assert "ended by SIGKILL; it is submitted again" in told.read_text()
    assert [job["id"][-3:] for job in _jobs(submit, "killed")] == ["-01", "-02"]
    assert _steps(storage, "killed") == list(range(1, LONG + 1))


@pytest.mark.proof
@pytest.mark.proof_cluster
def test_a_lost_head_is_waited_for_and_the_job_sent_again(
    start: Callable[..., "subprocess.Popen[str]"],
    api: JobsApi,
    cluster: LocalCluster,
    corpus: Path,
    storage: Path,
    tmp_path: Path,
    env: dict[str, str],
) -> None:
    config = _pretrain(storage, corpus, "headless")
    followed = start("submit", "pretrain", str(config), "--cluster", NAME, said=tmp_path / "headless")
    assert wait_for(lambda: _running(api, storage, "headless"), followed)
    assert local.lose(cluster.head)
    told = tmp_path / "headless.err"
    assert wait_for(lambda: "connection lost" in told.read_text(), followed)
    local.restore(cluster, _on_nodes(env))
    assert followed.wait(300) == 0, told.read_text()
    assert "the cluster knows it no more" in told.read_text()
    [job] = api.jobs()
    assert job.id.endswith("-02") and job.status == "SUCCEEDED"
    assert _steps(storage, "headless") == list(range(1, LONG + 1))
