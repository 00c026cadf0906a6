import json
import sys
from copy import deepcopy
from itertools import chain
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional
from transformers import AutoModelForCausalLM

from jobs.benchmark import BENCHMARKS, run, table
from jobs.benchmarks.prepare_peer import packer_of
from jobs.benchmarks.row_tensors import block_mask, document_positions, next_tokens, row_tensors
from jobs.benchmarks.rows import Measured, Row, in_turn, median_of
from jobs.runtime.options import RunOptions
from llmcore.config.model import ModelSettings
from llmcore.errors import UserError
from llmcore.models.build import build_causal_lm, model_config
from llmcore.models.packed import PackedBatch
from llmcore.objectives.causal_lm import CausalLM
from llmcore.tokens.schema import PackedRows

ROWS = [
    Row("speed, fp32", 12_000.0, "tokens/s", "DDP", 8_000.0),
    Row("tokens left out", 0, "tokens", "DDP", 0),
    Row("start", 5.25, "s"),
]
_SIZES = ModelSettings(family="gpt2", sizes={"n_embd": 16, "n_layer": 2, "n_head": 2})
CONFIG = model_config(_SIZES, vocab_size=30, sequence_length=32, eos_id=0, pad_id=1)
PLAIN = AutoModelForCausalLM.from_config(deepcopy(CONFIG), attn_implementation="sdpa")
OURS = build_causal_lm(CONFIG, seed=0)
OURS.load_state_dict(PLAIN.state_dict())


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for a benchmark's module."""
    module = ModuleType("jobs.benchmarks.prepare")
    module.measure = lambda options: Measured(ROWS, {"precision": "fp32"})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "jobs.benchmarks.prepare", module)


@pytest.mark.parametrize("name", ["trian", "nothing like it"])
def test_an_unknown_name_is_the_users_error_and_names_the_nearest(name: str) -> None:
    with pytest.raises(UserError, match=rf"'{name}'; expected one of {', '.join(BENCHMARKS)}") as caught:
        run(name, json_file=None, options=RunOptions())
    assert str(caught.value).endswith("did you mean train?") == (name == "trian")


def test_every_benchmark_has_a_module_and_is_explained() -> None:
    page = Path(__file__).parents[2].joinpath("docs/benchmarks.md").read_text(encoding="utf-8")
    for name, module in BENCHMARKS.items():
        assert Path(__file__).parents[2].joinpath(*module.split(".")).with_suffix(".py").is_file()
        assert f"## {name}\n" in page


def test_the_table_is_printed_and_the_same_is_written(
    measured: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("prepare", json_file=tmp_path / "figures.json", options=RunOptions())
    assert table(ROWS) in capsys.readouterr().out
    written = json.loads((tmp_path / "figures.json").read_text())
    assert written["benchmark"] == "prepare"
    assert written["settings"] == {"precision": "fp32"}
    assert written["machine"]["num_cores"] >= 1
    assert written["machine"]["load_average"] >= 0
    assert written["machine"]["versions"]["ray"]
    assert written["rows"][0] == {
        "name": "speed, fp32",
        "value": 12_000.0,
        "unit": "tokens/s",
        "peer": "DDP",
        "peer_value": 8_000.0,
        "ratio": 1.5,
    }
    assert [row["ratio"] for row in written["rows"]] == [1.5, None, None]


def test_a_file_that_cannot_be_written_is_told_before_anything_is_measured(
    measured: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for file in (tmp_path, tmp_path / "absent" / "figures.json"):
        with pytest.raises(UserError, match=f"--json {file}: give a file"):
            run("prepare", json_file=file, options=RunOptions())
    assert capsys.readouterr().out == ""


def test_columns_of_the_table_are_aligned() -> None:
    heading, first, second, third = table(ROWS).splitlines()
    assert first.split() == ["speed,", "fp32", "12,000", "tokens/s", "DDP", "8,000", "1.500"]
    assert third.split() == ["start", "5.25", "s"]
    ends = {line.index(value) + len(value) for line, value in ((heading, "ours"), (first, "12,000"), (third, "5.25"))}
    assert ends == {second.index("0") + 1}


def test_contenders_take_turns() -> None:
    calls: list[tuple[str, int]] = []

    def contender(name: str, value: int) -> None:
        calls.append((name, value))

    in_turn({name: lambda number, name=name: contender(name, number) for name in "AB"}, 3)  # type: ignore[misc]
    assert calls == [(name, number) for number in range(3) for name in "AB"]
    assert median_of([3.0, 1.0, 50.0], lambda value: value) == 3.0


@given(st.lists(st.lists(st.integers(0, 9), max_size=12), max_size=12), st.integers(1, 7))
def test_the_peers_packing_keeps_order_and_drops_less_than_a_row(documents: list[list[int]], length: int) -> None:
    rows = packer_of(length)({"input_ids": documents})["input_ids"]
    tokens = list(chain.from_iterable(documents))
    kept = list(chain.from_iterable(rows))
    assert all(len(row) == length for row in rows)
    assert kept == tokens[: len(kept)]
    assert 0 <= len(tokens) - len(kept) < length


@given(st.lists(st.lists(st.integers(1, 6), min_size=1, max_size=4), min_size=1, max_size=4))
@settings(max_examples=10, deadline=None)
def test_the_exact_peer_has_our_targets_positions_and_loss(lengths: list[list[int]]) -> None:
    """Where the peer's mask, positions or labels were off, the losses of the benchmark would not be comparable."""
    length = max(map(sum, lengths)) + 2
    generator = torch.Generator().manual_seed(sum(map(sum, lengths)))
    tokens = torch.randint(0, 30, (len(lengths), length), generator=generator)
    rows = PackedRows(tokens.numpy().astype(np.int32), lengths, lengths).to_table(1000)
    ours = PackedBatch.of_rows(tokens, lengths)
    found, documents = row_tensors(rows)
    labels = next_tokens(found, documents, across=False)
    assert torch.equal(found, tokens)
    assert torch.equal(document_positions(documents), ours.positions())
    assert int((labels != -100).sum()) == CausalLM().num_targets(ours)[0]
    given = {"attention_mask": block_mask(documents), "position_ids": document_positions(documents)}
    with torch.no_grad():
        logits = PLAIN(input_ids=tokens, use_cache=False, **given).logits
        loss_sum = functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum")
        expected = CausalLM().loss_sums(OURS, ours)
    assert float(loss_sum) == pytest.approx(float(expected), rel=1e-5, abs=1e-4)
