import io
import pickle
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmcore.errors import ShardError
from llmcore.storage import Folder, publish
from llmcore.tokens.schema import PackedRows, in_run, row_schema
from llmcore.tokens.shards import KIND, UNIGRAM_COUNTS, ShardLayout, TokenShards, array_bytes, shard_name, write_shard

LENGTH, VOCAB = 6, 50
SIZES = [5, 3, 4]
ROWS_PER_BLOCK = 2
NUM_ROWS = sum(SIZES)


def _rows(first: int, num_rows: int) -> pa.Table:
    """Row n holds a document of n % 4 + 1 tokens n, and one of two tokens n + 1."""
    lengths = [[number % 4 + 1, 1] for number in range(first, first + num_rows)]
    tokens = np.ones((num_rows, LENGTH), dtype=np.int32)
    for row, (one, two) in enumerate(lengths):
        tokens[row, :one] = first + row
        tokens[row, one : one + two] = first + row + 1
    return PackedRows(tokens, lengths, [[0, 1]] * num_rows).to_table(VOCAB, first)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    folder = Folder(str(tmp_path / "tokens"))
    with publish(folder, KIND, {}) as publication:
        shards, first = [], 0
        for number, size in enumerate(SIZES):
            publication.add(write_shard(folder, shard_name("train", number), _rows(first, size), ROWS_PER_BLOCK))
            shards.append({"name": shard_name("train", number), "num_rows": size})
            first += size
        publication.write_bytes(UNIGRAM_COUNTS, array_bytes(np.arange(VOCAB)))
        publication.about |= {
            "sequence_length": LENGTH,
            "vocab_size": VOCAB,
            "rows_per_block": ROWS_PER_BLOCK,
            "mixture": [
                {"name": "a", "first_row": 0, "num_rows": 8, "weight": None, "max_epochs": None},
                {"name": "b", "first_row": 8, "num_rows": 4, "weight": None, "max_epochs": None},
            ],
            "splits": {
                "train": {"num_rows": NUM_ROWS, "shards": shards},
                "validation": {"num_rows": 0, "shards": []},
            },
        }
    return folder


@given(indices=st.lists(st.integers(0, NUM_ROWS - 1), max_size=30))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_rows_come_in_the_order_asked_over_all_shards(folder: Folder, indices: list[int]) -> None:
    rows = TokenShards.open(folder).rows("train", np.array(indices, dtype=np.int64))
    assert rows["position"].to_pylist() == indices
    assert rows.schema.equals(row_schema(LENGTH, VOCAB))
    everything = _rows(0, NUM_ROWS)
    assert rows.to_pylist() == everything.take(indices).to_pylist() if indices else rows.num_rows == 0


def test_what_the_manifest_says(folder: Folder) -> None:
    shards = TokenShards.open(folder)
    assert (shards.sequence_length, shards.vocab_size) == (LENGTH, VOCAB)
    assert (shards.num_rows("train"), shards.num_rows("validation")) == (NUM_ROWS, 0)
    assert shards.rows("validation", np.array([], dtype=np.int64)).num_rows == 0
    assert shards.unigram_counts().tolist() == list(range(VOCAB))
    assert shards.tokenizer_folder().url == f"{folder.url}/tokenizer"


def test_the_reader_goes_to_another_process_without_its_maps(folder: Folder) -> None:
    shards = TokenShards.open(folder)
    shards.rows("train", np.arange(NUM_ROWS))
    data = pickle.dumps(shards)
    assert len(data) < 4000
    assert pickle.loads(data).rows("train", np.array([7]))["position"].to_pylist() == [7]


def test_asking_for_what_is_not_there(folder: Folder, tmp_path: Path) -> None:
    shards = TokenShards.open(folder)
    with pytest.raises(ShardError, match=r"has rows 0 … 11, asked for 3 … 12"):
        shards.rows("train", np.array([3, 12]))
    with pytest.raises(ShardError, match="'test'"):
        shards.num_rows("test")
    with pytest.raises(ShardError, match=r"no good manifest\.json"):
        TokenShards.open(Folder(str(tmp_path)))


def _shard(folder: Folder) -> Path:
    path = folder.local_path()
    assert path is not None
    return path / shard_name("train", 1)


@pytest.mark.parametrize("kept", [0, 100, 0.5, 0.99])
def test_a_torn_shard_is_named(folder: Folder, kept: float) -> None:
    path = _shard(folder)
    data = path.read_bytes()
    path.write_bytes(data[: int(kept * len(data)) if kept < 1 else int(kept)])
    with pytest.raises(ShardError, match=r"train/part-00001\.arrow"):
        TokenShards.open(folder).rows("train", np.array([6]))


def test_a_missing_shard_is_named_and_the_others_are_read(folder: Folder) -> None:
    _shard(folder).unlink()
    shards = TokenShards.open(folder)
    with pytest.raises(ShardError, match=r"train/part-00001\.arrow"):
        shards.rows("train", np.arange(NUM_ROWS))
    assert shards.rows("train", np.array([0, 11]))["position"].to_pylist() == [0, 11]


