"""Hands Tune one trial after the other: first those that an earlier start has begun, then what is proposed."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ray.tune.search import Searcher

from jobs.runtime.search.records import TrialRecords
from llmcore.errors import LLMCoreError
from llmcore.search import Proposals

__all__ = ["ProposeTrials"]


class ProposeTrials(Searcher):  # type: ignore[misc]  # Ray is not typed
    """Proposes trials by their records. One that cannot be is recorded as failed, and the next one is proposed."""

    def __init__(
        self,
        proposals: Proposals,
        records: TrialRecords,
        ids: Sequence[str],
        check: Callable[[str, Mapping[str, Any]], None],
        spent: Callable[[], str | None],
        say: Callable[[str], None],
    ) -> None:
        """`ids` are all trials; `check` refuses a point that cannot be trained; `spent` says why no more may begin."""
        super().__init__()
        self._proposals, self._records, self._say = proposals, records, say
        self._check, self._spent = check, spent
        self._begun = [trial for trial in ids if trial in records.values and not records.has_ended(trial)]
        self._new = [trial for trial in ids if trial not in records.values]
        self._ids = list(ids)

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles it into snapshots that nobody reads

    def suggest(self, trial_id: str) -> dict[str, Any] | str:
        """The next trial's point."""
        while (self._begun or self._new) and not self._spent():
            trial = (self._begun or self._new).pop(0)
            values = self._records.values.get(trial)
            if values is None:
                values = self._proposals.propose(self._ids.index(trial), self._records.told())
                self._records.begin(trial, values)
            try:
                self._check(trial, values)
            except LLMCoreError as error:
                self._say(self._records.write(trial, cause="configuration", error=str(error)))
                continue
            return {"point": {"trial": trial, "values": dict(values)}}
        return str(Searcher.FINISHED)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Nothing: what a trial was worth stands in its record."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing: all there is to know stands in the records."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing, as for `save`."""
