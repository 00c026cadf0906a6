"""Tiny base models of four families, fine-tuned on real ranks by each method, and by plain transformers and peft."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
)

from llmcore.config.method import MethodSettings
from llmcore.config.model import ModelSettings
from llmcore.config.train import TrainSettings
from llmcore.models.build import build_language_model, load_language_model, model_config
from llmcore.models.encoder_decoder import PackedPair, encoder_decoder_logits
from llmcore.models.initialize import Home
from llmcore.models.methods import apply_method
from llmcore.models.packed import PackedBatch
from llmcore.objectives.causal_lm import CausalLM
from llmcore.tasks.text_classification import ClassExample, TextClassification
from llmcore.tokens.order import share
from llmcore.train.deepspeed_config import num_micro_batches
from llmcore.train.rows import split_evenly
from tests.engines import tiny_settings
from tests.plain_loop import Document

if TYPE_CHECKING:
    from llmcore.train.engine import Engine

__all__ = [
    "CLASSIFIERS",
    "FAMILIES",
    "LORA",
    "NUM_STEPS",
    "build",
    "documents",
    "fine_tuning",
    "logits",
    "plain_base",
    "plain_logits",
    "settings",
    "steps",
    "write_base",
]

FAMILIES = ("gpt2", "llama", "bert", "t5")
CLASSIFIERS = ("llama", "bert")
"""They get a head; GPT-2 and T5 go on writing."""
NUM_STEPS = 10
GLOBAL_BATCH = 7
LORA = MethodSettings(name="lora", rank=4, alpha=8)
_VOCAB, _END, _PAD, _CLASSES = 50, 0, 1, ("a", "b", "c")
_SIZES: dict[str, dict[str, Any]] = {
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 2},
    "llama": {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2},
    "bert": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64},
    "t5": {"d_model": 32, "d_ff": 64, "d_kv": 16, "num_layers": 2, "num_heads": 2},
}
_LEARNT: dict[str, Any] = {"gpt2": "causal_lm", "llama": "causal_lm", "bert": "masked_lm", "t5": "span_corruption"}
_PLAIN: dict[str, Any] = {
    "gpt2": AutoModelForCausalLM,
    "llama": AutoModelForSequenceClassification,
    "bert": AutoModelForSequenceClassification,
    "t5": AutoModelForSeq2SeqLM,
}
_TASK = TextClassification(16, "macro_f1", _CLASSES)


def _texts() -> list[list[int]]:
    generator = torch.Generator().manual_seed(4)
    lengths = torch.randint(3, 10, (13,), generator=generator).tolist()
    return [torch.randint(2, _VOCAB, (length,), generator=generator).tolist() for length in lengths]


TEXTS = _texts()


def write_base(family: str, folder: Path) -> None:
    """A model of random weights, as a pre-training would leave it: a classifier's head is not there."""
    sizes = ModelSettings.model_validate({"family": family, "sizes": _SIZES[family]})
    config = model_config(sizes, vocab_size=_VOCAB, sequence_length=16, eos_id=_END, pad_id=_PAD)
    plain = {"bert": AutoModelForMaskedLM, "t5": AutoModelForSeq2SeqLM}.get(family, AutoModelForCausalLM)
    model: Any = plain.from_config(config)
    model.load_state_dict(build_language_model(_LEARNT[family], config, seed=2).state_dict())
    model.save_pretrained(folder)


@dataclass(frozen=True)
class _Written:
    """T5 writes each text backwards."""

    def num_targets(self, batch: PackedPair) -> tuple[int]:
        return (batch.target.num_tokens(),)

    def num_tokens(self, batch: PackedPair) -> int:
        return batch.source.num_tokens() + batch.target.num_tokens()

    def loss_sums(self, model: nn.Module, batch: PackedPair) -> Tensor:
        logits = encoder_decoder_logits(model, batch)
        return functional.cross_entropy(logits, batch.target.tokens.flatten(), reduction="sum")[None]


def objective(family: str) -> Any:
    return {"gpt2": CausalLM(), "t5": _Written()}.get(family, _TASK)


def batch_of(family: str, rows: Sequence[int]) -> Any:
    texts = [TEXTS[row] for row in rows]
    if family in CLASSIFIERS:
        classes = [(row % len(_CLASSES),) for row in rows]
        return _TASK.collate([ClassExample(text, 0, of_row) for text, of_row in zip(texts, classes, strict=True)])
    packed = PackedBatch.of_documents(texts)
    return packed if family == "gpt2" else PackedPair(packed, PackedBatch.of_documents([text[::-1] for text in texts]))


