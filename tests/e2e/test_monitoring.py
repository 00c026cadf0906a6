"""The smallest pipeline as who watches it sees it: by a real Prometheus, and in the logs of all its processes."""

import json
import shutil
import socket
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.monitoring.dashboard import queries
from cluster.monitoring.metrics import METRICS, exported
from cluster.monitoring.render import FOLDER
from llmcore.logs import FORMAT
from tests.clusters import local_cluster
from tests.drivers import start_jobs, wait_for
from tests.tiny import tiny_pipeline, write_config, write_corpus

pytestmark = [
    pytest.mark.timeout(1200),
    pytest.mark.skipif(
        shutil.which("prometheus") is None, reason="prometheus is not installed (Debian's package of that name has it)"
    ),
]
_EVERY_S = 1
_UP_WITHIN_S = 60.0
BUDGET = {"price_per_device_hour": 2.5, "money": 1000.0, "hours": 10.0}


def config(folder: Path) -> dict[str, Any]:
    """The smallest pipeline, whose device has a known peak and a price."""
    made = tiny_pipeline(write_corpus(folder / "corpus"), folder / "runs")
    pretrain = made["stages"]["pretrain"]
    pretrain["train"] |= {"peak_flops_per_s": 1e12, "num_steps": 120, "validate_every": 40}
    pretrain["budget"] = BUDGET
    made["stages"]["evaluate"]["baselines"] = ["majority"]
    return made


@contextmanager
def prometheus(folder: Path, discovered: Path) -> Iterator[str]:
    """Prometheus as the shipped file configures it, but for its pace and where this cluster is; its URL."""
    given = yaml.safe_load((FOLDER / "prometheus.yaml").read_text(encoding="utf-8"))
    given["global"] = {"scrape_interval": f"{_EVERY_S}s", "evaluation_interval": f"{_EVERY_S}s"}
    (discovery,) = given["scrape_configs"][0]["file_sd_configs"]
    discovery |= {"files": [str(discovered)], "refresh_interval": f"{_EVERY_S}s"}
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(given))
    shutil.copy(FOLDER / "rules.yaml", folder)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    options = [f"--config.file={folder}/prometheus.yaml", f"--storage.tsdb.path={folder}/tsdb"]
    with (folder / "prometheus.log").open("wb") as log:
        server = subprocess.Popen(
            ["prometheus", *options, f"--web.listen-address={address}"], stdout=log, stderr=subprocess.STDOUT
        )
    try:
        yield f"http://{address}"
    finally:
        server.terminate()
        server.wait(30)


def asked(url: str, what: str, **parameters: str) -> Any:
    with urllib.request.urlopen(f"{url}/api/v1/{what}?{urllib.parse.urlencode(parameters)}", timeout=10) as answer:
        return json.load(answer)["data"]


def has_data(url: str, query: str, began: float) -> bool:
    """Whether a query returned a number at any time since the run began."""
    ended = time.time()
    found = asked(url, "query_range", query=query, start=str(began), end=str(ended), step=str(_EVERY_S))["result"]
    return any(value != "NaN" for series in found for _, value in series["values"])


def test_each_query_of_the_dashboard_has_data_during_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_metrics_report_interval_ms", str(1000 * _EVERY_S))
    monkeypatch.setenv(FORMAT, "json")
    log = tmp_path / "driver.log"
    with local_cluster(2, dashboard=True) as cluster:
        discovered = Path(cluster.folder, "prom_metrics_service_discovery.json")
        with prometheus(tmp_path, discovered) as url:
            began = time.time()
            written = write_config(tmp_path / "tiny.yaml", config(tmp_path))
            driver = start_jobs("pipeline", str(written), cwd=tmp_path, output=log, **cluster.environment)
            assert not wait_for(lambda: False, driver, 900)
            assert driver.returncode == 0, log.read_text()
            took_s = time.time() - began
            up = asked(url, "query_range", query='up{job="ray"}', start=str(began), end=str(time.time()), step="1")
            assert up["result"], (tmp_path / "prometheus.log").read_text()
            empty = [title for title, query in queries().items() if not has_data(url, query, began)]
            assert not empty, f"no data: {', '.join(empty)}"
            _each_metric_is_what_the_list_says(url, began)
            rules = asked(url, "rules")["groups"][0]["rules"]
            assert all(rule["health"] == "ok" for rule in rules), rules
            firing = [alert["labels"]["alertname"] for rule in rules for alert in rule["alerts"]]
            print(f"\n{len(queries())} queries had data within a run of {took_s:.0f} s; alerts: {firing or 'none'}")
            assert not firing
        _each_process_says_whose_it_is(log, Path(cluster.folder))


def _each_process_says_whose_it_is(driver: Path, cluster: Path) -> None:
    by_driver = [json.loads(line) for line in driver.read_text().splitlines() if line.startswith("{")]
    assert {(one["run"], one["attempt"]) for one in by_driver if "run" in one} == {("tiny", 1)}
    assert {one["stage"] for one in by_driver if "stage" in one} == {"prepare", "pretrain", "tune", "evaluate"}
    workers = list(cluster.glob("session_2*/logs/worker-*.out"))
    lines = [line for worker in workers for line in worker.read_text(errors="replace").splitlines()]
    found = [json.loads(line) for line in lines if line.startswith('{"time"')]
    ranks = {(one["run"], one.get("trial"), one["rank"]) for one in found if "rank" in one}
    assert {("tiny.pretrain", None, rank) for rank in (0, 1)} <= ranks
    assert {("tiny.tune", f"trial-00{trial}", rank) for trial in (0, 1) for rank in (0, 1)} <= ranks
    assert {one["run"] for one in found if one.get("kind") == "evaluate"} == {"tiny.evaluate"}
    saved = [one for one in found if "checkpoint" in one]
    assert saved and {one["rank"] for one in saved} == {0}
    assert all(one["attempt"] == 1 and one["host"] and one["pid"] for one in found)


def _each_metric_is_what_the_list_says(url: str, began: float) -> None:
    runs = {"tiny.pretrain", "tiny.tune", "tiny.evaluate"}
    for name, metric in METRICS.items():
        series = asked(url, "series", **{"match[]": exported(name), "start": str(began), "end": str(time.time())})
        assert {one["run"] for one in series} <= runs and series, name
        for one in series:
            assert one["attempt"] == "1" and one["kind"] in {"pretrain", "finetune", "tune", "evaluate"}, one
            assert metric.label is None or one[metric.label], one
    trials = asked(url, "series", **{"match[]": exported("llmcore_loss"), "start": str(began), "end": str(time.time())})
    assert {one["trial"] for one in trials if "trial" in one} == {"trial-000", "trial-001"}
    assert {one["kind"] for one in trials} == {"pretrain", "finetune"}
