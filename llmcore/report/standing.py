"""The lines of the leaderboard, from the evaluation's record."""

from collections.abc import Iterator

from llmcore.report.model import BASELINE_NAMES, JudgedModel
from llmcore.report.recorded import EvaluationRecord
from llmcore.report.words import plain

__all__ = ["judged_models"]


def judged_models(evaluation: EvaluationRecord) -> Iterator[JudgedModel]:
    """The chosen model, the baselines, then the other trials as the evaluation ranked them."""
    chosen = [record for record in evaluation.models if record.id == evaluation.chosen]
    others = [record for record in evaluation.models if record.id != evaluation.chosen]
    yield from (
        JudgedModel(f"{record.id}, chosen", "chosen", record.status, None, record.validation or {}, record.test or {})
        for record in chosen
    )
    for name, baseline in evaluation.baselines.items():
        about = ", ".join(f"{plain(key)} {value}" for key, value in (baseline.model_extra or {}).items())
        yield JudgedModel(
            BASELINE_NAMES.get(name, plain(name)),
            "baseline",
            about,
            None,
            baseline.validation or {},
            baseline.test or {},
        )
    for record in others:
        apart = record.distinguishable_from_leader
        yield JudgedModel(record.id, "trial", record.status, apart, record.validation or {}, record.test or {})
