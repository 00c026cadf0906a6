"""The next token of each row: the likeliest, or one that is drawn."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from transformers import RepetitionPenaltyLogitsProcessor

from llmcore.config.generation import GenerationSettings

__all__ = ["RepetitionPenalty", "TokenChoice", "tolerance"]

_RELATIVE = 1e-5


def tolerance(logits: Tensor) -> Tensor:
    """How far logits [..., vocabulary] may be off through the order of sums in fp32, and some more: [..., 1].

    By how far the largest stands out, among those that are not ruled out (−inf). Seen between a batch of 32 and each
    row alone: 1e-6 at a spread of 2, a twentieth of this.
    """
    allowed = logits.isfinite()
    mean = logits.where(allowed, 0.0).sum(-1, keepdim=True) / allowed.sum(-1, keepdim=True)
    return _RELATIVE * (logits.amax(-1, keepdim=True) - mean).clamp(min=1.0)


class TokenChoice:
    """Turns logits into scores whose largest is the token to take; transformers' `generate` takes it as a processor.

    A token is drawn by the Gumbel-max trick (Gumbel, 1954): the largest of logits plus noise is a draw from their
    softmax. Each row's noise comes from a generator keyed by (seed, row, sample), so a draw depends on nothing else;
    and a small difference in the logits changes it only where two scores nearly tie.

    Attributes:
        uncertain: Whether a decision of the row was a near tie, bool [rows]; never, unless it is watched for.
    """

    def __init__(self, settings: GenerationSettings, keys: Sequence[tuple[int, int]], *, watch: bool) -> None:
        """`keys` are (row, sample) of each row."""
        self._settings = settings
        self._watch = watch
        self._noise = [np.random.default_rng((settings.seed, *key)) for key in keys] if self._draws else []
        self.uncertain = torch.zeros(len(keys), dtype=torch.bool)

    @property
    def _draws(self) -> bool:
        return self._settings.method == "sample"

    def __call__(self, input_ids: Tensor, logits: Tensor) -> Tensor:
        """Scores [rows, vocabulary] of the tokens that come next. `input_ids` are not looked at."""
        near = tolerance(logits) if self._watch else None
        if not self._draws:
            self._note(logits, near)
            return logits
        heat = self._settings.temperature or 1.0
        logits = logits / heat
        scores = logits + self._drawn_noise(logits)
        if self._settings.top_p is None and self._settings.top_k is None:
            self._note(scores, None if near is None else near / heat)
            return scores
        ranked = _Ranked.of(logits, self._settings)
        if near is not None:
            near = near / heat
            # Whoever may be kept takes part, and the winner is sure if it is kept in any case.
            possible = logits >= ranked.last_kept(near) - near
            sure = logits >= ranked.first_dropped(-near) + near
            self._note(scores.masked_fill(~possible, -torch.inf), near, sure)
        return scores.masked_fill(logits < ranked.last_kept(), -torch.inf)

    def _note(self, scores: Tensor, near: Tensor | None, sure: Tensor | None = None) -> None:
        if near is None:
            return
        values, tokens = scores.topk(min(2, scores.shape[-1]))
        uncertain = values[:, :1] - values[:, -1:] < near
        if sure is not None:
            uncertain |= ~sure.gather(-1, tokens[:, :1])
        self.uncertain |= uncertain[:, 0].cpu()

    def _drawn_noise(self, logits: Tensor) -> Tensor:
        """Standard Gumbel noise, [rows, vocabulary]."""
        waits = np.stack([noise.standard_exponential(logits.shape[-1], dtype=np.float32) for noise in self._noise])
        return -torch.from_numpy(waits).clamp(min=torch.finfo(torch.float32).tiny).log().to(logits.device)


class _Ranked(NamedTuple):
    """The likeliest tokens of each row, from which is drawn.

    The `top_k` likeliest (Fan et al., 2018), and of those the fewest that have `top_p` of the probability together
    (Holtzman et al., 2020, section 3.1); always one.

    Attributes:
        logits: In falling order, and one that is not drawn from in any case: [rows, tokens + 1].
        mass: Of the tokens before each, float64 [rows, tokens].
        top_p: As it is set.
    """

    logits: Tensor
    mass: Tensor
    top_p: float

    @classmethod
    def of(cls, logits: Tensor, settings: GenerationSettings) -> "_Ranked":
        """Of logits [rows, vocabulary]."""
        num_kept = min(settings.top_k or logits.shape[-1], logits.shape[-1])
        ordered = functional.pad(logits, (0, 1), value=-torch.inf).topk(num_kept + 1).values
        mass = ordered[:, :-1].double().softmax(-1)
        return cls(ordered, mass.cumsum(-1) - mass, settings.top_p or 1.0)

    def last_kept(self, leeway: Tensor | float = 0.0) -> Tensor:
        """The smallest logit that is drawn from if the nucleus has `leeway` more of the probability: [rows, 1]."""
        return self.logits.gather(-1, self._num_kept(leeway) - 1)

    def first_dropped(self, leeway: Tensor | float = 0.0) -> Tensor:
        """The largest logit that is not drawn from, then: [rows, 1]."""
        return self.logits.gather(-1, self._num_kept(leeway))

    def _num_kept(self, leeway: Tensor | float) -> Tensor:
        if self.top_p == 1.0:  # The sum may reach 1 before its last terms.
            return torch.full_like(self.logits[:, :1], self.mass.shape[-1], dtype=torch.int64)
        return (self.mass < self.top_p + leeway).sum(-1, keepdim=True).clamp(min=1)


class RepetitionPenalty:
    """That of transformers (Keskar et al., 2019, section 4.1), but padding is no text: it penalizes nothing."""

    def __init__(self, penalty: float, padding: Tensor) -> None:
        """`padding`: whether a token is, bool [rows, length of the prompts]; the last one never is."""
        self._penalized = RepetitionPenaltyLogitsProcessor(penalty)
        self._padding = padding

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Scores [rows, vocabulary] with those of the tokens in `input_ids` [rows, length] penalized."""
        length = self._padding.shape[1]
        prompts = input_ids[:, :length]
        prompts = torch.where(self._padding, prompts[:, -1:], prompts)
        penalized: Tensor = self._penalized(torch.cat([prompts, input_ids[:, length:]], dim=1), scores)
        return penalized
