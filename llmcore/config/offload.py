"""Where ZeRO keeps what does not fit the device."""

from pathlib import PurePath
from typing import Literal

from llmcore.config.base import Section, flagged, free

__all__ = ["OffloadSettings"]

Device = Literal["none", "cpu", "nvme"]


class OffloadSettings(Section):
    """Optimizer state and parameters in the host's memory, or on a node's disk: slower, for models that need it."""

    optimizer: Device = flagged(
        "none",
        description="Where fp32 weights and moments are; unless `none`, the optimizer runs on the CPU. `cpu` works at "
        "ZeRO 1 to 3, `nvme` at ZeRO 3.",
    )
    parameters: Device = flagged("none", description="Where weights are between their uses. ZeRO 3 alone.")
    folder: str | None = free(
        None,
        description="For `nvme`: an absolute path on each node's own fast disk. Each worker has a folder of its own "
        "there, which is deleted when it ends, or by the next one on the node if it was killed.",
    )

    @property
    def on_nvme(self) -> bool:
        """Whether anything is on a disk."""
        return "nvme" in (self.optimizer, self.parameters)

    def check_stage(self, zero_stage: int) -> None:
        """Raises ValueError where DeepSpeed cannot offload this at a stage."""
        if self.optimizer != "none" and zero_stage == 0:
            raise ValueError(f"offload.optimizer={self.optimizer} needs a sharded optimizer: use zero_stage=1, 2 or 3")
        if self.optimizer == "nvme" and zero_stage != 3:
            raise ValueError(f"offload.optimizer=nvme works at zero_stage=3, not at {zero_stage}: use that, or cpu")
        if self.parameters != "none" and zero_stage != 3:
            raise ValueError(
                f"offload.parameters={self.parameters} works at zero_stage=3, not at {zero_stage}: use that, or none"
            )

    def check_folder(self) -> None:
        """Raises ValueError where the folder is missing, is relative, or is for nothing."""
        if self.on_nvme and self.folder is None:
            raise ValueError("offload to nvme needs offload.folder: a path on each node's own fast disk")
        if self.folder is not None and not self.on_nvme:
            raise ValueError(f"offload.folder={self.folder} is for nvme, and nothing is there: leave it out, or use it")
        if self.folder is not None and not PurePath(self.folder).is_absolute():
            raise ValueError(f"offload.folder={self.folder} is relative, and workers start anywhere: make it absolute")
