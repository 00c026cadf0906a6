"""What an evaluation of texts leaves: models and baselines beside each other, though not all can be judged alike."""

import csv
import io
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sacrebleu

from llmcore.errors import CorpusError
from llmcore.evaluation.baselines.copies import COPY_SOURCE
from llmcore.evaluation.kinds import Subject
from llmcore.evaluation.leaderboard import Entry, rank
from llmcore.evaluation.outcome import Baseline, Outcome
from llmcore.evaluation.results import Evaluation, evaluate_once
from llmcore.evaluation.score import Predictions, predictions_table
from llmcore.evaluation.suite import Suite
from llmcore.storage import Folder
from llmcore.tasks.columns import KINDS

SOURCE = ["ein Mann läuft", "zwei Hunde", "das Haus ist rot", "Bernd und Anna"]
TARGET = ["a man runs", "two dogs", "the house is red", "Bernd and Anna"]
BETTER = ["a man runs", "two dogs", "the house is blue", "Bernd and Anna"]
WORSE = ["a man sits", "two", "a house", "Bernd or Anna"]


class Pairs:
    """Stands for a labelled set of translations."""

    name, hash = "pairs", "f00d"

    def rows(self, split: str) -> pa.Table:
        ids = [f"{split}{row}" for row in range(4)]
        topic = ["people", "animals", "things", "people"]
        return pa.table({"id": ids, "source": SOURCE, "target": TARGET, "group": ids, "topic": topic})

    def split_hash(self, split: str) -> str:
        return f"{split}-hash"


def suite_of(choose_by: str) -> Suite:
    return Suite(Pairs.hash, Subject("translation"), ("bleu", "chrf", "perplexity"), choose_by, 100, 0)


def translated(written: list[str], loss: float) -> Any:
    def predict(rows: pa.Table) -> Predictions:
        columns = {"prediction": written, "loss_sum": [loss] * 4, "num_tokens": [3] * 4, "num_bytes": [11] * 4}
        return Predictions(predictions_table(KINDS["translation"].references, rows, columns), num_truncated=0)

    return predict


def judged(storage: Folder, suite: Suite, split: Any, sha256: str, predict: Any) -> Evaluation:
    pairs: Any = Pairs()
    return evaluate_once(storage, pairs, suite, split, model_sha256=sha256, predict=predict, who={})


@pytest.fixture
def storage(tmp_path: Path) -> Folder:
    return Folder(str(tmp_path))


def outcome_of(storage: Folder, choose_by: str, better: float, worse: float) -> Outcome:
    """Of two models, with these losses, and the source as its own translation."""
    suite = suite_of(choose_by)
    models = {"t1": translated(WORSE, worse), "t2": translated(BETTER, better)}
    entries = [
        Entry(name, "finished", judged(storage, suite, "validation", name, model)) for name, model in models.items()
    ]
    board = rank(entries, suite)
    assert board.leader is not None
    test = judged(storage, suite, "test", board.leader.id, models[board.leader.id])
    copied = judged(storage, suite, "test", COPY_SOURCE.model_sha256, COPY_SOURCE.predict)
    pairs: Any = Pairs()
    return Outcome(pairs, suite, board, board.leader, test, {"copy_source": Baseline(copied, {})}, num_looks=2)


def test_what_is_stored_of_a_translation(storage: Folder) -> None:
    content = outcome_of(storage, "bleu", better=3.0, worse=6.0).write(storage / "evaluation")
    assert content["chosen"] == "t2"
    assert content["models"][0]["test"]["bleu"]["value"] == sacrebleu.corpus_bleu(BETTER, [TARGET]).score
    metric = sacrebleu.BLEU()
    metric.corpus_score(BETTER, [TARGET])
    details = content["details"]["t2"]
    assert details["signatures"]["bleu"] == str(metric.get_signature())
    assert set(details["slices"]) == {"length", "topic"}
    assert details["slices"]["topic"]["people"]["num_rows"] == 2
    assert details["slices"]["topic"]["people"]["metrics"]["bleu"]["value"] == pytest.approx(
        sacrebleu.corpus_bleu([BETTER[0], BETTER[3]], [[TARGET[0], TARGET[3]]]).score
    )
    assert content["set"]["kind"] == "translation"


def test_a_baseline_without_likelihoods_is_judged_by_what_it_has(storage: Folder) -> None:
    content = outcome_of(storage, "bleu", better=3.0, worse=6.0).write(storage / "evaluation")
    assert set(content["baselines"]["copy_source"]["test"]) == {"bleu", "chrf"}
    assert content["details"]["copy_source"]["undefined"] == {"perplexity": "there is no loss_sum, num_tokens"}
    apart = content["differences"]["chosen - copy_source"]
    assert set(apart) == {"bleu", "chrf"}
    test = content["models"][0]["test"]
    assert (
        apart["bleu"]["value"] == test["bleu"]["value"] - content["baselines"]["copy_source"]["test"]["bleu"]["value"]
    )

    table = pq.read_table(Path((storage / "evaluation").url) / "predictions.parquet")
    assert table.column_names[:5] == ["model", "split", "id", "group", "target"]
    assert table.num_rows == 4 * 4
    by_model = {row["model"]: row for row in table.to_pylist() if row["split"] == "test" and row["id"] == "test0"}
    assert by_model["copy_source"]["prediction"] == SOURCE[0] and by_model["copy_source"]["loss_sum"] is None
    assert by_model["t2"]["loss_sum"] == 3.0


def test_where_lower_is_better_the_lowest_leads(storage: Folder) -> None:
    outcome = outcome_of(storage, "perplexity", better=6.0, worse=3.0)
    assert outcome.chosen.id == "t1"
    content = outcome.to_json()
    assert content["lower_is_better"] == ["perplexity"]
    lines = list(csv.DictReader(io.StringIO(outcome.board.to_csv(outcome.suite, {"t1": outcome.test}))))
    assert [line["id"] for line in lines] == ["t1", "t2"]
    assert float(lines[0]["validation_perplexity"]) < float(lines[1]["validation_perplexity"])
    assert float(lines[0]["test_bleu"]) == outcome.test.metrics["bleu"].value


def test_models_without_what_is_to_choose_are_refused(storage: Folder) -> None:
    with pytest.raises(
        CorpusError, match=r"perplexity, which is to choose, is undefined .* there is no loss_sum, num_t"
    ):
        judged(storage, suite_of("perplexity"), "validation", "copy", COPY_SOURCE.predict)
