"""What lm-evaluation-harness says of a model: read from its own report, kept as plain JSON, asked for once."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from llmcore.evaluation.harness.asked import Harness
from llmcore.storage import Folder, artifact, content_hash, publish, read_manifest, verify_files
from llmcore.storage.content import readable_json

__all__ = ["Told", "harness_json", "store_told", "stored_told"]

_KIND = "harness"
_FILE = "harness.json"
_UNFILTERED = "none"


@dataclass(frozen=True)
class Told:
    """Of one model, by one task that was asked for; a group's has those of its members beside its own.

    Attributes:
        tasks: Plain JSON by task: `version`, `num_fewshot`, `num_rows` that were asked of `num_rows_of_task`, and
            `metrics`: of each `value`, `stderr` (null where the harness has none) and `higher_is_better`.
    """

    tasks: dict[str, dict[str, Any]]

    @classmethod
    def of_report(cls, report: Mapping[str, Any]) -> "Told":
        """From what `lm_eval.simple_evaluate` returns.

        A metric is called as there, `acc`; where its answers were filtered, `exact_match,strict-match`.
        """
        samples = report.get("n-samples", {})
        return cls(
            {
                task: {
                    "version": report["versions"].get(task),
                    "num_fewshot": report["n-shot"].get(task),
                    "num_rows": samples.get(task, {}).get("effective"),
                    "num_rows_of_task": samples.get(task, {}).get("original"),
                    "metrics": _metrics(figures, report["higher_is_better"].get(task, {})),
                }
                for task, figures in {**report["results"], **report.get("groups", {})}.items()
            }
        )


def harness_json(harness: Harness, told: Mapping[str, Mapping[str, Told]]) -> dict[str, Any]:
    """Plain JSON of all that was said: by model, by task.

    Args:
        harness: What was asked.
        told: Of each model, by its name, what was said by each task that was asked for.
    """
    models = {
        name: {task: about for said in by_task.values() for task, about in said.tasks.items()}
        for name, by_task in told.items()
    }
    asked = harness.settings
    how = {"num_fewshot": asked.num_fewshot, "limit": asked.limit, "chat_template": asked.chat_template}
    return {"version": harness.version, **how, "models": models}


def _metrics(figures: Mapping[str, Any], higher_is_better: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Whatever else stands there (an alias, how many rows) has no filter's name behind a comma."""
    metrics = {}
    for key, value in figures.items():
        metric, comma, filtered = key.partition(",")
        if comma and not metric.endswith("_stderr"):
            metrics[metric if filtered == _UNFILTERED else key] = {
                "value": _number(value),
                "stderr": _number(figures.get(f"{metric}_stderr,{filtered}")),
                "higher_is_better": higher_is_better.get(metric),
            }
    return metrics


def _number(value: Any) -> float | None:
    """None for what is no number: the harness writes `N/A`, and NaN is no JSON."""
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def stored_told(storage: Folder, harness: Harness, task: str, model_sha256: str) -> Told | None:
    """What was said before, or None. Raises CheckpointError where it is not what was published."""
    folder = _folder(storage, harness, task, model_sha256)
    manifest = read_manifest(folder)
    if manifest is None:
        return None
    verify_files(folder, manifest)
    return Told(folder.read_json(_FILE)["tasks"])


def store_told(storage: Folder, harness: Harness, task: str, model_sha256: str, told: Told) -> None:
    """Keep what is said of a model."""
    about = {"model_sha256": model_sha256, "task": task, "version": harness.version}
    with publish(_folder(storage, harness, task, model_sha256), _KIND, about) as publication:
        publication.write_bytes(_FILE, readable_json({"tasks": told.tasks}))


def _folder(storage: Folder, harness: Harness, task: str, model_sha256: str) -> Folder:
    return artifact(storage, "evaluations", content_hash(_KIND, model_sha256, harness.hash(task)))
