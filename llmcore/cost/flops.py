"""Floating-point operations that a transformer needs: what rows ask of it, and what it does for each of that."""

from dataclasses import dataclass
from operator import mul
from typing import NamedTuple

__all__ = ["ModelFlops", "Work"]


class Work(NamedTuple):
    """What rows ask of a model: how many places its matrices multiply at, and how many pairs of positions meet.

    Attributes:
        read: Tokens through the stack that reads: a decoder's, an encoder's.
        written: Tokens through the decoder of an encoder-decoder.
        predicted: Places that the head reads.
        pooled: Documents whose first state is pooled.
        read_pairs: In the stack that reads, of each document its length squared.
        written_pairs: The same of the decoder of an encoder-decoder.
        crossed_pairs: Of each document what is written times what is read.
    """

    read: float = 0.0
    written: float = 0.0
    predicted: float = 0.0
    pooled: float = 0.0
    read_pairs: float = 0.0
    written_pairs: float = 0.0
    crossed_pairs: float = 0.0

    def per(self, number: float) -> "Work":
        """A `number`th of it."""
        return Work(*(each / number for each in self))


@dataclass(frozen=True)
class ModelFlops:
    """FLOPs of a model for each unit of work, forward, and forward and backward together.

    A matrix of n elements takes 2 n at each place: a multiplication and an addition. In a layer whose attention has d =
    heads x head size dimensions, a pair of positions takes 2 d where query meets key, and 2 d where its weight meets
    the value. Look-ups, norms, biases and the softmax are left out. The backward pass is twice the forward pass:
    gradients of the inputs, and of the weights, which a frozen matrix has none of; layers that stand before everything
    that trains have none at all.

    Pairs count as they are computed, also where a causal mask discards half of them afterwards. Activations that are
    computed anew do not count: this is what the model needs, and so makes MFU, not hardware utilization.

    Source: Chowdhery et al. 2022 (PaLM, arXiv 2204.02311), appendix B; Kaplan et al. 2020 (arXiv 2001.08361), 2.1.
    """

    forward: Work
    training: Work

    def of_forward(self, work: Work) -> float:
        """FLOPs of the forward pass."""
        return float(sum(map(mul, self.forward, work)))

    def of_training(self, work: Work) -> float:
        """FLOPs of the forward and the backward pass."""
        return float(sum(map(mul, self.training, work)))
