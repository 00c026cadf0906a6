"""A storage in which jobs run by the command line, each with a Ray of its own: what proofs are made in."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from llmcore.records import newest_result
from llmcore.storage import Folder
from llmcore.tasks.evaluation_set import EvaluationSet, find_published
from tests.drivers import ROOT, Ended, ray_folder, run_jobs
from tests.tiny import write_config

__all__ = ["Workshop"]

_LIMIT_S = 3600


class Workshop:
    """Runs of one storage, by name."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.storage = Folder(str(folder / "runs"))
        self.seconds: dict[str, float] = {}
        """How long each command took, from its start to its end, by the run's name."""

    def path(self, name: str) -> Path:
        """Where a run, or something in it, lies on this machine."""
        local = (self.storage / name).local_path()
        assert local is not None
        return local

    def run(self, job: str, name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
        """The result of a job with these settings."""
        common = {"name": name, "storage": self.storage.url, "cluster": {"num_cpus": 2}}
        config = write_config(self._folder / f"{name}.yaml", common | dict(settings))
        return self._result(job, name, str(config))

    def run_shipped(self, job: str, name: str, config: str, **changes: Any) -> dict[str, Any]:
        """The result of a job with a shipped configuration, `configs/<config>`; changes as on the command line."""
        changes = {"name": name, "storage": self.storage.url, "cluster.num_cpus": 2} | changes
        return self._result(
            job, name, str(ROOT / "configs" / config), *(f"{key}={value}" for key, value in changes.items())
        )

    def judged(self, name: str) -> dict[str, Any]:
        """What stands in `metrics.json` of an evaluation."""
        content = (self.storage / name / "evaluation").read_json("metrics.json")
        assert isinstance(content, dict)
        return content

    def labelled(self, name: str) -> EvaluationSet:
        """The set of an evaluation."""
        found = find_published(self.storage, self.judged(name)["set"]["hash"])
        assert found is not None
        return found

    def test_rows(self, name: str, model: str) -> list[dict[str, Any]]:
        """What a model of an evaluation says of each row of the test split, beside the references."""
        table = pq.read_table(self.path(f"{name}/evaluation/predictions.parquet")).to_pylist()
        return [row for row in table if row["model"] == model and row["split"] == "test"]

    def _result(self, job: str, name: str, *arguments: str) -> dict[str, Any]:
        with ray_folder() as ray:
            ended: Ended = run_jobs(job, *arguments, cwd=self._folder, RAY_TMPDIR=ray, timeout_s=_LIMIT_S)
        assert ended.code == 0, ended.out + ended.err
        self.seconds[name] = ended.seconds
        print(f"\n{name}: {ended.seconds:.0f} s\n{ended.out}", flush=True)
        result = newest_result(self.storage / name)
        assert result is not None
        return result
