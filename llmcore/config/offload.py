"""Where ZeRO keeps what does not fit the device."""

from typing import Literal

from llmcore.config.base import Section, flagged

__all__ = ["OffloadSettings"]

Device = Literal["none", "cpu"]


class OffloadSettings(Section):
    """Optimizer state and parameters in the host's memory: slower, for models that need it."""

    optimizer: Device = flagged(
        "none", description="Where fp32 weights and moments are; on `cpu` the optimizer runs there, too. ZeRO 1 to 3."
    )
    parameters: Device = flagged("none", description="Where weights are between their uses. ZeRO 3 alone.")

    def check_stage(self, zero_stage: int) -> None:
        """Raises ValueError where DeepSpeed cannot offload this at a stage."""
        if self.optimizer != "none" and zero_stage == 0:
            raise ValueError(f"offload.optimizer={self.optimizer} needs a sharded optimizer: use zero_stage=1, 2 or 3")
        if self.parameters != "none" and zero_stage != 3:
            raise ValueError(
                f"offload.parameters={self.parameters} works at zero_stage=3, not at {zero_stage}: use that, or none"
            )
