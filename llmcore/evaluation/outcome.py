"""What an evaluation run leaves: metrics.json, predictions.parquet, leaderboard.csv."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from llmcore.evaluation.bias_board import bias_markdown
from llmcore.evaluation.leaderboard import Entry, Leaderboard
from llmcore.evaluation.markdown import leaderboard_markdown
from llmcore.evaluation.results import Evaluation, difference
from llmcore.evaluation.suite import Suite
from llmcore.storage import Folder, publish
from llmcore.storage.content import readable_json
from llmcore.tasks.evaluation_set import EvaluationSet

__all__ = ["Baseline", "Outcome"]

_SEARCHED = "the search ran for the pre-trained model alone; "
_CHECKED = {
    True: "the text of pre-training was checked for this set's held-out rows",
    False: "the text of pre-training was not checked for this set's held-out rows",
    None: "it is not known whether the text of pre-training was checked for this set's held-out rows",
}


@dataclass(frozen=True)
class Baseline:
    """A model to compare with on the test split, and what there is to say of it (plain JSON)."""

    test: Evaluation
    about: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return {**self.about, "test": self.test.metrics_json()}


@dataclass(frozen=True)
class Outcome:
    """All that was judged.

    Attributes:
        evaluation_set: The labelled set.
        suite: Metrics and intervals.
        board: All models, ranked on validation.
        chosen: The leader of the board.
        test: Its result on the test split.
        baselines: By name.
        num_looks: Looks at this test split in the register, by all runs.
        checked: Whether the text of pre-training was checked for this set's held-out rows; None where that is unknown.
        searched: Whether trials of searches are among them.
        harness: What lm-evaluation-harness says (`evaluation.harness.harness_json`), where it was asked.
        bias: What published sets say of the bias of language models (`bias.told.bias_json`), where that was asked.
    """

    evaluation_set: EvaluationSet
    suite: Suite
    board: Leaderboard
    chosen: Entry
    test: Evaluation
    baselines: dict[str, Baseline]
    num_looks: int
    checked: bool | None = None
    searched: bool = False
    harness: dict[str, Any] | None = None
    bias: dict[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """The content of metrics.json."""
        labelled = self.evaluation_set
        return {
            "suite": self.suite.to_json(),
            "set": {
                "name": labelled.name,
                "kind": self.suite.subject.kind,
                "hash": labelled.hash,
                "label_names": list(self.suite.subject.label_names),
                "checked": self.checked,
            },
            "lower_is_better": [one.name for one in self.suite.all_metrics() if not one.higher_is_better],
            "chosen": self.chosen.id,
            "models": [self._model(entry) for entry in self.board.entries],
            "baselines": {name: baseline.to_json() for name, baseline in self.baselines.items()},
            "differences": {
                f"chosen - {name}": {
                    metric: interval.to_json()
                    for metric, interval in difference(self.test, baseline.test, self.suite).items()
                }
                for name, baseline in self.baselines.items()
            },
            "leaders": self._leaders(),
            "details": {self.chosen.id: self.test.details}
            | {name: baseline.test.details for name, baseline in self.baselines.items()},
            "harness": self.harness,
            "bias": self.bias,
            "register_looks": self.num_looks,
            "note": f"{_SEARCHED if self.searched else ''}{_CHECKED[self.checked]}",
        }

    def write(self, folder: Folder) -> dict[str, Any]:
        """Publish the files in `folder`, and return the content of metrics.json."""
        content = self.to_json()
        about = {"suite": self.suite.hash, "set": self.evaluation_set.hash}
        with publish(folder, "evaluation-run", about) as publication:
            with publication.staging() as staged:
                self._write_predictions(str(staged / "predictions.parquet"))
            asked = self.harness["models"] if self.harness else None
            measured = self.bias["models"] if self.bias else None
            table = self.board.to_csv(self.suite, {self.chosen.id: self.test}, asked, measured)
            publication.write_bytes("leaderboard.csv", table.encode())
            publication.write_bytes("leaderboard.md", leaderboard_markdown(content, self.board, self.suite).encode())
            if self.bias:
                publication.write_bytes("bias.md", bias_markdown(self.bias).encode())
            publication.write_bytes("metrics.json", readable_json(content))
        return content

    def _leaders(self) -> dict[str, Any] | None:
        """Whether the chosen model is better than the next one, on rows by which neither was chosen."""
        runner_up = self.baselines.get("runner_up")
        if runner_up is None:
            return None
        metric = self.suite.choosing_metric()
        apart = difference(self.test, runner_up.test, self.suite).get(metric.name)
        told = "not distinguishable"
        if apart is not None and apart.excludes_zero:
            told = "better" if (apart.value > 0) == metric.higher_is_better else "worse"
        return {
            "runner_up": runner_up.about["id"],
            "metric": metric.name,
            "num_compared": sum(entry.eligible for entry in self.board.entries),
            "difference": None if apart is None else apart.to_json(),
            "chosen_is": told,
        }

    def _model(self, entry: Entry) -> dict[str, Any]:
        validation = entry.validation
        return {
            "id": entry.id,
            "status": entry.status,
            "error": entry.error or entry.barred,
            "num_steps": entry.num_steps,
            "validation": None if validation is None else validation.metrics_json(),
            "test": self.test.metrics_json() if entry is self.chosen else None,
            "distinguishable_from_leader": self.board.distinguishable.get(entry.id),
            "num_truncated": None if validation is None else validation.num_truncated,
        }

    def _results(self) -> Iterator[tuple[str, str, Evaluation]]:
        for entry in self.board.entries:
            if entry.validation is not None:
                yield entry.id, "validation", entry.validation
        yield self.chosen.id, "test", self.test
        for name, baseline in self.baselines.items():
            yield name, "test", baseline.test

    def _write_predictions(self, path: str) -> None:
        """One model's predictions after the other's: never all of them in memory.

        A column that only some of the models have, as a baseline has no likelihood, is null for the others.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        schemas = [evaluation.predictions().schema for _, _, evaluation in self._results()]
        names = pa.schema({"model": pa.string(), "split": pa.string()})
        schema = pa.unify_schemas([names, *schemas], promote_options="permissive")
        with pq.ParquetWriter(path, schema) as writer:
            for model, split, evaluation in self._results():
                table = evaluation.predictions()
                values = {name: table[name] for name in table.column_names}
                values |= {"model": pa.array([model] * table.num_rows), "split": pa.array([split] * table.num_rows)}
                missing = pa.nulls(table.num_rows)
                writer.write_table(
                    pa.table([values.get(name, missing).cast(schema.field(name).type) for name in schema.names], schema)
                )
