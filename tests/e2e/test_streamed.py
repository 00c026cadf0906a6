"""`pretrain` from raw shards: killed, and gone on with, it has the same rows and losses, whatever was added since."""

import json
import random
import signal
from pathlib import Path
from typing import Any

import pytest

from jobs.runtime.streaming import mark_before
from llmcore.records import newest_result
from llmcore.storage import Folder, read_manifest
from tests.drivers import ray_folder, run_jobs, start_jobs, wait_for
from tests.tiny import AREAS, tiny_stage, told_losses, write_config

NUM_STEPS = 100
GLOBAL_BATCH = 3  # which two workers cannot share evenly
WORDS = " ".join([*AREAS.values()]).split()


def write_shards(folder: Path, numbers: range, num_documents: int = 60) -> None:
    folder.mkdir(exist_ok=True)
    for number in numbers:
        rng = random.Random(number)
        texts = (" ".join(rng.choice(WORDS) for _ in range(rng.randint(5, 60))) for _ in range(num_documents))
        lines = "".join(json.dumps({"text": f"{number} {text}"}) + "\n" for text in texts)
        (folder / f"part-{number:02d}.jsonl").write_text(lines)


def config_of(folder: Path, tiny: dict[str, Any], storage: str) -> Path:
    train = tiny_stage(tiny, "pretrain")["train"] | {"num_steps": NUM_STEPS, "global_batch_size": GLOBAL_BATCH}
    sources = [
        {"name": "many", "url": str(folder / "many"), "weight": 0.75},
        {"name": "few", "url": str(folder / "few"), "weight": 0.25},
    ]
    stream = {
        "sources": sources,
        "cleaning": {"length": {"min_characters": 120}},
        "tokenizer": {"vocab_size": 340},
        "packing": {"sequence_length": 32},
        "window_bytes": 600,
        "validation_bytes": 3000,
        "cpus_per_lane": 0.05,
    }
    config = {"name": "tiny.pretrain", "storage": storage, "cluster": tiny["cluster"], "stream": stream}
    pretrain = {key: value for key, value in tiny_stage(tiny, "pretrain").items() if key != "train"}
    return write_config(folder / f"{Path(storage).name}.yaml", config | pretrain | {"train": train})


@pytest.mark.timeout(1200)
def test_a_killed_stream_goes_on_with_the_rows_of_one_that_was_not(
    tmp_path: Path, tiny: dict[str, Any], one_ray: dict[str, str]
) -> None:
    write_shards(tmp_path / "many", range(8))
    write_shards(tmp_path / "few", range(100, 101), num_documents=20)
    config = config_of(tmp_path, tiny, str(tmp_path / "killed"))
    run = Folder(str(tmp_path / "killed")) / "tiny.pretrain"
    with ray_folder() as ray:
        driver = start_jobs("pretrain", str(config), cwd=tmp_path, output=tmp_path / "log", RAY_TMPDIR=ray)
        checkpoints = Path(run.url, "checkpoints")
        assert wait_for(lambda: len(list(checkpoints.glob("*/manifest.json"))) >= 2, driver), (
            tmp_path / "log"
        ).read_text()
        driver.send_signal(signal.SIGKILL)
        driver.wait()
    undisturbed = config_of(tmp_path, tiny, str(tmp_path / "undisturbed"))
    whole = run_jobs("pretrain", str(undisturbed), cwd=tmp_path, **one_ray)
    assert whole.code == 0, whole.out + whole.err
    write_shards(tmp_path / "many", range(8, 12))  # too late for a run that has begun
    again = run_jobs("pretrain", str(config), cwd=tmp_path, **one_ray)
    assert again.code == 0, again.out + again.err
    found = run_jobs("pretrain", str(config), cwd=tmp_path, **one_ray)
    print(whole.out, again.out, found.seconds)
    assert found.code == 0 and found.seconds < 10
    assert told_losses(tmp_path / "killed") == told_losses(tmp_path / "undisturbed")
    told = [row["step"] for row in told_losses(tmp_path / "killed") if "loss" in row]
    assert told == list(range(1, NUM_STEPS + 1))
    _one_window_was_made_again(run)
    result = newest_result(run)
    assert result is not None
    assert set(result["streamed"]["tokens"]) == {"many", "few"}
    assert result["streamed"]["dropped"]["length: too_short"] > 0
    assert result["streamed"]["dropped"]["held_out: validation"] > 0
    assert result["streamed"]["epochs"][1] > 1, "few shards with a quarter of the weight are read again"
    manifest = read_manifest(run / "model")
    assert (
        manifest is not None
        and manifest.about["metrics"]["validation_loss"] < manifest.about["metrics"]["unigram_loss"]
    )


def _one_window_was_made_again(run: Folder) -> None:
    """What the second attempt began with, against where its checkpoint was."""
    (first, *_), *_ = [
        [json.loads(line) for line in (run / "attempts/02/metrics").read_text(name).splitlines()]
        for name in (run / "attempts/02/metrics").names()
    ]
    position = first["session"]["resumed_at"] * GLOBAL_BATCH
    assert 0 < position < NUM_STEPS * GLOBAL_BATCH
    for number, share in enumerate((0.75, 0.25)):
        mark = mark_before(run, number, int(position * share))
        # A window of 600 characters is about 14 rows of 32 tokens; two lanes have one each.
        assert 0 <= position * share - mark.rows < 40, (position, mark)
