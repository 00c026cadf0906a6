"""What a model says while it trains: asked by all ranks at once, whole or spread, and as its export says it."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from llmcore.models.generation.samples import continue_prompts
from llmcore.storage import Folder
from llmcore.train.model_folder import write_architecture
from tests.engines import tiny_model
from tests.ranks import run_ranks
from tests.tiny_run import write_tokenizer

PROMPTS = ["open the path", "close"]
SEED, VOCAB_SIZE = 4, 330


def _samples(tokenizer: str) -> list[list[dict[str, str]]]:
    """Those of stage 0 and of stage 3."""
    from llmcore.train.pretraining import Pretraining
    from tests.engines import tiny_engine, tiny_model

    recipe: Any = SimpleNamespace(
        config=SimpleNamespace(sample_prompts=PROMPTS),
        settings=SimpleNamespace(seed=SEED),
        shards=SimpleNamespace(tokenizer_folder=lambda: Folder(tokenizer), sequence_length=16),
    )
    return [
        Pretraining.samples(recipe, tiny_engine(stage, build=lambda home: tiny_model(home, vocab_size=VOCAB_SIZE)))
        for stage in (0, 3)
    ]


def test_all_ranks_and_stages_and_the_export_say_the_same(tmp_path: Path) -> None:
    tokenizer, export = write_tokenizer(tmp_path / "tokenizer"), tmp_path / "export"
    first, second = run_ranks(2, _samples, str(tokenizer), out=tmp_path / "out")
    assert first == second
    whole, spread = first
    assert whole == spread
    assert [sample["prompt"] for sample in whole] == PROMPTS
    model: Any = tiny_model(vocab_size=VOCAB_SIZE)
    model.save_pretrained(export)
    write_architecture(model, tokenizer, export)
    for during, after in zip(whole, continue_prompts(export, PROMPTS, num_tokens=4, seed=SEED), strict=True):
        assert after["text"]
        assert during["text"].startswith(after["text"].rstrip("\ufffd"))
