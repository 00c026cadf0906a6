"""What a run costs: seconds by category, FLOPs, money."""

from llmcore.cost.flops import forward_flops_per_token, peak_flops_per_s, training_flops_per_token
from llmcore.cost.ledger import CATEGORIES, Category, Ledger

__all__ = [
    "CATEGORIES",
    "Category",
    "Ledger",
    "forward_flops_per_token",
    "peak_flops_per_s",
    "training_flops_per_token",
]
