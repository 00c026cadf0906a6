"""Metrics: what predictions are worth, each in one number, as the libraries and scripts that define them say."""

from llmcore.evaluation.metrics.base import Additive, Metric, Weighted
from llmcore.evaluation.metrics.fairness import fairness_metrics
from llmcore.evaluation.metrics.registry import make_metric, make_metrics

__all__ = ["Additive", "Metric", "Weighted", "fairness_metrics", "make_metric", "make_metrics"]
