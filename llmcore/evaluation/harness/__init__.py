"""lm-evaluation-harness (Gao et al.): its tasks judge a model beside our metrics, by rows and rules of its own.

What is asked is in `asked`, what it says is kept as `told`, and `asking` alone runs it.
"""

from llmcore.evaluation.harness.asked import Harness
from llmcore.evaluation.harness.told import Told, harness_json, store_told, stored_told

__all__ = ["Harness", "Told", "harness_json", "store_told", "stored_told"]
