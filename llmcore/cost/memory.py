"""Bytes of tensors that a rank holds in training: what each ZeRO stage shares out, and what it does not."""

from dataclasses import dataclass
from typing import Literal

from llmcore.cost.devices import Precision

__all__ = [
    "SMALLEST_BUCKET",
    "Buckets",
    "ModelSizes",
    "buckets_for",
    "copy_bytes",
    "layer_bytes",
    "peak_bytes",
    "state_bytes",
]

Moment = Literal["step_end", "after_backward"]

_MASTER, _MOMENTS = 4, 8
"""Bytes of a parameter's fp32 master, and of Adam's two fp32 moments."""
SMALLEST_BUCKET = 2**25
"""Elements: 64 MiB in bf16, which any device has to spare."""


@dataclass(frozen=True)
class ModelSizes:
    """What the memory of a model depends on, in elements.

    Attributes:
        num_parameters: Tied ones once.
        largest_layer: Of the largest layer: a block, or a matrix outside of the blocks.
        largest_in_backward: Weights and gradients of the layer that has most of them at once: two of each element, or
            four where a matrix is used twice (tied embeddings), whose gradients are kept apart until they are summed.
        largest_vector: Of the largest parameter with one dimension, but not over 100,000.
        vectors: Of all parameters that are not larger than that: at ZeRO-3 each rank keeps them whole.
        num_trained: Of the parameters, those that have a gradient.
    """

    num_parameters: int
    largest_layer: int
    largest_in_backward: int
    largest_vector: int
    vectors: int
    num_trained: int


@dataclass(frozen=True)
class Buckets:
    """DeepSpeed's buffers at ZeRO-3, in elements.

    Attributes:
        reduce: Gradients on their way to their owners; held all the time, and flat once more while they are summed.
        live: Weights that are gathered, those fetched ahead included.
        update: Parameters that the optimizer updates at once, each rank its share of them.
    """

    reduce: int
    live: int
    update: int


def buckets_for(sizes: ModelSizes, *, at_least: int = SMALLEST_BUCKET) -> Buckets:
    """Buffers that hold one layer, or a few small ones.

    Of DeepSpeed's sizes, half a billion elements and more, they would hold a model of any size we train at once. Of a
    thin layer's size they would be filled so often that a small model's step waits for its collectives.

    Args:
        at_least: elements, where the model has as many.
    """
    room = max(sizes.largest_layer, min(at_least, sizes.num_parameters))
    room += room % 2  # DeepSpeed wants them even
    return Buckets(reduce=min(500_000_000, room), live=min(1_000_000_000, room), update=1_000_000_000)


def state_bytes(
    sizes: ModelSizes,
    *,
    stage: int,
    precision: Precision,
    world_size: int,
    moment: Moment,
    buckets: Buckets | None = None,
) -> float:
    """Bytes that one rank holds between its collectives: weights, optimizer state, gradients, buffers.

    With p parameters of which t train, N ranks and c bytes of a weight (4 in fp32, else 2), K = 4 + 8 for the fp32
    master and the moments, as DeepSpeed 0.19.8 lays them out with Adam:

    | stage | at a step's end | more after backward |
    | 0 | c p + 8 t | c t: gradients |
    | 1, 2 | c p + K t / N | c t / N: gradients of the own share |
    | 3 | (c p + c t + K t) / N + c (v + reduce) | nothing: gradients keep their place |

    At stage 0 in fp32 the weights are their own master. Stages 1 and 2 have one in fp32 as well. They differ while
    the backward pass runs, not after it. At stage 3 v elements are kept whole on each rank (vectors), and a buffer of
    `reduce` elements. Activations are not counted.

    Source: Rajbhandari et al. 2020 (ZeRO, arXiv 1910.02054), 3.1 and 5; the rest is measured by
    `python -m jobs benchmark memory`.
    """
    parameters, trained, weight = sizes.num_parameters, sizes.num_trained, 4 if precision == "fp32" else 2
    if stage == 0:
        return weight * parameters + (_MOMENTS + (weight if moment == "after_backward" else 0)) * trained
    share = trained / world_size
    if stage < 3:
        gradients = weight * share if moment == "after_backward" else 0
        return weight * parameters + (_MASTER + _MOMENTS) * share + gradients
    assert buckets is not None, "at stage 3 its buffers count"
    states = (weight + _MASTER + _MOMENTS) * share + weight * parameters / world_size
    return states + weight * (sizes.vectors + buckets.reduce)


def copy_bytes(sizes: ModelSizes, *, world_size: int) -> float:
    """Bytes of a checkpoint's copy in host memory: masters and moments of one rank's share, in fp32.

    It is read back through less: a buffer that a file's ranges go through.
    """
    return (_MASTER + _MOMENTS) * sizes.num_trained / world_size


def layer_bytes(sizes: ModelSizes, precision: Precision) -> float:
    """Bytes of the largest layer while its backward pass runs: its weights and gradients, whole."""
    return (4 if precision == "fp32" else 2) * sizes.largest_in_backward


def peak_bytes(sizes: ModelSizes, *, precision: Precision, world_size: int, buckets: Buckets) -> float:
    """The most that a rank holds at ZeRO-3 at any time: its share, and the largest layer and the buckets.

    Either the largest layer is in its backward pass, with the buckets full; or the optimizer updates, and the
    gradients of as many parameters as it takes at once stand there flat, and again in fp32 where they are not.
    """
    weight = 4 if precision == "fp32" else 2
    share = state_bytes(sizes, stage=3, precision=precision, world_size=world_size, moment="step_end", buckets=buckets)
    summed = buckets.reduce * (1 + 1 / world_size)  # and each rank's part of the sum
    backward = layer_bytes(sizes, precision) + weight * (buckets.live + summed)
    update = min(buckets.update, sizes.num_parameters / world_size) * (4 if weight == 4 else weight + 4)
    return share + max(backward, update)
