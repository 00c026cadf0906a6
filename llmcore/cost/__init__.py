"""What a run costs: seconds by category, FLOPs, money."""

from llmcore.cost.devices import peak_flops_per_s
from llmcore.cost.flops import ModelFlops, Work
from llmcore.cost.ledger import CATEGORIES, Category, Ledger

__all__ = ["CATEGORIES", "Category", "Ledger", "ModelFlops", "Work", "peak_flops_per_s"]
