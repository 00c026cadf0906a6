"""What updates the weights, and how fast."""

from typing import Literal

from llmcore.config.base import Section, identity

__all__ = ["OptimizerSettings", "ScheduleSettings"]


class OptimizerSettings(Section):
    """AdamW, or Muon for the matrices with AdamW for the rest."""

    kind: Literal["adamw", "muon"] = identity(
        "adamw",
        description="`muon` is DeepSpeed's: it orthogonalizes the updates of the matrices between embeddings and head; "
        "embeddings, head and vectors stay with AdamW.",
    )
    learning_rate: float = identity(1e-3, gt=0, description="Peak learning rate.")
    head_learning_rate_factor: float = identity(
        1.0,
        gt=0,
        description="Learning rate of a head that stands on a pre-trained model, as a multiple of the others'. What a "
        "language model says of a text's last token differs little from text to text: at 1 a new head learns slowly.",
    )
    layer_learning_rate_decay: float = identity(
        1.0,
        gt=0,
        le=1,
        description="Learning rate of each layer as a multiple of that of the layer behind it: the last one's is this "
        "share of the head's, the embeddings' is the smallest. 1: all learn alike.",
    )
    betas: tuple[float, float] = identity((0.9, 0.95), description="AdamW's two decay rates.")
    epsilon: float = identity(1e-8, gt=0, description="AdamW's epsilon.")
    weight_decay: float = identity(0.1, ge=0, description="Decoupled weight decay of matrices; vectors have none.")
    max_grad_norm: float = identity(
        1.0,
        gt=0,
        description="Gradients are clipped to this global norm; with Muon, whose updates have a norm of their own, "
        "nothing is.",
    )
    muon_learning_rate: float = identity(0.02, gt=0, description="Peak learning rate of Muon's matrices.")
    muon_momentum: float = identity(0.95, ge=0, lt=1, description="Muon's momentum (Nesterov).")


class ScheduleSettings(Section):
    """Learning rate over steps: linear warm-up, then decay."""

    kind: Literal["cosine", "linear", "constant", "stable_decay"] = identity(
        "cosine",
        description="Shape after the warm-up; `stable_decay` stays at the peak and decays at the end (WSD), so that a "
        "run of another length has the same rates until then.",
    )
    decay_fraction: float = identity(
        0.2, gt=0, le=1, description="Share of the steps, the last ones, in which `stable_decay` decays."
    )
    warmup_fraction: float = identity(0.05, ge=0, lt=1, description="Share of the steps spent warming up.")
    warmup_steps: int | None = identity(
        None,
        ge=0,
        description="Steps spent warming up, in place of the share: the same in a run that is extended.",
    )
    final_fraction: float = identity(0.1, ge=0, le=1, description="Learning rate at the end, as a share of the peak.")