def _rows(step: int, part: range) -> list[int]:
    return [(step * GLOBAL_BATCH + place) % len(TEXTS) for place in part]


def documents(family: str, step: int) -> list[Document]:
    """Those of a global batch, as plain transformers reads them."""
    found: list[Document] = []
    for row in _rows(step, range(GLOBAL_BATCH)):
        text = torch.tensor([TEXTS[row]])
        if family in CLASSIFIERS:
            found.append(({"input_ids": text}, (torch.tensor([row % len(_CLASSES)]),)))
        elif family == "gpt2":
            found.append(({"input_ids": text}, (functional.pad(text[:, 1:], (0, 1), value=-100),)))
        else:
            target = text.flip(1)
            found.append(({"input_ids": text, "labels": target}, (target,)))
    return found


def settings(stage: int, **changes: Any) -> TrainSettings:
    own: dict[str, Any] = {"num_steps": NUM_STEPS, "global_batch_size": GLOBAL_BATCH}
    own["schedule"] = {"kind": "constant", "warmup_fraction": 0.2}
    return tiny_settings(stage, **own | changes)


def build(family: str, folder: Path, method: MethodSettings, home: Home | None = None) -> nn.Module:
    """The base model, with a classifier's head where it gets one, ready to be trained by the method."""
    model: nn.Module
    if family in CLASSIFIERS:
        model = _TASK.build_model(folder, seed=5, random_weights=False, home=home)
    else:
        model = load_language_model(_LEARNT[family], folder, vocab_size=_VOCAB, seed=5, home=home)
    apply_method(model, method, seed=5, home=home)
    return model


def plain_base(family: str, folder: Path, whole: nn.Module) -> Any:
    """The base in plain transformers; a head that it does not have is that of `whole`, our own model of it."""
    config = AutoConfig.from_pretrained(folder)
    if family in CLASSIFIERS:
        config.num_labels = len(_CLASSES)
    model = _PLAIN[family].from_pretrained(folder, config=config, attn_implementation="eager")
    model.load_state_dict(whole.state_dict())
    return model.train()


def fine_tuning(family: str, folder: Path, method: MethodSettings, stage: int, **changes: Any) -> Any:
    """An engine on this process group."""
    from llmcore.train.engine import Engine, parameter_home

    train, device = settings(stage, **changes), torch.device("cpu")
    precision: Any = train.precision
    model = build(family, folder, method, parameter_home(train, precision, device))
    num_steps = train.num_steps or 0
    return Engine(model, objective(family), train, num_steps=num_steps, precision=precision, device=device)


def steps(engine: "Engine", family: str, first: int, last: int) -> list[float]:
    """The losses of these steps. A collective."""
    rank, world_size = distributed.get_rank(), distributed.get_world_size()
    num_parts, losses = num_micro_batches(engine.settings, world_size), []
    for step in range(first, last):
        rows = _rows(step, share(GLOBAL_BATCH, world_size, rank))
        parts = split_evenly(rows, num_parts, engine.settings.micro_batch_size)
        losses.append(engine.step(step, [batch_of(family, part) for part in parts]).loss)
    return losses


def logits(engine: "Engine", family: str) -> Tensor:
    """What the engine's model says of all texts, [places, classes]. A collective."""

    def measured(model: nn.Module, batch: Any) -> Tensor:
        if family in CLASSIFIERS:
            return _TASK.logits(model, batch)
        if family == "t5":
            return encoder_decoder_logits(model, batch)
        return model.get_output_embeddings()(_hidden(model, batch))  # type: ignore[no-any-return, operator]

    with engine.evaluating():
        return torch.tensor(engine.measure(batch_of(family, range(len(TEXTS))), measured))


def _hidden(model: nn.Module, batch: PackedBatch) -> Tensor:
    from llmcore.models.packed import hidden_states

    return hidden_states(model, batch).flatten(0, 1)


def plain_logits(model: Any, family: str) -> Tensor:
    """The same of a plain model, text by text."""
    found = []
    with torch.no_grad():
        for text in TEXTS:
            inputs = {"input_ids": torch.tensor([text])}
            if family == "t5":
                inputs["labels"] = inputs["input_ids"].flip(1)
            said = model.eval()(**inputs).logits
            found.append(said if family in CLASSIFIERS else said[0])
    return torch.cat(found)
