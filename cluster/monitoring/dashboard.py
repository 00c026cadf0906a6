"""The Grafana dashboard, made from the list of metrics."""

from dataclasses import dataclass
from typing import Any

from cluster.monitoring.metrics import exported

__all__ = ["PANELS", "Panel", "dashboard", "queries"]

_SOURCE = {"type": "prometheus", "uid": "${source}"}
_ANY = '{__name__=~"ray_llmcore_.+"}'
_OF_RUN = '{run=~"$run"}'
_BY = "run, attempt, trial"
_LEGEND = "{{run}} {{trial}} #{{attempt}}"
_WIDTH, _HEIGHT, _COLUMNS = 8, 8, 3
_SCHEMA_VERSION = 39
"""Of Grafana 11's dashboards; later ones migrate it."""


@dataclass(frozen=True)
class Panel:
    """One picture.

    Attributes:
        title: Its heading.
        expr: PromQL; `%s` stands for the selection of runs.
        unit: Grafana's name of it.
        legend: Of each line.
        about: What a person should know of it.
    """

    title: str
    expr: str
    unit: str = "short"
    legend: str = _LEGEND
    about: str = ""

    @property
    def query(self) -> str:
        """Its PromQL, with Grafana's variable."""
        return self.expr.replace("%s", _OF_RUN)


def _newest(name: str) -> str:
    """The value that the newest process of a run has told: one that is gone stays for some seconds."""
    return f"max by ({_BY}) ({exported(name)}%s)"


PANELS = (
    Panel("Step", _newest("llmcore_step")),
    Panel("Tokens a second", _newest("llmcore_tokens_per_second")),
    Panel("Training loss", _newest("llmcore_loss")),
    Panel("Validation loss", _newest("llmcore_validation_loss")),
    Panel("MFU", _newest("llmcore_mfu"), "percentunit", about="Set train.peak_flops_per_s where no peak is known."),
    Panel("Waiting for data", _newest("llmcore_data_wait_fraction"), "percentunit", about="Above 20 % it alerts."),
    Panel("Since the last logged step", f"time() - {_newest('llmcore_progress_timestamp_seconds')}", "s"),
    Panel("Age of the newest checkpoint", f"time() - {_newest('llmcore_checkpoint_timestamp_seconds')}", "s"),
    Panel("Writing a checkpoint took", _newest("llmcore_checkpoint_duration_seconds"), "s"),
    Panel("Restarts of the workers", _newest("llmcore_restarts")),
    Panel(
        "Trials by state",
        f"max by (run, attempt, state) ({exported('llmcore_trials')}%s)",
        legend="{{run}} {{state}}",
    ),
    Panel("Evaluations pending", f"max by (run, attempt) ({exported('llmcore_evaluations_pending')}%s)"),
    Panel("Money spent", f"max by (run) ({exported('llmcore_money_spent')}%s)", legend="{{run}}"),
    Panel(
        "Budget spent",
        f"max by (run, bound) ({exported('llmcore_budget_fraction')}%s)",
        "percentunit",
        legend="{{run}} {{bound}}",
    ),
)


def queries() -> dict[str, str]:
    """The PromQL of each panel by its title, of all runs, and that of the variable."""
    selected = {panel.title: panel.expr.replace("%s", '{run=~".+"}') for panel in PANELS}
    return selected | {"run": _runs()}


def _runs() -> str:
    return f"group by (run) ({_ANY})"


def dashboard() -> dict[str, Any]:
    """`dashboard.json`, as Grafana imports it."""
    return {
        "uid": "llmcore",
        "title": "llmcore: runs",
        "description": "Trainings, searches and evaluations; what to do about each alert stands in docs/monitoring.md.",
        "tags": ["llmcore", "ray"],
        "schemaVersion": _SCHEMA_VERSION,
        "version": 1,
        "editable": True,
        "timezone": "browser",
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "timepicker": {},
        "annotations": {"list": []},
        "links": [],
        "templating": {"list": [_source_variable(), _run_variable()]},
        "panels": [_panel(number, panel) for number, panel in enumerate(PANELS)],
    }


def _source_variable() -> dict[str, Any]:
    return {"name": "source", "label": "Prometheus", "type": "datasource", "query": "prometheus", "hide": 0}


def _run_variable() -> dict[str, Any]:
    query = f"label_values({_ANY}, run)"
    return {
        "name": "run",
        "label": "Run",
        "type": "query",
        "datasource": _SOURCE,
        "query": {"query": query, "refId": "runs"},
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".+",
        "current": {"text": "All", "value": "$__all"},
        "hide": 0,
    }


def _panel(number: int, panel: Panel) -> dict[str, Any]:
    place = {"x": number % _COLUMNS * _WIDTH, "y": number // _COLUMNS * _HEIGHT, "w": _WIDTH, "h": _HEIGHT}
    return {
        "id": number + 1,
        "type": "timeseries",
        "title": panel.title,
        "description": panel.about,
        "datasource": _SOURCE,
        "gridPos": place,
        "fieldConfig": {
            "defaults": {"unit": panel.unit, "custom": {"drawStyle": "line", "lineWidth": 1, "spanNulls": True}},
            "overrides": [],
        },
        "options": {
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
        "targets": [
            {"refId": "A", "datasource": _SOURCE, "expr": panel.query, "legendFormat": panel.legend, "range": True}
        ],
    }
