"""Records as pages to look at: those of a pipeline, and of any runs."""

from llmcore.report.gather import gather
from llmcore.report.model import PipelineReport
from llmcore.report.page import render
from llmcore.report.runs import RunsReport, gather_runs
from llmcore.report.runs_page import render_runs

__all__ = ["PipelineReport", "RunsReport", "gather", "gather_runs", "render", "render_runs"]
