"""What four real ranks hold at each ZeRO stage, against the formulas."""

from pathlib import Path
from typing import Any

import pytest

from llmcore.config.model import ModelSettings
from llmcore.cost.memory import ModelSizes, buckets_for, copy_bytes, peak_bytes, state_bytes
from llmcore.cost.plan import checkpoint_bytes
from llmcore.models.build import model_config
from llmcore.storage import Folder, read_manifest
from tests.ranks import run_ranks

WORLD_SIZE = 4
RUNS = [(0, "fp32"), (1, "bf16"), (2, "fp32"), (3, "fp32")]
"""Each stage; those in the other precisions are `python -m jobs benchmark memory`."""

OF_A_LAYER = 0
"""The smallest bucket: none of them is larger than a layer, as in a model that is too large for one rank."""


def _config() -> Any:
    """Twelve thin layers: what of a parameter belongs to a neighbour, after backward, is little of the model."""
    sizes = {"hidden_size": 128, "intermediate_size": 352, "num_attention_heads": 2, "num_hidden_layers": 12}
    settings = ModelSettings(family="llama", sizes=sizes | {"tie_word_embeddings": False})
    return model_config(settings, vocab_size=512, sequence_length=32, eos_id=0, pad_id=1)


def _measured(root: str) -> tuple[ModelSizes, dict[str, int], dict[tuple[int, str], dict[str, int]], int]:
    from jobs.benchmarks.memory_rank import held_at_worst, held_between_collectives, write_tokenizer

    tokenizer = write_tokenizer(Path(root, "tokenizer"))
    sizes, peaks = held_at_worst(_config(), "bf16", WORLD_SIZE, OF_A_LAYER, root, tokenizer)
    held = {run: held_between_collectives(_config(), *run, WORLD_SIZE, OF_A_LAYER)[1] for run in RUNS}  # type: ignore[arg-type]
    [checkpoint] = (Folder(root) / "checkpoints").names()
    manifest = read_manifest(Folder(root) / "checkpoints" / checkpoint)
    assert manifest is not None
    return sizes, peaks, held, sum(entry.size for entry in manifest.files.values())


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    root = tmp_path_factory.mktemp("memory")
    return run_ranks(WORLD_SIZE, _measured, str(root), out=root / "out")


@pytest.mark.parametrize("moment", ["step_end", "after_backward"])
@pytest.mark.parametrize(("stage", "precision"), RUNS)
def test_each_rank_holds_what_the_formula_says(ranks: list[Any], stage: int, precision: Any, moment: Any) -> None:
    for sizes, _, held, _ in ranks:
        formula = state_bytes(
            sizes,
            stage=stage,
            precision=precision,
            world_size=WORLD_SIZE,
            moment=moment,
            buckets=buckets_for(sizes, at_least=OF_A_LAYER),
        )
        assert held[stage, precision][moment] == pytest.approx(formula, rel=0.02)


def test_no_rank_ever_holds_more_than_its_share_a_layer_and_the_buckets(ranks: list[Any]) -> None:
    for sizes, peaks, _, _ in ranks:
        assert set(peaks) == {"build", "engine", "step", "save", "export", "restore", "load"}
        bound = peak_bytes(
            sizes, precision="bf16", world_size=WORLD_SIZE, buckets=buckets_for(sizes, at_least=OF_A_LAYER)
        )
        copy = copy_bytes(sizes, world_size=WORLD_SIZE)
        through_host = dict.fromkeys(("save", "restore"), copy)
        assert all(peak <= bound + through_host.get(part, 0) for part, peak in peaks.items()), (peaks, bound)
        # Weights alone are twice its parameters: before there is an optimizer, a rank holds far less than that.
        assert max(peaks["build"], peaks["load"]) < 2 * sizes.num_parameters


def test_a_checkpoint_is_as_large_as_is_planned(ranks: list[Any]) -> None:
    sizes, _, _, num_bytes = ranks[0]
    assert num_bytes == pytest.approx(checkpoint_bytes(sizes), rel=0.02)
