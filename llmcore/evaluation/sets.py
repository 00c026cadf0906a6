"""The board of an evaluation of several labelled sets: each set's models, best first, one after the other."""

import csv
import io
from collections.abc import Iterator, Mapping
from typing import Any

from llmcore.evaluation.markdown import table_row, told_interval
from llmcore.storage import Folder, publish

__all__ = ["write_board_of_sets"]

_SPLITS = ("validation", "test")
_APART = {True: "distinguishable from the chosen", False: "not distinguishable from the chosen"}
_COLUMNS = ["set", "model", "role", "status", "metric"]
_COLUMNS += [f"{split}{end}" for split in _SPLITS for end in ("", "_low", "_high")]
_COLUMNS += ["distinguishable_from_chosen", "error"]


def write_board_of_sets(folder: Folder, contents: Mapping[str, Mapping[str, Any]]) -> None:
    """Publish leaderboard.csv and leaderboard.md.

    Args:
        folder: The evaluation's.
        contents: The metrics.json of each set's own evaluation, by the set's name.
    """
    rows = [row for name, content in contents.items() for row in _rows(name, content)]
    stream = io.StringIO()
    writer = csv.DictWriter(stream, _COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(map(_flat, rows))
    about = {"suites": {name: content["suite"]["hash"] for name, content in contents.items()}}
    with publish(folder, "evaluation-sets", about) as publication:
        publication.write_bytes("leaderboard.csv", stream.getvalue().encode())
        publication.write_bytes("leaderboard.md", "\n".join([*_markdown(rows), ""]).encode())


def _rows(name: str, content: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The models of one set as they are ranked, then its baselines."""
    metric = content["suite"]["choose_by"]
    judged = [("chosen" if one["id"] == content["chosen"] else "model", one["id"], one) for one in content["models"]]
    judged += [("baseline", baseline, one) for baseline, one in content["baselines"].items()]
    for role, model, one in judged:
        apart = one.get("distinguishable_from_leader")
        yield {
            "set": name,
            "model": model,
            "role": role,
            "status": one.get("status", ""),
            "metric": metric,
            **{split: (one.get(split) or {}).get(metric) for split in _SPLITS},
            "distinguishable_from_chosen": "" if apart is None else apart,
            "error": " ".join((one.get("error") or "").split()),
        }


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    flat = {key: value for key, value in row.items() if key not in _SPLITS}
    for split in _SPLITS:
        if row[split] is not None:
            flat |= {
                f"{split}{end}": row[split][part] for end, part in (("", "value"), ("_low", "low"), ("_high", "high"))
            }
    return flat


def _markdown(rows: list[dict[str, Any]]) -> Iterator[str]:
    yield table_row(["set", "model", "", "metric", "validation", "test", ""])
    yield table_row(["---"] * 7)
    for row in rows:
        ends = (told_interval(row[split]) for split in _SPLITS)
        remark = row["error"] or _APART.get(row["distinguishable_from_chosen"], "")
        yield table_row([row["set"], row["model"], row["role"], row["metric"], *ends, remark])
