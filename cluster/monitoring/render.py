"""Writes the files of this folder from the list of metrics: `python -m cluster.monitoring.render`."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from cluster.monitoring.alerts import rules, unit_tests
from cluster.monitoring.dashboard import dashboard

__all__ = ["FOLDER", "rendered"]

FOLDER = Path(__file__).parent
_MADE = "# Made from cluster/monitoring/*.py by `python -m cluster.monitoring.render`: edit those.\n"
_SCRAPE: Mapping[str, Any] = {
    "global": {"scrape_interval": "15s", "evaluation_interval": "15s"},
    "rule_files": ["rules.yaml"],
    "scrape_configs": [
        {
            "job_name": "ray",
            # The head node writes where the agent of each node listens; nodes come and go.
            "file_sd_configs": [{"files": ["/tmp/ray/prom_metrics_service_discovery.json"], "refresh_interval": "15s"}],
        }
    ],
}
"""For a Prometheus beside the head node; on Kubernetes docs/monitoring.md has a PodMonitor."""


def rendered() -> dict[str, str]:
    """The content of each file by its name."""
    return {
        "dashboard.json": json.dumps(dashboard(), indent=2) + "\n",
        "prometheus.yaml": _MADE + _yaml(_SCRAPE),
        "rules.yaml": _MADE + _yaml(rules()),
        "rules_test.yaml": _MADE + _yaml(unit_tests("rules.yaml")),
    }


def _yaml(content: Mapping[str, Any]) -> str:
    return yaml.safe_dump(dict(content), sort_keys=False, allow_unicode=True, width=120)


if __name__ == "__main__":
    for name, content in rendered().items():
        (FOLDER / name).write_text(content, encoding="utf-8")
