"""`make proof TOPIC=smoke`: the pipeline that a newcomer runs, on the real corpus, held against its promises."""

import json
import os
import re
from pathlib import Path

import psutil
import pytest

from llmcore.records import newest_result
from llmcore.storage import Folder
from tests.drivers import ray_folder, run_jobs

pytestmark = [pytest.mark.proof, pytest.mark.proof_smoke, pytest.mark.timeout(3600)]

CONFIG = Path(__file__).parents[2] / "configs/pipeline/smoke.yaml"
MAX_CPU_S = 960
MAX_AGAIN_S = 25


def _cpu_s() -> float:
    """CPU seconds of the whole machine: Ray's processes are no children, so what others do is counted, too."""
    times = psutil.cpu_times()
    return times.user + times.nice + times.system


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> tuple[Folder, dict[str, float]]:
    """The finished pipeline's storage, and what the two starts took."""
    storage = tmp_path_factory.mktemp("smoke")
    before = _cpu_s()
    with ray_folder() as ray:
        first = run_jobs("pipeline", str(CONFIG), f"storage={storage}", cwd=storage, RAY_TMPDIR=ray)
    cpu_s = _cpu_s() - before
    assert first.code == 0, first.out + first.err
    again = run_jobs("pipeline", str(CONFIG), f"storage={storage}", cwd=storage)
    assert again.code == 0, again.out + again.err
    took = {
        "first_s": first.seconds,
        "cpu_s": cpu_s,
        "again_s": again.seconds,
        "load": os.getloadavg()[1],
    }
    print(f"\n{first.out}\n{took}")
    return Folder(str(storage)), took


def _result(storage: Folder, stage: str) -> dict:  # type: ignore[type-arg]
    result = newest_result(storage / f"smoke.{stage}")
    assert result is not None
    return result


def test_it_takes_at_most_eight_minutes_of_two_cores(smoke: tuple[Folder, dict[str, float]]) -> None:
    assert smoke[1]["cpu_s"] <= MAX_CPU_S


def test_again_it_finds_the_work_done(smoke: tuple[Folder, dict[str, float]]) -> None:
    assert smoke[1]["again_s"] <= MAX_AGAIN_S


def test_the_model_has_learnt_more_than_how_frequent_tokens_are(smoke: tuple[Folder, dict[str, float]]) -> None:
    result = _result(smoke[0], "pretrain")
    print(f"validation loss {result['validation_loss']:.3f}, unigrams {result['unigram_loss']:.3f}")
    assert result["unigram_loss"] - result["validation_loss"] >= 1.3
    assert 3e6 <= result["num_parameters"] <= 6e6


def test_plain_transformers_gives_the_same_loss(smoke: tuple[Folder, dict[str, float]]) -> None:
    from llmcore.tokens.shards import TokenShards
    from tests.parity import plain_validation_loss

    storage, result = smoke[0], _result(smoke[0], "pretrain")
    shards = TokenShards.open(Folder(f"{storage.url}/{_result(storage, 'prepare')['tokens']}"))
    plain = plain_validation_loss(Path(storage.url, result["model"]), shards, result["num_validation_rows"])
    print(f"reported {result['validation_loss']:.6f}, plain transformers {plain:.6f}")
    assert plain == pytest.approx(result["validation_loss"], abs=1e-3)


def test_training_does_not_wait_for_data(smoke: tuple[Folder, dict[str, float]]) -> None:
    fraction = _result(smoke[0], "pretrain")["data_wait_fraction"]
    print(f"data_wait_fraction {fraction:.4f}")
    assert fraction < 0.05


def _chosen_minus_majority(storage: Folder) -> dict:  # type: ignore[type-arg]
    differences: dict = _result(storage, "evaluate")["differences"]["chosen - majority"]  # type: ignore[type-arg]
    return differences


def test_the_chosen_trial_beats_the_majority_on_modules_never_seen(smoke: tuple[Folder, dict[str, float]]) -> None:
    differences = _chosen_minus_majority(smoke[0])
    print(json.dumps(differences, indent=1))
    for metric in ("macro_f1", "accuracy"):
        assert differences[metric]["low"] > 0, metric


def test_the_start_up_of_a_first_and_a_second_fit_is_told_in_parts(smoke: tuple[Folder, dict[str, float]]) -> None:
    storage = smoke[0]
    first = storage.read_json("smoke.pretrain/attempts/01/cost.json")["start_up_parts"]
    second = storage.read_json("smoke.tune/trials/trial-000/cost.json")["start_up_parts"]
    print(f"first fit {first}\nsecond fit {second}")
    for parts in (first, second):
        assert {"placement", "imports", "data", "model", "engine", "first_batch"} <= set(parts)
        assert all(seconds >= 0 for seconds in parts.values())


def test_the_report_says_it_all(smoke: tuple[Folder, dict[str, float]]) -> None:
    page = smoke[0].read_text("smoke.report/report.html")
    for stage in ("pretrain", "evaluate"):
        assert stage in page
    assert not re.search(r'(src|href)="https?://', page)
    assert f"{_result(smoke[0], 'pretrain')['validation_loss']:.3f}" in page
