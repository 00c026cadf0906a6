"""From prompts to answers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from transformers import GenerationConfig

from llmcore.config.generation import GenerationSettings
from llmcore.errors import ConfigError
from llmcore.models.device import own_device
from llmcore.models.generation.batches import batches, padded
from llmcore.models.generation.beams import BeamWatch
from llmcore.models.generation.choice import RepetitionPenalty, TokenChoice
from llmcore.models.generation.endings import Ended, Endings, Reason
from llmcore.models.generation.loading import load_writer
from llmcore.models.generation.prompts import encode_prompts, end_ids, fit_prompts, num_positions
from llmcore.models.generation.scoring import loss_sums

__all__ = ["Answer", "Generated", "Generator"]

_OWN_IDS = (
    "bos_token_id",
    "decoder_start_token_id",
    "eos_token_id",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "pad_token_id",
)
"""What a folder says of generation and counts: its special tokens. How to generate is said by the settings alone."""


class Answer(NamedTuple):
    """What a model says to a prompt.

    Attributes:
        text: Before what ended it, without special tokens.
        tokens: Ids that were generated, with those that ended it.
        reason: Why it ended.
        log_likelihood: Of its tokens after the prompt, in nats, by the model itself, whatever drew them.
    """

    text: str
    tokens: tuple[int, ...]
    reason: Reason
    log_likelihood: float


class Generated(NamedTuple):
    """Answers to prompts, in their order; how many prompts were cut, and how many answers were taken again, alone."""

    answers: list[list[Answer]]
    num_cut: int
    num_again: int


@dataclass(frozen=True)
class _Row:
    """One answer to be given: the tokens it goes on from, and what its random numbers are keyed by."""

    prompt: list[int]
    key: tuple[int, int]


class Generator:
    """A model with its tokenizer that answers prompts of tokens, and says how likely it finds answers."""

    def __init__(self, model: Any, tokenizer: Any) -> None:
        """`model` has transformers' own attention, and is this object's alone: what it says of generation changes."""
        said = model.generation_config
        self._end_ids = end_ids(said, tokenizer)
        own: dict[str, Any] = {name: getattr(said, name, None) for name in _OWN_IDS}
        own["eos_token_id"] = sorted(self._end_ids) or None
        if own["pad_token_id"] is None:  # It is masked, so any will do.
            own["pad_token_id"] = min(self._end_ids, default=0)
        self._pad_id: int = own["pad_token_id"]
        model.generation_config = GenerationConfig(**own)
        self.model, self.tokenizer = model, tokenizer

    @classmethod
    def load(
        cls, folder: Path, *, device: torch.device | None = None, dtype: torch.dtype = torch.float32
    ) -> "Generator":
        """That of a local Hugging Face folder, on this process' own device where none is given.

        Raises ConfigError where it is none that writes.
        """
        return cls(*load_writer(folder, device=device or own_device(), dtype=dtype))

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of texts as the tokenizer frames them, for a decoder to go on from, or an encoder to read."""
        return encode_prompts(self.model.config, self.tokenizer, texts)

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        settings: GenerationSettings,
        *,
        rows: Sequence[int] | None = None,
        advance: Callable[[int], None] = lambda _: None,
        streamer: Any = None,
    ) -> Generated:
        """Answers to prompts of token ids; each is what the prompt alone would get, in fp32.

        Args:
            prompts: for a decoder, what it goes on from; for an encoder-decoder, what is encoded, its end included.
            settings: how.
            rows: what each prompt's random numbers are keyed by; without them, its place.
            advance: told how many more answers there are.
            streamer: one of transformers', told of each token as it comes; for one prompt and one answer.

        Raises:
            ConfigError: a prompt is empty, or has no room in the model.
        """
        fitted = fit_prompts(self.model.config, prompts, settings)
        keyed = zip(fitted.prompts, rows if rows is not None else range(len(prompts)), strict=True)
        wanted = [_Row(prompt, (row, sample)) for prompt, row in keyed for sample in range(settings.samples)]
        ended: list[Ended | None] = [None] * len(wanted)
        again = []
        budget, lengths = settings.batch_tokens, [len(row.prompt) for row in wanted]
        for batch in batches(lengths, budget, extra=settings.max_new_tokens, width=settings.beams):
            found, uncertain = self._together([wanted[index] for index in batch], settings, streamer)
            for index, answer, unsure in zip(batch, found, uncertain, strict=True):
                if unsure:
                    again.append(index)
                else:
                    ended[index] = answer
            advance(len(batch) - sum(uncertain))
        for index in again:
            [ended[index]], _ = self._together([wanted[index]], settings, streamer)
            advance(1)
        return Generated(self._grouped(wanted, ended, settings), fitted.num_cut, len(again))

    def score(
        self, prompts: Sequence[Sequence[int]], continuations: Sequence[Sequence[int]], *, batch_tokens: int = 8192
    ) -> list[tuple[float, int]]:
        """Of each continuation of a prompt, the sum of its tokens' cross-entropies (nats), and how many they are.

        Raises:
            ConfigError: a prompt is empty, or one with its continuation is longer than the model.
        """
        longest = num_positions(self.model.config)
        encodes = self.model.config.is_encoder_decoder
        for number, (prompt, continuation) in enumerate(zip(prompts, continuations, strict=True)):
            if not prompt:
                raise ConfigError(f"prompt {number} is empty: give at least one token before what is scored")
            size = max(len(prompt), len(continuation)) if encodes else len(prompt) + len(continuation)
            if longest is not None and size > longest:
                raise ConfigError(f"row {number} has {size} tokens, more than the model's {longest}: score parts of it")
        sums = loss_sums(self.model, prompts, continuations, batch_tokens=batch_tokens)
        return [(loss, len(continuation)) for loss, continuation in zip(sums, continuations, strict=True)]

    def _together(
        self, rows: Sequence[_Row], settings: GenerationSettings, streamer: Any
    ) -> tuple[list[Ended], list[bool]]:
        """The rows' answers from one batch, and whether each may be another alone."""
        encodes = bool(self.model.config.is_encoder_decoder)
        tokens, mask = padded([row.prompt for row in rows], self._pad_id, left=not encodes)
        tokens, mask = tokens.to(self.model.device), mask.to(self.model.device)
        start = 1 if encodes else tokens.shape[1]  # An encoder-decoder's answer has its start token before it.
        endings = Endings(self.tokenizer, self._end_ids, tuple(settings.stop))
        # Half precision differs too much for that: there, a batch's answers are its own.
        watch = len(rows) > 1 and self.model.dtype == torch.float32
        processors: list[Any] = []
        criteria: list[Any] = [lambda ids, scores, **_: endings.stopped(start, ids)] if settings.stop else []
        if settings.repetition_penalty != 1.0:
            before = torch.zeros_like(mask[:, :1]) if encodes else 1 - mask
            padding = before.bool().repeat_interleave(settings.beams, dim=0)
            processors.append(RepetitionPenalty(settings.repetition_penalty, padding))
        if settings.method == "beam":
            beams = BeamWatch(
                len(rows),
                settings.beams,
                num_ends=len(self._end_ids),
                length_penalty=_length_penalty(settings),
                start=start,
                ended=partial(endings.ended, start, settings.max_new_tokens),
            )
            if watch:
                processors.append(beams.process)
                criteria.append(beams.look)
            uncertain = beams.uncertain
        else:
            choice = TokenChoice(settings, [row.key for row in rows], watch=watch)
            processors.append(choice)
            uncertain = choice.uncertain
        with torch.inference_mode():
            generated = self.model.generate(
                input_ids=tokens,
                attention_mask=mask,
                generation_config=_generation_config(settings),
                logits_processor=processors,
                stopping_criteria=criteria,
                streamer=streamer,
            )
        return [endings.cut(answer) for answer in generated[:, start:].tolist()], uncertain.tolist()

    def _grouped(self, rows: Sequence[_Row], ended: Sequence[Ended | None], settings: GenerationSettings) -> Any:
        """The answers of each prompt, with how likely the model finds them."""
        done = [answer for answer in ended if answer is not None]
        losses = loss_sums(
            self.model,
            [row.prompt for row in rows],
            [answer.tokens for answer in done],
            batch_tokens=settings.batch_tokens,
        )
        answers = [
            Answer(answer.text, tuple(answer.tokens), answer.reason, -loss)
            for answer, loss in zip(done, losses, strict=True)
        ]
        return [answers[first : first + settings.samples] for first in range(0, len(answers), settings.samples)]


def _generation_config(settings: GenerationSettings) -> GenerationConfig:
    """What transformers is told: what is drawn, is drawn by TokenChoice."""
    config = GenerationConfig(max_new_tokens=settings.max_new_tokens, do_sample=False, num_beams=settings.beams)
    if settings.method == "beam":
        config.length_penalty = _length_penalty(settings)
    return config


def _length_penalty(settings: GenerationSettings) -> float:
    return 1.0 if settings.length_penalty is None else settings.length_penalty
