"""What an hour of a device costs: `configs/plan/prices.yaml`, or your own."""

from typing import Annotated

from pydantic import Field, PositiveFloat

from llmcore.config.base import Section, free

__all__ = ["PricesConfig"]


class PricesConfig(Section):
    """`python -m jobs plan --prices`: what an hour of a device costs. What is planned is another command's own."""

    currency: str = free("USD", description="Of all prices.")
    devices: dict[str, Annotated[list[PositiveFloat], Field(min_length=2, max_length=2)]] = free(
        description="By a device's name, as `--device` has it: the lowest and the highest price of an hour of one."
    )
