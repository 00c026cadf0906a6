"""Retries of remote storage, counted over all processes of a job: each tells a small Ray actor, made by the driver."""

import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from typing import Any

from jobs.runtime.console import say
from llmcore.storage import Folder
from llmcore.storage.retries import on_retry, retries_so_far

__all__ = ["counted_retries", "tell_of_retries"]

_ANSWERED_WITHIN_S = 10.0

_told: Counter[str] = Counter()
_telling = threading.Lock()


class _Totals:
    """The actor: how often all processes of a job have asked again, by what made them."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def add(self, counts: Counter[str]) -> None:
        self._counts.update(counts)

    def counts(self) -> Counter[str]:
        return self._counts


@cache
def _totals(cluster: str, name: str) -> Any:
    """The actor of a job of a cluster, made once: it lives while the driver holds it, through all that the job does."""
    import ray

    from cluster.placement import placed

    return ray.remote(_Totals).options(name=name, num_cpus=0, **placed("drivers")).remote()


@contextmanager
def counted_retries(kind: str, urls: Iterable[str], result: dict[str, Any]) -> Iterator[None]:
    """Puts the retries of a `with` block into `result`, by what made them, and says their number; Ray is connected.

    Where all `urls` are on disks nothing is asked again, and nothing is started. What this process did before the
    block, the first look at the storage for example, belongs to it too.
    """
    result["storage_retries"] = {}
    if all(Folder(url).local_path() is not None for url in urls):
        yield
        return
    import ray

    totals = _totals(ray.get_runtime_context().gcs_address, _name())
    before = totals.counts.remote()  # its answer is not waited for: an actor takes a second to start
    tell_of_retries()
    try:
        yield
    finally:
        try:
            then, now = ray.get([before, totals.counts.remote()], timeout=_ANSWERED_WITHIN_S)
            result["storage_retries"] = counts = dict(sorted((now - then).items()))
            if counts:
                by_kind = ", ".join(f"{count} for {reason}" for reason, count in counts.items())
                say(f"{kind}: remote storage was asked again {sum(counts.values())} times ({by_kind})")
        except Exception as error:  # with the cluster, say, and then there is worse to tell
            result["storage_retries"] = None
            say(f"{kind}: how often remote storage was asked again is not known ({type(error).__name__})")


def tell_of_retries() -> None:
    """From now on this process tells of its retries, and at once of those before."""
    on_retry(_tell)
    _tell()


def _tell() -> None:
    """Tell of what was not told before. It never fails: nobody may be listening, and then it is told the next time.

    It waits for the answer, so that what a task has asked again is counted when the task has ended.
    """
    with _telling, suppress(Exception):
        new = retries_so_far() - _told
        if not new:
            return
        import ray

        if ray.is_initialized():
            answer = ray.get_actor(_name()).add.remote(new)
            _told.update(new)
            ray.get(answer, timeout=_ANSWERED_WITHIN_S)


def _name() -> str:
    """The actor's, in this job of Ray: other jobs of the cluster have their own."""
    import ray

    return f"storage-retries-{ray.get_runtime_context().get_job_id()}"
