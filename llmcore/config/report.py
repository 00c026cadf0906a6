"""`report RUN [RUN …]`: a page on any runs, which has no file: the command line says which."""

from llmcore.config.base import identity
from llmcore.config.common import JobSettings

__all__ = ["RunsReportConfig"]


class RunsReportConfig(JobSettings):
    """`python -m jobs report RUN [RUN …]`."""

    runs: list[str] = identity(min_length=1, description="Names or URLs of the runs, in the order of their columns.")
