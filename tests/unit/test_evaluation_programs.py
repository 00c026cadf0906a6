"""Programs that a model wrote run with their rows' tests, each once, and pass@k is of what came of them."""

import json
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from llmcore.config.generation import GenerationSettings
from llmcore.errors import SandboxError
from llmcore.evaluation.kinds import Subject
from llmcore.evaluation.programs import run_written
from llmcore.evaluation.sandbox import seccomp
from llmcore.evaluation.score import Predictions, Scorer
from llmcore.evaluation.suite import Suite
from llmcore.tasks.code_generation import CodeGeneration
from tests.predictions import values
from tests.sandboxes import needs_namespaces

MBPP = Path(os.environ.get("LLMCORE_DATA", "")) / "mbpp"
RIGHT, WRONG, BROKEN = "def double(x):\n    return 2 * x", "def double(x):\n    return x", "def double(x"
CODE = Subject("code_generation")


def rows_of(solutions: list[str], tests: list[list[str]], **more: Any) -> pa.Table:
    ids = [f"r{number}" for number in range(len(solutions))]
    return pa.table({"id": ids, "group": ids, "prompt": ids, "solution": solutions, "tests": tests} | more)


class Writes:
    """Stands for a model: it writes what it is told to."""

    def __init__(self, written: list[list[str]]) -> None:
        self.written = written

    def predict(self, rows: pa.Table, *, batch_tokens: int) -> tuple[dict[str, Any], int]:
        columns: dict[str, Any] = {"prediction": [texts[0] for texts in self.written]}
        return columns if len(self.written[0]) == 1 else columns | {"predictions": self.written}, 0


def scored(rows: pa.Table, written: list[list[str]]) -> pa.Table:
    task = CodeGeneration(64, "perplexity", "{prompt}", 32)
    return Scorer(task, Writes(written), num_sandboxes=2).predict(rows, batch_tokens=1).table


@needs_namespaces
def test_every_sample_of_a_row_is_run_with_its_tests_and_pass_at_k_counts_those_that_pass() -> None:
    rows = rows_of([RIGHT] * 3, [["assert double(2) == 4"], ["assert double(1) == 2"], ["assert double(y) == 6"]],
                   setup=["", None, "y = double(1) + 1"])  # fmt: skip
    table = scored(rows, [[RIGHT, WRONG, BROKEN], [WRONG, "raise SystemExit(0)", RIGHT], [RIGHT] * 3])
    assert table["outcomes"].to_pylist() == [
        ["passed", "failed", "failed"], ["failed", "failed", "passed"], ["passed"] * 3
    ]  # fmt: skip
    assert (table["num_samples"].to_pylist(), table["num_correct"].to_pylist()) == ([3, 3, 3], [1, 1, 3])
    assert table["prediction"].to_pylist() == [RIGHT, WRONG, RIGHT]
    found = values(CODE, ["pass_at_1", "pass_at_2"], table)
    assert found["pass_at_1"] == pytest.approx((1 / 3 + 1 / 3 + 1) / 3)
    assert found["pass_at_2"] == pytest.approx((2 / 3 + 2 / 3 + 1) / 3)  # 1 - C(2, 2) / C(3, 2)


@needs_namespaces
@pytest.mark.skipif(not MBPP.is_dir(), reason="LLMCORE_DATA has no mbpp")
def test_references_of_mbpp_as_predictions_get_full_marks_and_those_of_other_rows_none() -> None:
    found = [json.loads(line) for line in (MBPP / "validation.jsonl").read_text().splitlines()]
    solutions = [row["code"] for row in found]
    rows = rows_of(solutions, [row["test_list"] for row in found], setup=[row["test_setup_code"] for row in found])
    assert values(CODE, ["pass_at_1"], scored(rows, [[text] for text in solutions])) == {"pass_at_1": 1.0}
    shifted = [[text] for text in [*solutions[1:], solutions[0]]]
    assert values(CODE, ["pass_at_1"], scored(rows, shifted))["pass_at_1"] < 0.02


def test_nothing_is_run_for_metrics_that_do_not_ask_for_it() -> None:
    suites = {
        name: Suite("s", CODE, ("bleu",), name, 100, 0, GenerationSettings(method="sample", num_samples=5))
        for name in ("bleu", "pass_at_5")
    }
    assert {name: suite.runs_programs for name, suite in suites.items()} == {"bleu": False, "pass_at_5": True}


def test_where_programs_cannot_be_confined_none_is_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seccomp.platform, "system", lambda: "Plan9")
    with pytest.raises(SandboxError, match="it needs Linux"):
        run_written(rows_of([RIGHT], [["assert True"]]), {"prediction": [RIGHT]})


def test_parts_of_predictions_are_joined_though_one_has_nothing_but_empty_lists() -> None:
    ids = [["a", "b"], ["c"]]
    parts = [
        Predictions(pa.table({"id": one, "outcomes": pa.array([[] for _ in one])}), 1) if number else
        Predictions(pa.table({"id": one, "outcomes": [["passed"] for _ in one]}), 2)
        for number, one in enumerate(ids)
    ]  # fmt: skip
    joined = Predictions.joined(parts)
    assert joined.table["id"].to_pylist() == ["a", "b", "c"] and joined.num_truncated == 3
    assert joined.table["outcomes"].to_pylist() == [["passed"], ["passed"], []]
