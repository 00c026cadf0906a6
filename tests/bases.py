"""Small base models of three families with a tokenizer, and fine-tunings of them without Ray."""

from pathlib import Path
from typing import Any

import torch

from llmcore.config.finetune import FinetuneSettings
from llmcore.config.model import ModelSettings
from llmcore.models.build import build_language_model, model_config
from llmcore.storage import Folder
from llmcore.tasks.evaluation_set import EvaluationSet
from llmcore.tokens.tokenizer import OWN_IDS, hugging_face_files, train_tokenizer

__all__ = ["BASES", "WORDS", "finetuned", "write_base", "write_early_or_late", "write_model"]

_VOCAB_SIZE, _LONGEST = 330, 96
WORDS = {"red": "rot", "blue": "blau", "cat": "Katze", "dog": "Hund", "house": "Haus", "tree": "Baum"}
"""What their tokenizer was trained on."""
BASES: dict[str, tuple[Any, dict[str, Any]]] = {
    "gpt2": ("causal_lm", {"n_embd": 32, "n_layer": 1, "n_head": 2}),
    "bert": (
        "next_sentence",
        {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64},
    ),
    "t5": (
        "span_corruption",
        {"d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 1, "num_heads": 2, "initializer_factor": 0.3},
    ),
}
"""What each was trained for, and its sizes."""


def write_base(folder: Path, family: str) -> None:
    """A model of random weights with its tokenizer."""
    texts = [text for pair in WORDS.items() for text in pair] * 3
    framed = {"begin": family == "bert", "token_types": family == "bert"}
    write_model(folder, family, *BASES[family], texts=texts, longest=_LONGEST, **framed)


def write_model(
    folder: Path,
    family: str,
    learnt: Any,
    sizes: dict[str, Any],
    *,
    texts: list[str],
    longest: int,
    num_entries: int = _VOCAB_SIZE,
    vocab_size: int | None = None,
    **framed: bool,
) -> Path:
    """A model of random weights with a tokenizer of the texts; `vocab_size` where its own is not the tokenizer's."""
    settings = ModelSettings(family=family, sizes=sizes)  # type: ignore[arg-type]
    ids = {"eos_id": OWN_IDS.end, "pad_id": OWN_IDS.pad}
    config = model_config(settings, vocab_size=vocab_size or num_entries, sequence_length=longest, **ids)
    folder.mkdir(parents=True, exist_ok=True)
    build_language_model(learnt, config, seed=1).save_pretrained(folder)  # type: ignore[operator]
    for name, data in hugging_face_files(train_tokenizer(texts, num_entries), longest, **framed).items():
        (folder / name).write_bytes(data)
    return folder


def write_early_or_late(root: Path) -> dict[str, str]:
    """Files of texts whose class hangs on the first word, by split; and a base model for them, `base`."""
    early = [*WORDS][: len(WORDS) // 2]
    rows = [f"{one} {other},{'early' if one in early else 'late'}" for one in WORDS for other in WORDS]
    files = {"train": rows[::2], "validation": rows[1::4], "test": rows[3::4]}
    for split, lines in files.items():
        (root / f"{split}.csv").write_text("\n".join(["text,label", *lines]), encoding="utf-8")
    write_base(root / "base", "bert")
    return {split: str(root / f"{split}.csv") for split in files}


def finetuned(
    base: Path, labelled: str, run: str, task: dict[str, Any], fairness: dict[str, Any] | None = None, **train: Any
) -> dict[str, Any]:
    """The outcome of a fine-tuning of `base` on a set by its URL, in fp32 at ZeRO-3. A collective."""
    from llmcore.cost import Ledger
    from llmcore.train.finetuning import Finetuning
    from llmcore.train.fit import fit
    from llmcore.train.place import Place

    common = {
        "global_batch_size": 5,
        "micro_batch_size": 2,
        "zero_stage": 3,
        "precision": "fp32",
        "log_every": 1,
        "dry_step": True,
    }
    common |= {"optimizer": {"learning_rate": 1e-2}}
    given = {"task": {"max_tokens": 48} | task, "train": common | train, "fairness": fairness}
    settings = FinetuneSettings.model_validate(given)
    recipe = Finetuning(settings, base, EvaluationSet.open(Folder(labelled)), "0" * 64)
    place = Place(Folder(run), attempt=1)
    told: dict[str, Any] = {"report": lambda _: None, "pulse": lambda: None, "ledger": Ledger(1, "cpu")}
    return fit(recipe, place, device=torch.device("cpu"), **told)