def _altered(**columns: pa.Array) -> bytes:
    rows = _rows(SIZES[0], SIZES[1])
    for name, column in columns.items():
        rows = rows.set_column(rows.schema.get_field_index(name), rows.schema.field(name), column)
    file = io.BytesIO()
    with pa.ipc.new_file(file, rows.schema) as writer:
        writer.write_table(rows, max_chunksize=ROWS_PER_BLOCK)
    return file.getvalue()


def test_an_altered_row_is_named_with_its_shard(folder: Folder) -> None:
    tokens = np.ones((3, LENGTH), dtype=np.uint16)
    tokens[2, 1] = VOCAB
    cases = {
        r"part-00001\.arrow: row 2 .*position 7.*token 1 is 50, the vocabulary has 50": {
            "tokens": pa.FixedSizeListArray.from_arrays(pa.array(tokens.reshape(-1)), LENGTH)
        },
        r"row 1 .*position column says 9": {"position": pa.array([5, 9, 7])},
        r"row 0 .*document lengths \[4, 3\] do not fit 6": {
            "document_lengths": pa.array([[4, 3], [2, 1], [1]], pa.list_(pa.int32()))
        },
        r"row 1 .*sentence offsets \[0, 9\] and labels \[-1, -1\] do not fit": {
            "sentence_offsets": pa.array([[0, 0], [0, 9], [0, 0]], pa.list_(pa.int32()))
        },
        r"row 2 .*labels \[-1\] do not fit": {
            "next_sentence": pa.array([[-1, -1], [-1, -1], [-1]], pa.list_(pa.int8()))
        },
        r"row 0 .*labels \[-1, 1\] do not fit": {
            "next_sentence": pa.array([[-1, 1], [-1, -1], [-1, -1]], pa.list_(pa.int8()))
        },
    }
    for message, columns in cases.items():
        _shard(folder).write_bytes(_altered(**columns))
        with pytest.raises(ShardError, match=message):
            TokenShards.open(folder).rows("train", np.array([5, 6, 7]))


def test_a_shard_of_other_rows_is_refused(folder: Folder) -> None:
    write_shard(folder, shard_name("train", 1), _rows(5, 2), ROWS_PER_BLOCK)
    with pytest.raises(ShardError, match=r"has 1 blocks .*its manifest says 2"):
        TokenShards.open(folder).rows("train", np.array([5]))


def test_the_same_rows_are_the_same_bytes(tmp_path: Path) -> None:
    one = write_shard(Folder(str(tmp_path)), "one", _rows(0, 4), 3)
    two = write_shard(Folder(str(tmp_path)), "two", pa.concat_tables([_rows(0, 3), _rows(3, 1)]), 3)
    assert one.sha256 == two.sha256


def test_blocks_are_a_megabyte_and_shards_are_whole_blocks() -> None:
    layout = ShardLayout.of(sequence_length=1024, vocab_size=50_000, shard_bytes=64_000_000)
    assert layout == ShardLayout(rows_per_block=512, rows_per_shard=30 * 1024 + 512)
    assert layout.rows_per_block * 2048 >= 1 << 20 and layout.rows_per_shard % layout.rows_per_block == 0
    assert ShardLayout.of(1024, 1 << 17, 64_000_000).rows_per_block == 256, "ids of four bytes"
    assert ShardLayout.of(32, 300, 640) == ShardLayout(10, 10), "a shard may be smaller than a megabyte"


def test_without_weights_every_row_comes_once_with_weights_as_often_as_they_say(folder: Folder) -> None:
    shards = TokenShards.open(folder)
    rows, epochs = shards.order(0).rows(np.arange(2 * NUM_ROWS))
    assert sorted(rows[:NUM_ROWS]) == list(range(NUM_ROWS)) and set(epochs[:NUM_ROWS]) == {0}
    assert shards.epochs_after(2 * NUM_ROWS) == {"a": 2.0, "b": 2.0}
    for source, weight in zip(shards.mixture, (1.0, 3.0), strict=True):
        source["weight"] = weight  # type: ignore[index]
    rows, _ = shards.order(0).rows(np.arange(100))
    assert (rows >= 8).sum() == 75
    assert shards.epochs_after(160) == {"a": 5.0, "b": 30.0}


@pytest.mark.parametrize("num_rows", [1, 5, NUM_ROWS, 99])
def test_a_sample_is_from_all_over(folder: Folder, num_rows: int) -> None:
    sample = TokenShards.open(folder).sample("train", num_rows)
    assert len(set(sample.tolist())) == min(num_rows, NUM_ROWS) and sample.tolist() == sorted(sample.tolist())
    assert num_rows != 5 or sample.max() > 5


def test_rows_of_a_run_say_their_position_and_their_pass() -> None:
    rows = in_run(_rows(0, 3), np.array([7, -1, 9]), np.array([2, 0, 3]))
    assert rows["position"].to_pylist() == [7, -1, 9]
    assert rows["source_epoch"].to_pylist() == [[2, 2], [0, 0], [3, 3]]
    assert rows.schema.equals(row_schema(LENGTH, VOCAB))
