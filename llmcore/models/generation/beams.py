"""Whether a beam search had to decide between candidates that nearly tie."""

from collections.abc import Callable

import torch
from torch import Tensor

from llmcore.models.generation.choice import tolerance

__all__ = ["BeamWatch"]

_DEAD = -1e9
"""What transformers adds to the score of a beam that is out."""


class BeamWatch:
    """Follows transformers' beam search of several prompts, as a logits processor and a stopping criterion of it.

    What it decides in a step: which candidates go on, which end among the best, which of those that ended are kept,
    and whether one that goes on could still be better than all of them.

    Attributes:
        uncertain: Whether one of these was a near tie, bool [prompts].
    """

    def __init__(
        self,
        num_prompts: int,
        num_beams: int,
        *,
        num_ends: int,
        length_penalty: float,
        start: int,
        ended: Callable[[Tensor], Tensor],
    ) -> None:
        """Of `num_ends` tokens that end a text; `ended` says which texts [rows, length] have, bool [rows].

        `start`: tokens before the answer's first.
        """
        self._num_beams, self._start, self._ended = num_beams, start, ended
        self._num_candidates = max(2, 1 + num_ends) * num_beams
        self._length_penalty = length_penalty
        self._running = torch.full((num_prompts, num_beams), _DEAD)
        self._running[:, 0] = 0.0
        self._finished = torch.full((num_prompts, num_beams), -torch.inf)
        self._closed = torch.zeros(num_prompts, dtype=torch.bool)
        self._values = self._near = torch.empty(0)
        self.uncertain = torch.zeros(num_prompts, dtype=torch.bool)

    def process(self, input_ids: Tensor, log_probs: Tensor) -> Tensor:
        """Takes note of the best candidates of a step; log-probabilities [prompts × beams, vocabulary] stay."""
        num_prompts, num_beams = self._running.shape
        by_prompt = log_probs.view(num_prompts, num_beams, -1)
        total = (by_prompt + self._running.to(log_probs.device)[..., None]).flatten(1)
        # One more than the search keeps: the nearest that is left out.
        self._values = total.topk(self._num_candidates + 1).values.cpu()
        steps = input_ids.shape[1] - self._start + 1
        self._near = tolerance(by_prompt).amax((1, 2)).cpu()[:, None] * steps**0.5
        return log_probs

    def look(self, input_ids: Tensor, scores: object, **_: object) -> Tensor:
        """Follows what the search makes of its candidates [prompts × candidates, length]; ends none of them."""
        num_beams, values, near = self._num_beams, self._values[:, :-1], self._near
        ended = self._ended(input_ids).view(values.shape).cpu()
        scale = (input_ids.shape[1] - self._start) ** self._length_penalty

        going_on = values + ended * _DEAD
        ordered = torch.cat([going_on, self._values[:, -1:]], dim=1).sort(descending=True).values
        last = ordered[:, num_beams - 1, None]
        unsure = (last - ordered[:, num_beams, None] < near) & (last > _DEAD / 2)
        best_end = values[:, num_beams - 1, None] - values[:, num_beams, None] < near
        unsure |= best_end & ended.any(1, keepdim=True)
        self._running = going_on.topk(num_beams).values

        new = (values / scale)[:, :num_beams].masked_fill(~ended[:, :num_beams], -torch.inf)
        merged = torch.cat([self._finished, new], dim=1).sort(descending=True).values
        gaps = (merged[:, :num_beams] - merged[:, 1 : num_beams + 1]).nan_to_num(nan=torch.inf)
        unsure |= gaps.amin(1, keepdim=True) < near / scale
        self._finished = merged[:, :num_beams]

        worst, best = self._finished[:, -1:], self._running[:, :1] / scale
        unsure |= (best - worst).abs() < near / scale
        self.uncertain |= unsure[:, 0] & ~self._closed
        self._closed |= (best <= worst)[:, 0]
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)
