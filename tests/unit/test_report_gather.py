"""What is gathered is what the records say; what is absent is empty, and what is torn is named."""

from pathlib import Path

import pytest

from llmcore.evaluation.bootstrap import Interval
from llmcore.report import gather
from llmcore.report.model import TWIN
from llmcore.storage import Folder
from tests import pipeline_records as records


@pytest.fixture
def storage(tmp_path: Path) -> Folder:
    folder = Folder(str(tmp_path))
    records.write_pipeline(folder)
    return folder


def test_attempts_are_summed_and_a_restarted_curve_is_told_once(storage: Folder) -> None:
    report = gather(storage, records.PIPELINE)
    pretrain = report.stage("pretrain")
    assert (pretrain.status, pretrain.num_attempts, pretrain.num_devices) == ("succeeded", 2, 2)
    assert pretrain.seconds["compute"] == pytest.approx(71.3 + 58.4)
    assert [fit.name for fit in pretrain.fits] == ["pretrain, attempt 1", "pretrain, attempt 2"]
    assert pretrain.fits[0].parts_s["imports"] == 8.8
    assert report.pretrainings[0].train.steps == tuple(range(10, records.NUM_STEPS + 1, 10))
    assert report.pretrainings[0].validation.steps == tuple(range(40, records.NUM_STEPS + 1, 40))
    assert report.pretrainings[0].held_out.keys() == {"law"}, "a loss of sentence pairs is not in nats a token"
    assert report.pretrainings[0].held_out["law"].steps == report.pretrainings[0].validation.steps


def test_the_second_fit_is_that_of_the_trials(storage: Folder) -> None:
    fits = gather(storage, records.PIPELINE).stage("tune").fits
    assert [fit.name for fit in fits] == ["trial a1", "trial a2", "trial a3", "trial a4"]
    assert fits[0].parts_s["placement"] == 1.7


def test_wall_time_counts_overlapping_stages_once_and_pauses_never(storage: Folder) -> None:
    report = gather(storage, records.PIPELINE)
    # prepare; the two attempts of pretrain; then tune from 240 to 339.3 beside evaluate and its twin, to 373 s
    assert report.wall_s == pytest.approx(44.4 + 92.2 + 84.3 + 133.0, abs=0.1)
    assert report.stage(TWIN).run == records.TWIN


def test_the_leaderboard_has_every_model_the_chosen_one_first(storage: Folder) -> None:
    report = gather(storage, records.PIPELINE)
    assert [model.kind for model in report.evaluations[0].judged] == [
        "chosen",
        "baseline",
        "baseline",
        "trial",
        "trial",
        "trial",
    ]
    assert report.evaluations[0].judged[0].test["macro_f1"] == Interval(0.604, 0.553, 0.651)
    assert not any(model.test for model in report.evaluations[0].judged if model.kind == "trial")
    assert report.evaluations[0].differences["chosen - majority"]["macro_f1"].value == 0.557
    assert {trial.id: trial.chosen for trial in report.searches[0].trials} == {
        "a1": False,
        "a2": False,
        "a3": True,
        "a4": False,
    }


def test_everything_left_out_is_counted(storage: Folder) -> None:
    report = gather(storage, records.PIPELINE)
    dropped = {(drop.stage, drop.reason): drop.count for drop in report.dropped}
    assert dropped == {
        ("prepare", "exact duplicates"): 412,
        ("prepare", "shorter than 24 characters"): 1038,
        ("pretrain", "checkpoints passed over"): 1,
        ("tune", "failed trials"): 1,
        ("evaluate", "ends of long validation texts"): 87,
    }


def test_a_killed_attempt_costs_the_time_until_its_last_beat(storage: Folder) -> None:
    attempt = storage / f"{records.PIPELINE}.prepare" / "attempts" / "01"
    started = attempt.read_json("begin.json")["started"]
    attempt.write_json("heartbeat.json", {"time": started + 17.0})
    attempt.delete("end.json")
    attempt.delete("cost.json")
    prepare = gather(storage, records.PIPELINE).stage("prepare")
    assert (prepare.status, dict(prepare.seconds)) == ("dead", {"lost": 17.0})


def test_of_a_pipeline_that_never_ran_there_is_nothing(tmp_path: Path) -> None:
    report = gather(Folder(str(tmp_path)), "none")
    assert (report.stages, report.pretrainings, report.searches, report.evaluations, report.problems) == ((),) * 5


@pytest.mark.parametrize(
    ("record", "content"),
    [
        ("smoke.evaluate/evaluation/metrics.json", b'{"chosen": "a3", "models": [{"id": 5'),
        ("smoke.tune/trials/a2/trial.json", b'{"status": "stopped"}'),
        ("smoke.pretrain/attempts/02/cost.json", b'{"seconds": {"compute": "much"}}'),
    ],
)
def test_a_record_that_cannot_be_read_is_named(storage: Folder, record: str, content: bytes) -> None:
    storage.write_bytes(record, content)
    report = gather(storage, records.PIPELINE)
    assert len(report.problems) == 1
    assert record in report.problems[0]
    assert report.stage("prepare").status == "succeeded"
