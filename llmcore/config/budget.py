"""What a run may cost."""

from pydantic import model_validator

from llmcore.config.base import Section, free

__all__ = ["BudgetSettings"]


class BudgetSettings(Section):
    """What a run may cost, over all its starts; when it is spent, what trains is stopped after its step, and saved.

    Of a search, no trial begins then, and those that run are stopped with what they have.
    """

    hours: float | None = free(None, gt=0, description="By the clock, over all its starts.")
    device_hours: float | None = free(None, gt=0, description="Of all workers' devices together.")
    money: float | None = free(None, gt=0, description="At `price_per_device_hour`.")
    price_per_device_hour: float | None = free(None, gt=0, description="In the currency of `money`.")

    @property
    def has_bound(self) -> bool:
        """Whether there is anything to be spent."""
        return any(bound is not None for bound in (self.hours, self.device_hours, self.money))

    @model_validator(mode="after")
    def _money_has_a_price(self) -> "BudgetSettings":
        if self.money is not None and self.price_per_device_hour is None:
            raise ValueError(f"money={self.money:g} without a price says nothing: give price_per_device_hour")
        return self
