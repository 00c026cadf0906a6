"""`prepare`, killed while it cleans: what was cleaned is not cleaned again, and the tokens are the same."""

import json
import random
import signal
from pathlib import Path
from typing import Any

from llmcore.records import newest_result
from llmcore.storage import Folder, read_manifest
from tests.drivers import ray_folder, run_jobs, start_jobs, wait_for
from tests.tiny import write_config

NUM_SHARDS = 12


def _config(folder: Path) -> dict[str, Any]:
    rng = random.Random(0)
    words = ["the", "of", "and", "have", "with", "river", "stone", "light", "wind", "houses", "people", "walked"]
    corpus = folder / "corpus"
    corpus.mkdir()
    for shard in range(NUM_SHARDS):
        texts = (" ".join(rng.choice(words) for _ in range(120)) + "." for _ in range(600))
        (corpus / f"part-{shard:02d}.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return {
        "name": "killed",
        "storage": str(folder / "runs"),
        "cluster": {"num_cpus": 2},
        "sources": [{"name": "words", "url": str(corpus)}],
        "cleaning": {"unicode": {}, "gopher": {}, "gopher_repetition": {}},
        "near_duplicates": {},
        "splits": {"validation": 0.05, "test": 0.05},
        "tokenizer": {"vocab_size": 330},
        "packing": {"sequence_length": 128},
        "read_parallelism": 4,
    }


def _tokens(storage: Path) -> dict[str, str]:
    result = newest_result(Folder(str(storage)) / "killed")
    assert result is not None
    manifest = read_manifest(Folder(str(storage)) / result["tokens"])
    assert manifest is not None
    return {name: entry.sha256 for name, entry in manifest.files.items() if name != "passport.json"}


def test_it_goes_on_from_the_shards_that_were_cleaned(tmp_path: Path, one_ray: dict[str, str]) -> None:
    given = _config(tmp_path)
    config = str(write_config(tmp_path / "prepare.yaml", given))
    cleaned = tmp_path / "runs" / "artifacts" / "cleaned"
    with ray_folder() as ray:
        driver = start_jobs("prepare", config, cwd=tmp_path, output=tmp_path / "killed.log", RAY_TMPDIR=ray)
        assert wait_for(lambda: len(list(cleaned.glob("*/manifest.json"))) >= 4, driver)
        driver.send_signal(signal.SIGKILL)
        driver.wait()
    done = {path: path.stat().st_mtime_ns for path in cleaned.glob("*/manifest.json")}
    assert 4 <= len(done) < NUM_SHARDS, "it was killed too late to tell"
    again = run_jobs("prepare", config, cwd=tmp_path, **one_ray)
    assert again.code == 0, again.out + again.err
    undisturbed = run_jobs("prepare", config, f"storage={tmp_path}/other", cwd=tmp_path, **one_ray)
    assert undisturbed.code == 0, undisturbed.out + undisturbed.err
    assert {path: path.stat().st_mtime_ns for path in done} == done
    assert len(list(cleaned.glob("*/manifest.json"))) == NUM_SHARDS
    assert _tokens(tmp_path / "runs") == _tokens(tmp_path / "other")
