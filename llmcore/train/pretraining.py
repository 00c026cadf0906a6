"""Pre-training: a model from random weights, or from a folder, on packed rows of token shards."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor, nn

from llmcore.config.pretrain import PretrainSettings
from llmcore.cost.flops import Work
from llmcore.evaluation.compared import LOSS
from llmcore.models.build import build_language_model, config_for_tokens, load_language_model
from llmcore.models.generation.choice import TokenChoice
from llmcore.models.generation.samples import continue_together, sampling
from llmcore.models.initialize import Home
from llmcore.models.packed import PackedBatch, hidden_states
from llmcore.objectives import objective_of
from llmcore.storage import Folder
from llmcore.tokens.schema import of_one_piece
from llmcore.tokens.shards import TokenShards
from llmcore.tokens.tokenizer import load_tokenizer
from llmcore.tokens.vocabulary import Vocabulary
from llmcore.train.cards import pretraining_card
from llmcore.train.engine import Engine
from llmcore.train.held_out import HeldOut
from llmcore.train.lengths import num_steps
from llmcore.train.progress import Progress
from llmcore.train.validation import validate_language_model

__all__ = ["Pretraining"]

_SAMPLE_TOKENS = 40
Stream = Callable[[int], Iterator[pa.Table]]


class Pretraining:
    """The recipe; `stream(first_step)` gives this rank's rows of each step, which become `num_parts` micro batches.

    `foundation`: the folder of the model that it begins with, if that is not one of random weights. `validation_sets`:
    by name, token shards whose validation splits are measured besides that of `shards`.
    """

    exports_every_time = False
    compared = LOSS

    def __init__(
        self,
        config: PretrainSettings,
        shards: TokenShards,
        stream: Stream,
        num_parts: int,
        foundation: Folder | None = None,
        validation_sets: Mapping[str, TokenShards] = MappingProxyType({}),
    ) -> None:
        self.config = config
        self.settings = config.train
        self.shards = shards
        self.num_steps = num_steps(config.train, shards.num_rows("train"))
        self.tokenizer = shards.tokenizer_path()
        self.objective = objective_of(config, shards)
        self._validation = HeldOut("validation", shards, self.objective, config.validation_rows)
        self._further = {
            name: HeldOut(f"validation_{name}", further, self.objective, config.validation_rows)
            for name, further in validation_sets.items()
        }
        self._foundation = foundation
        self._stream = stream
        self._num_parts = num_parts

    def step_batches(self, first_step: int) -> Iterator[Sequence[Any]]:
        """This rank's micro batches of each step, from `first_step` on."""
        for rows in self._stream(first_step):
            yield self.objective.micro_batches(rows, self._num_parts, self.settings.micro_batch_size)

    def build_model(self, home: Home | None) -> nn.Module:
        """Random weights, or those it begins with; the same on every rank."""
        learnt, seed = self.config.learnt, self.settings.seed
        if self._foundation is not None:
            folder = self._foundation.as_local()
            return load_language_model(learnt, folder, vocab_size=self.shards.vocab_size, seed=seed, home=home)
        config = config_for_tokens(self.config.model, self.shards, self.objective.num_extra_positions)
        return build_language_model(learnt, config, seed=seed, home=home)

    @cached_property
    def _never_guessed(self) -> torch.Tensor:
        """Tokens that are in the rows and no targets of the objective, int64 [n]: the special ones are never masked."""
        if self.config.objective != "masked_lm":
            return torch.empty(0, dtype=torch.int64)
        return torch.from_numpy(np.flatnonzero(Vocabulary.of(self.tokenizer).is_special))

    def validate(self, engine: Engine) -> dict[str, float]:
        """Loss of the validation rows, and of the train unigrams on the same targets; of further sets; and of pairs."""
        counts = torch.from_numpy(self.shards.unigram_counts().astype(np.float64))
        counts[self._never_guessed] = 0
        batch_rows = self.settings.micro_batch_size
        others = ["next_sentence"] if self.config.next_sentence else []
        metrics = validate_language_model(engine, self._validation, batch_rows, others, counts)
        for further in self._further.values():
            metrics |= validate_language_model(engine, further, batch_rows, others)
        return metrics

    def probe_batch(self) -> Any:
        """The first validation rows."""
        return self._validation.batch(range(min(2, len(self._validation))))

    def longest_batch(self) -> Any:
        """Full rows of one document each, or of one pair."""
        size = self.settings.micro_batch_size
        table = self._validation.table([row % len(self._validation) for row in range(size)])
        return self.objective.micro_batches(of_one_piece(table), 1, size)[0]

    def samples(self, engine: Engine) -> list[dict[str, str]]:
        """The configured prompts, continued; the same on every rank."""
        prompts = self.config.sample_prompts
        if not prompts:
            return []
        tokenizer = load_tokenizer(self.shards.tokenizer_folder())
        keys = [(row, 0) for row in range(len(prompts))]
        choice = TokenChoice(sampling(_SAMPLE_TOKENS, self.settings.seed), keys, watch=False)

        def next_tokens(model: Any, batch: PackedBatch) -> Tensor:
            last = hidden_states(model, batch).flatten(0, 1)[batch.last_tokens()]
            return choice(batch.tokens, model.get_output_embeddings()(last).float()).argmax(-1)

        ids = [tokenizer(prompt, add_special_tokens=False)["input_ids"] for prompt in prompts]
        with engine.evaluating():
            texts = continue_together(
                lambda texts: engine.measure(PackedBatch.of_documents(texts), next_tokens),
                ids,
                _SAMPLE_TOKENS,
                self.shards.sequence_length,
            )
        return [
            {"prompt": prompt, "text": tokenizer.decode(text[len(start) :], skip_special_tokens=True)}
            for prompt, start, text in zip(prompts, ids, texts, strict=True)
        ]

    def told(self) -> dict[str, Any]:
        """Nothing: the job itself knows the token shards."""
        return {}

    def work_per_token(self) -> Work:
        """Measured on up to 256 validation rows."""
        rows = range(min(256, len(self._validation)))
        batch = self._validation.batch(rows)
        return self.objective.work(batch).per(self.objective.num_tokens(batch))

    @cached_property
    def _family(self) -> str:
        if self._foundation is None:
            assert self.config.model.family is not None
            return self.config.model.family
        return str(self._foundation.read_json("config.json")["model_type"])

    @cached_property
    def _end_of_text(self) -> str:
        tokenizer = load_tokenizer(self.shards.tokenizer_folder())
        return str(tokenizer.convert_ids_to_tokens(self.shards.about["special_ids"]["end"]))

    def describe(self, progress: Progress, metrics: dict[str, float]) -> tuple[dict[str, Any], str]:
        """What the manifest and the model card say."""
        about = {
            "objective": self.config.objective,
            "step": progress.step,
            "tokens_seen": progress.tokens_seen,
            "metrics": metrics,
            "num_validation_rows": len(self._validation),
            "validation_sets": {
                name: {"num_rows": len(further), "tokens_sha256": further.shards.manifest.sha256}
                for name, further in self._further.items()
            },
            "tokens_sha256": self.shards.manifest.sha256,
            "decontaminated": self.shards.about.get("decontaminated", []),
        }
        card = pretraining_card(
            self.config,
            family=self._family,
            sources=self.shards.about["sources"],
            tokens_seen=progress.tokens_seen,
            step=progress.step,
            sequence_length=self.shards.sequence_length,
            metrics=metrics,
            end_of_text=self._end_of_text,
        )
        return about, card
