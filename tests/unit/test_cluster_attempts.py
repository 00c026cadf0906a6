"""Which attempt is sent, what a lost driver is, and what of a log is shown when its connection breaks."""

import importlib.metadata
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from cluster.endpoint import Endpoint
from cluster.submit import follow as following
from cluster.submit.attempts import exit_code, place, see_through, told_end, why_lost
from cluster.submit.follow import follow
from cluster.submit.identity import Name
from cluster.submit.jobs_api import Job
from cluster.submit.submission import Placement, Submission
from llmcore.errors import ClusterAwayError, ConfigError, InterruptedRunError

MINE = Name("tiny", "0123456789", 1)
DIED = "JOB_SUPERVISOR_ACTOR_DIED"


@dataclass
class Cluster:
    """A Jobs API in memory: what becomes of each job that is sent is said beforehand."""

    ends: Iterator[Job | Exception]
    """Of each job in turn; an exception is raised once instead of an answer, before the next end."""
    known: dict[str, Job] = field(default_factory=dict)
    sent: list[str] = field(default_factory=list)
    packages: set[str] = field(default_factory=set)
    uploads: int = 0
    forgets: bool = False

    version: str = importlib.metadata.version("ray")
    endpoint: Endpoint = field(default_factory=lambda: Endpoint("here", "http://here:1", None))

    def ray_version(self) -> str:
        return self.version

    def jobs(self) -> list[Job]:
        return list(self.known.values())

    def job(self, job_id: str) -> Job | None:
        job = self.known.get(job_id)
        if job is not None and not job.is_over:
            end = next(self.ends)
            if isinstance(end, Exception):
                raise end
            if self.forgets:
                self.forgets = False
                self.known.clear()
                self.packages.clear()
                return None
            self.known[job_id] = job = replace(end, id=job_id, metadata=job.metadata)
        return job

    def tail(self, job_id: str) -> Iterator[str]:
        yield f"log of {job_id}\n"

    def has_package(self, uri: str) -> bool:
        return uri in self.packages

    def send_package(self, uri: str, data: bytes) -> None:
        self.packages.add(uri)
        self.uploads += 1

    def submit(self, request: Mapping[str, Any]) -> bool:
        job_id = request["submission_id"]
        self.sent.append(job_id)
        self.known[job_id] = Job(job_id, "RUNNING", metadata=request["metadata"], node="node")
        return True


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following.time, "sleep", lambda seconds: None)


@dataclass(frozen=True)
class Packed:
    data: bytes = b"package"


def _submission(settings: str = "settings", name: Name = MINE) -> Submission:
    return Submission(
        name=name,
        command="pretrain",
        entrypoint="python -m jobs pretrain it.yaml",
        storage="/runs",
        settings=settings,
        package_uri="gcs://_ray_pkg_1.zip",
        package=Packed(),  # type: ignore[arg-type]  # nobody looks into it
        runtime_env={},
        metadata={"run": name.run, "storage": "/runs", "settings": settings},
        placement=Placement(),
    )


def _over(status: str, code: int | None = None, error_type: str | None = None) -> Job:
    return Job("", status, exit_code=code, error_type=error_type, node="node")  # type: ignore[arg-type]


def _run(*ends: Job | Exception, retries: int = 3, forgets: bool = False) -> tuple[int, Cluster, list[str], str]:
    """What becomes of a submission: the exit code, the cluster, what was said, what was shown."""
    cluster = Cluster(iter(ends), forgets=forgets)
    said: list[str] = []
    shown: list[str] = []
    submission = _submission()
    name, awaited = place(cluster, submission, said.append)  # type: ignore[arg-type]
    assert awaited
    code = see_through(
        cluster,  # type: ignore[arg-type]
        submission,
        name,
        retries=retries,
        show=shown.append,
        say=said.append,
    )
    return code, cluster, said, "".join(shown)


RUNS = _over("RUNNING")


def test_a_job_that_succeeds_is_sent_once() -> None:
    code, cluster, said, shown = _run(RUNS, _over("SUCCEEDED", 0))
    assert code == 0 and cluster.sent == [str(MINE)] and cluster.uploads == 1
    assert shown == f"log of {MINE}\n"
    assert said[-1] == f"{MINE} succeeded: /runs/tiny"


