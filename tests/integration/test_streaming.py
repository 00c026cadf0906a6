"""Raw shards through lanes, the actor that orders their rows, and Ray Data: the same rows whoever takes them."""

import json
import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import ray
from ray.data import DataIterator

from cluster.connect import Session
from jobs.runtime.errors import fetch
from jobs.runtime.freeze import freeze, frozen_folder
from jobs.runtime.reader import OrderedSplit, StreamPlan, batches_of, share_tables, token_stream
from jobs.runtime.streaming import serve_rows, streamed_until
from llmcore.config.stream import StreamSettings
from llmcore.errors import ShardError
from llmcore.storage import Folder
from llmcore.tasks.evaluation_set import write_evaluation_set
from llmcore.tokens.frozen import held_out_of
from llmcore.tokens.shards import TokenShards
from llmcore.train.place import Place
from tests.tiny import AREAS

NUM_STEPS = 60
GLOBAL_BATCH = 5


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> StreamSettings:
    corpus = tmp_path_factory.mktemp("corpus")
    rng = random.Random(0)
    words = " ".join(AREAS.values()).split()
    for number in range(6):
        texts = [f"{number} {n} " + " ".join(rng.choices(words, k=rng.randint(3, 50))) for n in range(40)]
        lines = "".join(json.dumps({"text": text}) + "\n" for text in [*texts, "the same everywhere"])
        (corpus / f"part-{number}.jsonl").write_text(lines)
    return StreamSettings.model_validate(
        {
            "sources": [{"name": "s", "url": str(corpus)}],
            "tokenizer": {"vocab_size": 330},
            "packing": {"sequence_length": 32},
            "window_bytes": 800,
            "validation_bytes": 1000,
            "cpus_per_lane": 0.05,
        }
    )


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    return Folder(str(tmp_path_factory.mktemp("storage")))


def stream(settings: StreamSettings, run: Folder, world_size: int, first_step: int) -> dict[int, Any]:
    """The rows of all ranks, by position; marks go to, and come from, the run."""
    storage = Folder(run.url.rpartition("/")[0])
    tokens = frozen_folder(storage, freeze(settings, storage)).url
    plan = StreamPlan(tokens, 3, GLOBAL_BATCH, world_size, first_step, NUM_STEPS)
    place = Place(run, len((run / "attempts").names()) + 1)
    plain = settings.model_dump(mode="json")
    server = serve_rows(plain, tokens, storage.url, place, plan.seed, first_step * GLOBAL_BATCH)

    @ray.remote(num_cpus=0)
    def consume(rows: DataIterator, rank: int) -> pa.Table:
        return pa.concat_tables(share_tables(batches_of(rows, plan.share_size), plan, rank))

    shards = OrderedSplit(lambda _: token_stream(plan, server)).configure({"train": None}, world_size, None, None)
    found = ray.get([consume.remote(shard["train"], rank) for rank, shard in enumerate(shards)])
    return {row["position"]: row for row in pa.concat_tables(found).to_pylist()}


def test_the_rows_are_those_of_their_positions_at_any_world_size_and_from_any_step(
    ray_session: Session, settings: StreamSettings, storage: Folder
) -> None:
    whole = stream(settings, storage / "whole", world_size=2, first_step=0)
    assert sorted(whole) == list(range(NUM_STEPS * GLOBAL_BATCH))
    later = stream(settings, storage / "whole", world_size=3, first_step=23)
    assert sorted(later) == list(range(23 * GLOBAL_BATCH, NUM_STEPS * GLOBAL_BATCH))
    assert later == {position: whole[position] for position in later}


def test_what_is_held_out_is_validated_on_and_never_streamed(
    ray_session: Session, settings: StreamSettings, storage: Folder
) -> None:
    folder = frozen_folder(storage, freeze(settings, storage))
    shards = TokenShards.open(folder)
    num_rows = shards.num_rows("validation")
    assert num_rows and shards.about["splits"]["validation"]["num_documents"] >= len(held_out_of(folder).digests) > 1
    validation = pieces_of(shards.rows("validation", np.arange(num_rows)).to_pylist())
    streamed = pieces_of(list(stream(settings, storage / "held-out", 1, 0).values()))
    assert len(streamed) > 100 and not validation & streamed
    assert shards.unigram_counts().sum() > 1000


def pieces_of(rows: list[dict[str, Any]]) -> set[tuple[int, ...]]:
    """The pieces of documents in rows, by their tokens."""
    found = set()
    for row in rows:
        start = 0
        for length in row["document_lengths"]:
            found.add(tuple(row["tokens"][start : start + length]))
            start += length
    return found


def test_rows_of_evaluation_sets_are_never_streamed(
    ray_session: Session, settings: StreamSettings, storage: Folder
) -> None:
    lines = Path(str(settings.sources[0].url), "part-2.jsonl").read_text().splitlines()
    texts = [text for text in (json.loads(line)["text"] for line in lines) if len(text.split()) >= 30][:4]
    rows = {"id": [str(n) for n in range(4)], "text": texts, "label": [0, 1, 0, 1], "group": ["g"] * 4}
    labelled = write_evaluation_set(storage, "held", ["a", "b"], {"test": [pa.table(rows)]})
    checking = StreamSettings.model_validate(
        settings.model_dump(mode="json") | {"decontamination": {"evaluation_sets": [labelled.folder.url]}}
    )
    frozen = TokenShards.open(frozen_folder(storage, freeze(checking, storage)))
    assert frozen.about["decontaminated"] == [labelled.hash]
    stream(checking, storage / "checking", 1, 0)
    whole = streamed_until(storage / "checking", checking, NUM_STEPS * GLOBAL_BATCH)
    assert whole["dropped"]["decontaminate: contaminated"] >= 1
    assert whole["documents"]["s"] > 50 and whole["quarantined"] == {}


def test_a_shard_that_was_changed_is_named_to_the_worker(
    ray_session: Session, settings: StreamSettings, storage: Folder
) -> None:
    tokens = frozen_folder(storage, freeze(settings, storage)).url
    shard = Path(str(settings.sources[0].url), "part-3.jsonl")
    before, listed = shard.read_bytes(), shard.stat()
    server = serve_rows(settings.model_dump(mode="json"), tokens, storage.url, Place(storage / "changed", 1), 3, 0)
    try:
        shard.write_bytes(before + b'{"text": "more"}\n')
        with pytest.raises(ShardError, match=r"part-3.jsonl: is not the file that was listed"):
            fetch(server.rows.remote(np.arange(NUM_STEPS * GLOBAL_BATCH)))
    finally:
        shard.write_bytes(before)
        os.utime(shard, ns=(listed.st_atime_ns, listed.st_mtime_ns))
