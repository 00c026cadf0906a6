"""A whole `fit` on two ranks: extended, begun with a dry step, with activations computed anew, and told to trackers."""

from pathlib import Path
from typing import Any

import pytest
import torch

from llmcore.errors import ConfigError
from llmcore.objectives.causal_lm import CausalLM
from llmcore.records import read_metrics
from llmcore.storage import Folder
from tests.events import read_events
from tests.ranks import run_ranks
from tests.tiny_run import fit_tiny, write_tokenizer

CONSTANT = {"kind": "constant", "warmup_steps": 3}


def _fits(root: str) -> dict[str, dict[str, Any]]:
    tokenizer = Path(root) / "tokenizer"
    found = {}

    def fit(name: str, **settings: Any) -> None:
        found[name] = fit_tiny(Folder(f"{root}/{name}"), tokenizer, **settings)

    for stage in (0, 1, 2, 3):
        fit(f"plain-{stage}", zero_stage=stage, num_steps=4)
        fit(f"dry-{stage}", zero_stage=stage, num_steps=4, dry_step=True)
        fit(f"anew-{stage}", zero_stage=stage, num_steps=4, activation_checkpointing=True)
    fit("extended", num_steps=6, schedule=CONSTANT)
    fit("extended", num_steps=12, schedule=CONSTANT)
    fit("undisturbed", num_steps=12, schedule=CONSTANT, peak_flops_per_s=1e9)
    return found


@pytest.fixture(scope="module")
def fits(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, dict[str, Any]]]:
    root = tmp_path_factory.mktemp("fits")
    write_tokenizer(root / "tokenizer")
    return root, run_ranks(2, _fits, str(root), out=root / "out")[0]


def _losses(folder: Path) -> list[float]:
    return [row["loss"] for row in read_metrics(Folder(str(folder / "tiny"))) if "loss" in row]


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_a_dry_step_and_activations_computed_anew_change_no_loss(fits: tuple[Path, Any], stage: int) -> None:
    root, _ = fits
    plain = _losses(root / f"plain-{stage}")
    assert len(plain) == 4
    assert _losses(root / f"dry-{stage}") == plain
    assert _losses(root / f"anew-{stage}") == plain


def test_a_finished_run_that_is_extended_equals_one_that_was_longer_from_the_beginning(fits: tuple[Path, Any]) -> None:
    root, outcomes = fits
    assert _losses(root / "extended") == _losses(root / "undisturbed")
    assert outcomes["extended"]["resumed_at"] == 6
    assert outcomes["extended"]["num_steps"] == 12


def test_rows_say_where_the_time_went_and_what_it_gave(fits: tuple[Path, Any]) -> None:
    root, _ = fits
    rows = [row for row in read_metrics(Folder(str(root / "undisturbed/tiny"))) if "loss" in row]
    for row in rows:
        shares = [row[f"{of}_fraction"] for of in ("compute", "data_wait", "checkpoint", "validation")]
        assert all(share >= 0 for share in shares) and 0.5 < sum(shares) <= 1.0
        assert row["mfu"] == pytest.approx(row["model_flops_per_s"] / 1e9)
        per_token = [each["model_flops_per_s"] / each["tokens_per_s"] for each in (row, rows[0])]
        assert per_token[0] == pytest.approx(per_token[1])
    assert "mfu" not in read_metrics(Folder(str(root / "extended/tiny")))[0], "no peak of a CPU is guessed"


def test_tensorboard_is_told_every_number_of_every_row(fits: tuple[Path, Any]) -> None:
    root, _ = fits
    rows = read_metrics(Folder(str(root / "undisturbed/tiny")))
    told = read_events(Folder(str(root / "undisturbed/tiny/attempts/01/tensorboard")))
    expected = [(row["step"], name, value) for row in rows for name, value in row.items() if name != "step"]
    assert [(step, name) for step, name, _ in told] == [(step, name) for step, name, _ in expected]
    assert [value for *_, value in told] == pytest.approx([value for *_, value in expected], rel=1e-6)


class _TooLarge(CausalLM):
    def loss_sums(self, model: Any, batch: Any) -> torch.Tensor:
        return super().loss_sums(model, batch) + torch.empty(2**52).sum()


def _dry_step_too_large(root: str) -> str:
    with pytest.raises(ConfigError) as error:
        fit_tiny(Folder(root), Path(root) / "tokenizer", objective=_TooLarge(), num_steps=4, dry_step=True)
    return str(error.value)


def test_too_little_memory_is_said_before_the_first_step(tmp_path: Path) -> None:
    write_tokenizer(tmp_path / "run/tokenizer")
    [message] = run_ranks(1, _dry_step_too_large, str(tmp_path / "run"), out=tmp_path)
    assert message.startswith("train.micro_batch_size=2: the longest batch does not fit the memory of cpu")
    assert "activation_checkpointing" in message
    assert _losses(tmp_path / "run") == []