@pytest.mark.parametrize("code", [1, 2, 3, 130])
def test_what_ends_by_itself_is_not_sent_again(code: int) -> None:
    given, cluster, said, _ = _run(RUNS, _over("FAILED", code))
    assert given == code and cluster.sent == [str(MINE)] and f"exit code {code}" in said[-1]


@pytest.mark.parametrize("lost", [_over("FAILED", -9), _over("FAILED", 137), _over("FAILED", None, DIED)])
def test_a_lost_driver_is_sent_again(lost: Job) -> None:
    code, cluster, said, shown = _run(RUNS, lost, RUNS, _over("SUCCEEDED", 0))
    assert code == 0 and cluster.sent == [str(MINE), str(MINE.at(2))] and cluster.uploads == 1
    assert shown == f"log of {MINE}\nlog of {MINE.at(2)}\n"
    assert any("submitted again, 2 retries left" in line for line in said)


def test_the_number_of_retries_is_bounded() -> None:
    code, cluster, said, _ = _run(*([RUNS, _over("FAILED", -9)] * 3), retries=2)
    assert code == 137 and len(cluster.sent) == 3 and "no --retries left" in said[-1]
    assert _run(RUNS, _over("FAILED", None, DIED), retries=0)[0] == 1


def test_a_cluster_that_has_forgotten_the_job_is_sent_it_with_its_package_and_the_next_number() -> None:
    code, cluster, _, _ = _run(RUNS, RUNS, _over("SUCCEEDED", 0), forgets=True)
    assert code == 0 and cluster.sent == [str(MINE), str(MINE.at(2))] and cluster.uploads == 2


def test_a_cluster_that_is_away_for_a_while_is_waited_for() -> None:
    away = ClusterAwayError("nobody answers")
    code, cluster, said, shown = _run(RUNS, away, away, RUNS, _over("SUCCEEDED", 0))
    assert code == 0 and cluster.sent == [str(MINE)] and shown == f"log of {MINE}\n"
    assert sum("connection lost: nobody answers" in line for line in said) == 1
    assert sum("connected again" in line for line in said) == 1


def test_who_has_seen_enough_is_told_how_to_stop_it(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(iter([RUNS]))

    def interrupted(job_id: str) -> Iterator[str]:
        raise KeyboardInterrupt
        yield ""

    monkeypatch.setattr(cluster, "tail", interrupted)
    name, _ = place(cluster, _submission(), print)  # type: ignore[arg-type]
    with pytest.raises(InterruptedRunError, match=f"{MINE} goes on without you.*cluster stop {MINE}"):
        see_through(cluster, _submission(), name, retries=1, show=print, say=print)  # type: ignore[arg-type]


def _there(*jobs: Job) -> Cluster:
    return Cluster(iter(()), known={job.id: job for job in jobs})


def _job(attempt: int, status: str, code: int | None = None, settings: str = "settings") -> Job:
    metadata = {"settings": settings, "storage": "/runs"}
    return Job(str(MINE.at(attempt)), status, exit_code=code, metadata=metadata)  # type: ignore[arg-type]


def test_another_ray_is_told_before_anything_travels() -> None:
    cluster = _there()
    cluster.version = "2.9.0"
    with pytest.raises(ConfigError, match=r"cluster here runs Ray 2\.9\.0, this code is for 2"):
        place(cluster, _submission(), print)  # type: ignore[arg-type]
    assert cluster.uploads == 0


@pytest.mark.parametrize("status", ["PENDING", "RUNNING"])
def test_one_that_is_under_way_is_followed(status: str) -> None:
    cluster = _there(_job(1, "FAILED", 1), _job(2, status))
    assert place(cluster, _submission(), print) == (MINE.at(2), True)  # type: ignore[arg-type]
    assert cluster.sent == [] and cluster.uploads == 0


def test_one_that_has_succeeded_is_found_done_unless_it_is_wanted_again() -> None:
    cluster = _there(_job(1, "SUCCEEDED", 0))
    said: list[str] = []
    assert place(cluster, _submission(), said.append) == (MINE, False)  # type: ignore[arg-type]
    assert "has succeeded" in said[0] and "/runs/tiny" in said[0]
    assert place(cluster, _submission("others"), print) == (MINE.at(2), True)  # type: ignore[arg-type]
    cluster = _there(_job(1, "SUCCEEDED", 0))
    assert place(cluster, _submission(), print, again=True) == (MINE.at(2), True)  # type: ignore[arg-type]


@pytest.mark.parametrize("job", [_job(4, "FAILED", 2), _job(4, "STOPPED")])
def test_one_that_failed_or_was_stopped_gets_the_next_number(job: Job) -> None:
    cluster = _there(job, _job(3, "FAILED", 1))
    assert place(cluster, _submission(), print) == (MINE.at(5), True)  # type: ignore[arg-type]


def test_a_run_that_is_under_way_has_one_configuration() -> None:
    with pytest.raises(ConfigError, match="under way with other settings"):
        place(_there(_job(1, "RUNNING")), _submission("others"), print)  # type: ignore[arg-type]
    other = _submission(name=Name("tiny", "aaaaaaaaaa", 1))
    with pytest.raises(ConfigError, match="with another configuration"):
        place(_there(_job(1, "RUNNING")), other, print)  # type: ignore[arg-type]
    assert place(_there(_job(1, "FAILED", 1)), other, print)[1]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("job", "code", "lost"),
    [
        (_over("SUCCEEDED", 0), 0, False),
        (_over("STOPPED"), 130, False),
        (_over("FAILED", 1), 1, False),
        (_over("FAILED", -9), 137, True),
        (_over("FAILED", -15), 143, True),
        (_over("FAILED", 137), 137, True),
        (_over("FAILED", 130), 130, False),
        (_over("FAILED", 255), 255, False),
        (_over("FAILED", None, "RUNTIME_ENV_SETUP_FAILURE"), 1, False),
        (_over("FAILED", None, DIED), 1, True),
        (None, 1, True),
    ],
)
def test_an_end_has_a_code_and_is_a_loss_or_not(job: Job | None, code: int, lost: bool) -> None:
    assert exit_code(job) == code and (why_lost(job) is not None) == lost
    assert job is None or told_end(job)


