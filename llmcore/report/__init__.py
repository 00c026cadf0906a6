"""A pipeline's records as one page to look at."""

from llmcore.report.gather import gather
from llmcore.report.model import PipelineReport
from llmcore.report.page import render

__all__ = ["PipelineReport", "gather", "render"]
