"""The files for Prometheus and Grafana: made from one list of metrics, right by Prometheus's own tools."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.monitoring.alerts import ALERTS
from cluster.monitoring.dashboard import PANELS, queries
from cluster.monitoring.metrics import METRICS, exported
from cluster.monitoring.render import FOLDER, rendered
from tests.drivers import ROOT

RUNBOOK = ROOT / "docs/monitoring.md"
needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not installed (Debian's package `prometheus` has it)"
)


def promtool(*arguments: str) -> str:
    done = subprocess.run(
        ["promtool", *arguments], cwd=FOLDER, check=False, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def names_in(text: str) -> set[str]:
    return set(re.findall(r"ray_(llmcore_\w+)", text))


@pytest.mark.parametrize("name", sorted(rendered()))
def test_files_are_what_the_list_of_metrics_makes_of_them(name: str) -> None:
    told = "python -m cluster.monitoring.render"
    assert (FOLDER / name).read_text(encoding="utf-8") == rendered()[name], f"{name} is old: {told}"


def test_the_dashboard_shows_each_metric_and_no_other() -> None:
    assert names_in((FOLDER / "dashboard.json").read_text(encoding="utf-8")) == set(METRICS)
    assert names_in((FOLDER / "rules.yaml").read_text(encoding="utf-8")) <= set(METRICS)


def test_jobs_set_each_metric_and_no_other() -> None:
    told = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "jobs").rglob("*.py"))
    assert set(re.findall(r"\"(llmcore_\w+)\"", told)) == set(METRICS)


def test_the_documentation_tells_of_each_metric_and_each_alert() -> None:
    text = RUNBOOK.read_text(encoding="utf-8")
    assert {name for name in METRICS if exported(name) not in text} == set()
    headings = {line.removeprefix("### ").strip().lower() for line in text.splitlines() if line.startswith("### ")}
    for alert in ALERTS:
        file, _, anchor = alert.runbook.partition("#")
        assert (ROOT / file).is_file() and anchor in headings, alert.runbook
        assert (
            "docs/"
            in yaml.safe_load((FOLDER / "rules.yaml").read_text())["groups"][0]["rules"][0]["annotations"]["runbook"]
        )


def test_the_dashboard_is_what_grafana_imports() -> None:
    made = json.loads((FOLDER / "dashboard.json").read_text(encoding="utf-8"))
    assert {"uid", "title", "schemaVersion", "panels", "templating", "time"} <= made.keys()
    variables = {variable["name"] for variable in made["templating"]["list"]}
    places: set[tuple[int, int]] = set()
    for panel in made["panels"]:
        place = panel["gridPos"]
        cells = {(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + 8)}
        assert not cells & places and place["x"] + place["w"] <= 24, panel["title"]
        places |= cells
        assert panel["type"] == "timeseries" and panel["targets"], panel["title"]
        used = set(re.findall(r"\$\{?(\w+)", json.dumps(panel)))
        assert used <= variables, panel["title"]
    assert len({panel["id"] for panel in made["panels"]}) == len(made["panels"]) == len(PANELS)
    assert len({panel["title"] for panel in made["panels"]}) == len(PANELS)


def test_the_dashboard_has_no_field_that_grafana_does_not_know() -> None:
    models = pytest.importorskip("grafana_foundation_sdk.models.dashboard", reason="Grafana's SDK is not installed")
    from grafana_foundation_sdk.cog.encoder import JSONEncoder
    from grafana_foundation_sdk.cog.plugins import register_default_plugins

    def known(made: dict[str, Any]) -> Any:
        return json.loads(JSONEncoder().encode(models.Dashboard.from_json(made)))

    register_default_plugins()
    made = json.loads((FOLDER / "dashboard.json").read_text(encoding="utf-8"))
    assert list(_lost(made, known(made))) == []
    made["panels"][3]["fieldConfig"]["defaults"]["unti"] = "s"
    assert list(_lost(made, known(made))) == [".panels.3.fieldConfig.defaults.unti"]


def _lost(made: Any, known: Any, at: str = "") -> Iterator[str]:
    """What there is that is not there, or is otherwise, when Grafana's own types have read it."""
    if isinstance(made, dict | list):
        items = made.items() if isinstance(made, dict) else enumerate(made)
        for key, value in items:
            there = key in known if isinstance(made, dict) else key < len(known)
            yield from _lost(value, known[key], f"{at}.{key}") if there else [f"{at}.{key}"]
    elif made != known:
        yield at


@needs_promtool
def test_rules_and_configuration_are_right(tmp_path: Path) -> None:
    said = promtool("check", "rules", "rules.yaml")
    assert f"{len(ALERTS)} rules found" in said
    assert "SUCCESS" in promtool("check", "config", "prometheus.yaml")


@needs_promtool
def test_each_alert_fires_when_it_should_and_only_then() -> None:
    assert "SUCCESS" in promtool("test", "rules", "rules_test.yaml")
    tests = yaml.safe_load((FOLDER / "rules_test.yaml").read_text(encoding="utf-8"))["tests"]
    fired = [one["alertname"] for test in tests for one in test["alert_rule_test"] if one["exp_alerts"]]
    assert sorted(fired) == sorted(alert.name for alert in ALERTS)


@needs_promtool
def test_a_test_of_an_alert_can_fail(tmp_path: Path) -> None:
    text = (FOLDER / "rules_test.yaml").read_text(encoding="utf-8").replace("attempt 1 waits", "attempt 2 waits")
    (tmp_path / "rules.yaml").write_text((FOLDER / "rules.yaml").read_text(encoding="utf-8"))
    (tmp_path / "rules_test.yaml").write_text(text)
    failed = subprocess.run(
        ["promtool", "test", "rules", str(tmp_path / "rules_test.yaml")], check=False, capture_output=True, text=True
    )
    assert failed.returncode != 0


@needs_promtool
def test_each_query_is_promql(tmp_path: Path) -> None:
    asked = {"groups": [{"name": "q", "rules": [{"record": "q", "expr": query} for query in queries().values()]}]}
    (tmp_path / "queries.yaml").write_text(yaml.safe_dump(asked))
    said = promtool("check", "rules", "--lint=none", str(tmp_path / "queries.yaml"))
    assert f"{len(queries())} rules found" in said
