"""What a run leaves behind: its identity, its attempts, its metrics."""

from llmcore.records.attempt import CONFIG, Attempt, begin_attempt
from llmcore.records.failures import FAILURE, FailureWriter, failures_of, rank_errors_of, record_rank_error
from llmcore.records.heartbeat import SUBMISSION, TIMING, Timing, last_beat, lived
from llmcore.records.identity import RUN, finished_result, recorded_inputs
from llmcore.records.layout import (
    Writer,
    attempt_folder,
    attempt_numbers,
    attempt_of,
    check_newest,
    checkpoint_name,
    folder_of,
    software_versions,
    step_of,
    writer_of,
)
from llmcore.records.lineage import Ancestor, lineage_of
from llmcore.records.listing import RunStatus, list_runs, status_of
from llmcore.records.metrics import (
    MetricRows,
    MetricsWriter,
    Session,
    read_metrics,
    read_metrics_counted,
    seconds_before_restarts,
)
from llmcore.records.parts import PartsWriter, read_part
from llmcore.records.results import newest_result, run_folder
from llmcore.records.sessions import begin_session, check_newest_session, in_line
from llmcore.records.spent import Spent, spent_on_training
from llmcore.records.stop import STOP, StopSignal, ask_to_stop
from llmcore.records.why import Why, why_failed

__all__ = [
    "CONFIG",
    "FAILURE",
    "RUN",
    "STOP",
    "SUBMISSION",
    "TIMING",
    "Ancestor",
    "Attempt",
    "FailureWriter",
    "MetricRows",
    "MetricsWriter",
    "PartsWriter",
    "RunStatus",
    "Session",
    "Spent",
    "StopSignal",
    "Timing",
    "Why",
    "Writer",
    "ask_to_stop",
    "attempt_folder",
    "attempt_numbers",
    "attempt_of",
    "begin_attempt",
    "begin_session",
    "check_newest",
    "check_newest_session",
    "checkpoint_name",
    "failures_of",
    "finished_result",
    "folder_of",
    "in_line",
    "last_beat",
    "lived",
    "lineage_of",
    "list_runs",
    "newest_result",
    "rank_errors_of",
    "read_metrics",
    "read_metrics_counted",
    "seconds_before_restarts",
    "read_part",
    "record_rank_error",
    "recorded_inputs",
    "run_folder",
    "software_versions",
    "spent_on_training",
    "status_of",
    "step_of",
    "why_failed",
    "writer_of",
]
