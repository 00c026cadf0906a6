"""Both sides of `benchmark finetune` do the same work, and what is told of their padding is so."""

import json
from collections.abc import Iterator
from itertools import chain, islice
from typing import Any

import pytest
import torch
from torch import distributed

from jobs.benchmarks.finetune import OURS, PEER, Side, check_losses, measure, padding_share, sides_of
from jobs.benchmarks.padded import PaddedBatch
from jobs.runtime.options import RunOptions
from llmcore.config.finetune import FinetuneSettings
from llmcore.config.labelled import LabelledDataSettings
from llmcore.errors import RunError, UserError
from llmcore.models.encoder_decoder import PackedPair
from llmcore.storage import Folder
from llmcore.tasks.columns import KINDS
from llmcore.tasks.labelled import publish_labelled_data
from llmcore.tokens.tokenizer import OWN_IDS
from llmcore.train.finetuning import Finetuning
from tests.bases import WORDS, write_base

NUM_STEPS, BATCH = 3, 4
TEXTS = [" ".join([*WORDS][: 1 + row % 5]) + f" {row}" for row in range(NUM_STEPS * BATCH)]


@pytest.fixture(scope="module", autouse=True)
def group() -> Iterator[None]:
    """Of this process alone."""
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)  # type: ignore[attr-defined]
    yield
    distributed.destroy_process_group()


@pytest.fixture(scope="module", params=["bert", "t5", "gpt2"])
def sides(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Side]:
    folder = tmp_path_factory.mktemp(request.param)
    kind = "text_classification" if request.param == "bert" else "translation"
    rows = [{"source": text, "target": text[::-1], "text": text, "label": row % 2} for row, text in enumerate(TEXTS)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    files = {"train": str(folder / "rows.jsonl"), "carve": {"validation": 0, "test": 0}}
    given = LabelledDataSettings.model_validate(files)
    data = publish_labelled_data(Folder(str(folder / "sets")), given, KINDS[kind]).evaluation_set
    write_base(folder / "base", request.param)
    train = {"num_steps": NUM_STEPS, "global_batch_size": BATCH, "micro_batch_size": BATCH, "zero_stage": 1}
    task = {"kind": kind, "max_tokens": 64}
    settings = FinetuneSettings.model_validate({"task": task, "weights": "random", "train": train})
    return sides_of(Finetuning(settings, folder / "base", data, "0" * 64), folder / "base", data)


def read(batch: Any) -> list[list[int]]:
    """What is read and written of each example, without padding."""
    if not isinstance(batch, PaddedBatch):
        packed = batch.packed
        parts = [packed.source, packed.target] if isinstance(packed, PackedPair) else [packed]
        split = [[piece.tolist() for piece in part.tokens.flatten().split(list(part.lengths))] for part in parts]
    else:
        rows, mask = batch.inputs["input_ids"], batch.inputs["attention_mask"].bool()
        split = [[row[seen].tolist() for row, seen in zip(rows, mask, strict=True)]]
        if batch.inputs["labels"].dim() == 2 and batch.num_places > rows.numel():
            split.append([row[row != -100].tolist() for row in batch.inputs["labels"]])
    return sorted([*chain.from_iterable(pieces)] for pieces in zip(*split, strict=True))


def test_both_have_each_example_once_in_an_epoch_and_the_same_ones_in_a_step(sides: dict[str, Side]) -> None:
    steps = {name: [read(batch) for batch in islice(side.batches(), NUM_STEPS)] for name, side in sides.items()}
    assert steps[OURS] == steps[PEER]
    examples = [tuple(example) for step in steps[OURS] for example in step]
    assert len(set(examples)) == len(examples) == len(TEXTS)


def test_padding_is_what_the_longest_of_a_batch_leaves_of_the_others(sides: dict[str, Side]) -> None:
    assert padding_share(sides[OURS], NUM_STEPS) == 0
    tokens = places = 0
    for batch in islice(sides[PEER].batches(), NUM_STEPS):
        inputs = batch.inputs
        grids = [inputs["input_ids"] != OWN_IDS.pad]
        if sides[PEER].model.config.is_encoder_decoder:
            grids.append(inputs["labels"] != -100)
        for grid in grids:
            tokens += int(grid.sum())
            places += len(grid) * max(int(row.sum()) for row in grid)
    assert padding_share(sides[PEER], NUM_STEPS) == pytest.approx(1 - tokens / places)
    assert 0 < tokens < places


def test_both_say_the_same_loss_and_other_weights_are_found_out(sides: dict[str, Side]) -> None:
    check_losses(sides)
    weights = next(sides[PEER].model.parameters())
    with torch.no_grad():
        weights += 0.5 * torch.randn(weights.shape, generator=torch.Generator().manual_seed(0))
    with pytest.raises(RunError, match="do not learn the same"):
        check_losses(sides)


def test_without_the_sets_it_names_what_it_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LLMCORE_DATA", raising=False)
    with pytest.raises(UserError, match=r"sst2/train\.tsv.* LLMCORE_DATA"):
        measure(RunOptions())