class Breaking:
    """A log of three pieces, whose connection breaks after each number of pieces in turn."""

    pieces = ("first\nsec", "ond\n", "third\n")

    def __init__(self, *breaks_after: int) -> None:
        self.breaks = iter(breaks_after)

    def job(self, job_id: str) -> Job:
        return Job(job_id, self.status, node="node")  # type: ignore[arg-type]

    status = "RUNNING"

    def tail(self, job_id: str) -> Iterator[str]:
        after = next(self.breaks, None)
        yield from self.pieces[:after]
        if after is not None:
            raise ClusterAwayError("cut")
        self.status = "SUCCEEDED"


@pytest.mark.parametrize("breaks", [(), (0,), (1,), (1, 1, 2), (2, 0, 1, 2)])
def test_a_log_is_shown_once_however_often_the_connection_breaks(breaks: tuple[int, ...]) -> None:
    shown: list[str] = []
    job = follow(Breaking(*breaks), "it", show=shown.append, say=lambda line: None)  # type: ignore[arg-type]
    assert "".join(shown) == "".join(Breaking.pieces)
    assert job is not None and job.status == "SUCCEEDED"


def test_a_log_that_is_cut_in_other_pieces_the_second_time_is_shown_once() -> None:
    api = Breaking(2)
    shown: list[str] = []

    def show(text: str) -> None:
        shown.append(text)
        api.pieces = ("first\n", "second\nthi", "rd\n")

    follow(api, "it", show=show, say=lambda line: None)  # type: ignore[arg-type]
    assert "".join(shown) == "first\nsecond\nthird\n"


def test_a_cluster_that_stays_away_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = itertools.count(0, 100.0)
    monkeypatch.setattr("tenacity.time.monotonic", lambda: next(clock))
    monkeypatch.setattr("tenacity.nap.time.sleep", lambda seconds: None)

    class Gone(Breaking):
        def job(self, job_id: str) -> Job:
            raise ClusterAwayError("nobody answers")

    with pytest.raises(ClusterAwayError, match="nobody answers"):
        follow(Gone(), "it", show=print, say=print, patience_s=300)  # type: ignore[arg-type]


def test_the_end_of_a_log_may_be_out_of_reach() -> None:
    said: list[str] = []
    api = Breaking(1, 1, 1)
    api.status = "FAILED"
    job = follow(api, "it", show=lambda text: None, say=said.append)  # type: ignore[arg-type]
    assert job is not None and job.status == "FAILED" and "out of reach" in said[-1]
