"""A report as people and programs read it."""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from itertools import groupby

from cluster.doctor.examine import Report
from cluster.doctor.finding import SEVERITIES, Finding, Severity, exit_code

__all__ = ["as_json", "as_lines"]

Paint = Callable[[str, Severity], str]


def as_json(report: Report) -> str:
    """All of it, as JSON; `exit_code` is what the command returns."""
    told = {
        "address": report.address,
        "nodes": list(report.nodes),
        "seconds": round(report.seconds, 1),
        "exit_code": exit_code(report.findings),
        "findings": [asdict(finding) for finding in report.findings],
    }
    return json.dumps(told, indent=2, ensure_ascii=False)


def as_lines(report: Report, paint: Paint = lambda text, severity: text) -> Iterator[str]:
    """A line for each finding and one for its fix; of what is well on several nodes, one line.

    `paint` colours a text by its severity.
    """
    findings = [one for _, group in groupby(report.findings, lambda one: one.check) for one in _merged(list(group))]
    severity_width, check_width, where_width = (
        max(map(len, column))
        for column in zip(*((one.severity, one.check, one.where) for one in findings), strict=True)
    )
    for one in findings:
        severity = paint(one.severity.ljust(severity_width), one.severity)
        yield f"{severity}  {one.check:{check_width}}  {one.where:{where_width}}  {one.seen}"
        if one.fix:
            yield f"{'':{severity_width + check_width + where_width + 6}}fix: {one.fix}"
    yield _summary(report)


def _merged(findings: Sequence[Finding]) -> list[Finding]:
    """Those of one check, with one line for all nodes on which it is well."""
    well = [finding for finding in findings if finding.severity == "ok"]
    if len(well) < 2:
        return list(findings)
    others = [finding for finding in findings if finding.severity != "ok"]
    return [*others, replace(well[0], where=f"{len(well)} places", seen=f"{well[0].seen} ({well[0].where})")]


def _summary(report: Report) -> str:
    counts = Counter(finding.severity for finding in report.findings)
    plural = {"error": "errors", "warning": "warnings", "unknown": "unknown", "ok": "ok"}
    told = [
        f"{counts[severity]} {plural[severity] if counts[severity] != 1 else severity}"
        for severity in reversed(SEVERITIES)
        if counts[severity]
    ]
    return f"{report.address}, {len(report.nodes)} nodes, {report.seconds:.0f} s: {', '.join(told)}"
