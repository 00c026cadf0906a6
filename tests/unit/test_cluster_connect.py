import json
import sys
from pathlib import Path

import pytest

from cluster.connect import connect, inside_ray_job, worker_environment
from llmcore.config.common import ClusterSettings
from llmcore.errors import ConfigError

JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"


def test_the_name_that_tells_a_ray_job_is_still_rays() -> None:
    constants = Path(sys.prefix, "lib", "python3.11", "site-packages", "ray/_private/runtime_env/constants.py")
    assert f'"{JOB}"' in constants.read_text()


def test_a_ray_job_is_told_by_its_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(JOB, raising=False)
    assert not inside_ray_job()
    monkeypatch.setenv(JOB, json.dumps({"metadata": {"job_submission_id": "raysubmit_x"}}))
    assert inside_ray_job()


def test_only_this_machine_is_looked_at_for_its_accelerator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DS_ACCELERATOR", raising=False)
    monkeypatch.setattr("cluster.connect._has_gpu", lambda: False)
    assert worker_environment(local=True)["DS_ACCELERATOR"] == "cpu"
    assert float(worker_environment(local=True)["RAY_TRAIN_HEALTH_CHECK_INTERVAL_S"]) < 1  # a report waits for it
    on_cluster = {"RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1", "LLMCORE_LOG_FORMAT": "json"}
    assert worker_environment(local=False) == on_cluster
    monkeypatch.setattr("cluster.connect._has_gpu", lambda: True)
    assert "DS_ACCELERATOR" not in worker_environment(local=True)


@pytest.mark.parametrize("address", ["127.0.0.1:1", "not an address"])
def test_an_address_without_a_cluster_is_a_mistake_of_the_configuration(address: str) -> None:
    with (
        pytest.raises(ConfigError, match=r"cluster\.address='.*': no Ray cluster can be reached .*`ray start --head`"),
        connect(ClusterSettings(address=address)),
    ):
        pass
