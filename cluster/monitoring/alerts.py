"""The alerts, and the unit tests by which `promtool test rules` sees each of them fire, and not fire."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cluster.monitoring.metrics import exported

__all__ = ["ALERTS", "Alert", "rules", "unit_tests"]

_RUNBOOK = "docs/monitoring.md"
_BY = "run, attempt, kind, trial"
_WHO = "{{ $labels.run }}{{ with $labels.trial }}, {{ . }}{{ end }}, attempt {{ $labels.attempt }}"

_NO_PROGRESS_S = 900
"""Before `workers.hang_s` (1800 s by default) has passed, and the group starts anew."""
_NO_CHECKPOINT_S = 7200
_DATA_WAIT = 0.2
_BUDGET = 0.9
_RESTARTS_AN_HOUR = 3


@dataclass(frozen=True)
class Alert:
    """A rule, and what shows that it works.

    Attributes:
        name: It is the heading of its part of the runbook, too.
        expr: PromQL; what it returns is a run that has the fault.
        held: For how long, before it fires.
        severity: `critical`: it costs money and does nothing. `warning`: somebody should look today.
        summary: One line, with the labels.
        description: What it means.
        fires: Series by which it fires, in promtool's notation, a value a minute.
        silent: Series by which it does not.
        at: When it is looked at.
        told: The summary that it then has.
        labels: Labels of the alert that fires, where its series have more than the run's.
    """

    name: str
    expr: str
    held: str
    severity: str
    summary: str
    description: str
    fires: Mapping[str, str]
    silent: Mapping[str, str]
    at: str
    told: str
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def runbook(self) -> str:
        """Where it says what to do."""
        return f"{_RUNBOOK}#{self.name.lower()}"


_PROGRESS = exported("llmcore_progress_timestamp_seconds")
_CHECKPOINT = exported("llmcore_checkpoint_timestamp_seconds")
_WAIT = exported("llmcore_data_wait_fraction")
_FRACTION = exported("llmcore_budget_fraction")
_RESTARTS = exported("llmcore_restarts")

ALERTS = (
    Alert(
        name="LLMCoreNoProgress",
        expr=f"time() - max by ({_BY}) ({_PROGRESS}) > {_NO_PROGRESS_S}",
        held="1m",
        severity="critical",
        summary=f"{_WHO} has logged no step for {{{{ $value | humanizeDuration }}}}",
        description="Its workers live and take no step, or one step takes this long. They cost what they always cost.",
        fires={_PROGRESS: "0+60x10 600x30"},
        silent={_PROGRESS: "0+60x60"},
        at="30m",
        told="demo.pretrain, attempt 1 has logged no step for 20m 0s",
    ),
    Alert(
        name="LLMCoreNoCheckpoint",
        expr=f"time() - max by ({_BY}) ({_CHECKPOINT}) > {_NO_CHECKPOINT_S}",
        held="5m",
        severity="warning",
        summary=f"{_WHO} has completed no checkpoint for {{{{ $value | humanizeDuration }}}}",
        description="So much work is lost when a node is. Checkpoints fail, or train.checkpoint_every is too rare.",
        fires={_CHECKPOINT: "0x180"},
        silent={_CHECKPOINT: "0x60 3600x120"},
        at="150m",
        told="demo.pretrain, attempt 1 has completed no checkpoint for 2h 30m 0s",
    ),
    Alert(
        name="LLMCoreDataBound",
        expr=f"max by ({_BY}) (avg_over_time({_WAIT}[10m])) > {_DATA_WAIT}",
        held="10m",
        severity="warning",
        summary=f"{_WHO} waits for data {{{{ $value | humanizePercentage }}}} of its time",
        description="The devices stand still while rows are read, cleaned or packed.",
        fires={_WAIT: "0.5x60"},
        silent={_WAIT: "0.01x20 0.5 0.01x40"},
        at="40m",
        told="demo.pretrain, attempt 1 waits for data 50% of its time",
    ),
    Alert(
        name="LLMCoreBudgetNearlySpent",
        expr=f"max by ({_BY}, bound) ({_FRACTION}) > {_BUDGET}",
        held="1m",
        severity="warning",
        summary=f"{_WHO} has spent {{{{ $value | humanizePercentage }}}} of budget.{{{{ $labels.bound }}}}",
        description="At 100 % it saves its step and stops, with exit code 3.",
        fires={_FRACTION: "0+0.05x60"},
        silent={_FRACTION: "0+0.01x60"},
        at="25m",
        told="demo.pretrain, attempt 1 has spent 125% of budget.money",
        labels={"bound": "money"},
    ),
    Alert(
        name="LLMCoreRestartsOften",
        expr=f"max by ({_BY}) (max_over_time({_RESTARTS}[1h]) - min_over_time({_RESTARTS}[1h])) >= {_RESTARTS_AN_HOUR}",
        held="1m",
        severity="warning",
        summary=f"the workers of {_WHO} failed {{{{ $value }}}} times within the hour",
        description="Each time it goes on from the newest checkpoint; soon workers.max_failures is reached.",
        fires={_RESTARTS: "0x10 1x10 2x10 3x40"},
        silent={_RESTARTS: "0x10 1x90 2x20"},
        at="50m",
        told="the workers of demo.pretrain, attempt 1 failed 3 times within the hour",
    ),
)


def rules() -> dict[str, Any]:
    """`rules.yaml`, as Prometheus reads it."""
    return {
        "groups": [
            {
                "name": "llmcore",
                "rules": [
                    {
                        "alert": alert.name,
                        "expr": alert.expr,
                        "for": alert.held,
                        "labels": {"severity": alert.severity},
                        "annotations": _annotations(alert, alert.summary),
                    }
                    for alert in ALERTS
                ],
            }
        ]
    }


def _annotations(alert: Alert, summary: str) -> dict[str, str]:
    return {"summary": summary, "description": alert.description, "runbook": alert.runbook}


_LABELS = {"run": "demo.pretrain", "attempt": "1", "kind": "pretrain"}


def unit_tests(rules_file: str) -> dict[str, Any]:
    """What `promtool test rules` reads: each alert fires by its own series, by no other's, and not when all is well."""
    return {
        "rule_files": [rules_file],
        "evaluation_interval": "1m",
        "tests": [_unit_test(alert, fires=fires) for alert in ALERTS for fires in (True, False)],
    }


def _unit_test(alert: Alert, *, fires: bool) -> dict[str, Any]:
    series = alert.fires if fires else alert.silent
    labels = {**_LABELS, **alert.labels}
    told = ",".join(f'{name}="{value}"' for name, value in labels.items())
    expected = {
        "exp_labels": {**labels, "severity": alert.severity},
        "exp_annotations": _annotations(alert, alert.told),
    }
    return {
        "interval": "1m",
        "input_series": [
            # Two processes of one run, of which one is older: they are one run, and alert once.
            {"series": f'{name}{{{told},WorkerId="{worker}"}}', "values": values}
            for name, values in series.items()
            for worker in ("a", "b")
        ],
        "alert_rule_test": [
            {
                "eval_time": alert.at,
                "alertname": one.name,
                "exp_alerts": [expected] if fires and one is alert else [],
            }
            for one in ALERTS
        ],
    }
