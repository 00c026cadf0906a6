"""What a frozen stream has on the storage, beside its tokenizer and validation rows: its listing, and what is held out.

artifacts/tokens/<hash>/listing.parquet, held_out.json, encoder.json, validation/, tokenizer/, manifest.json
"""

from collections.abc import Sequence
from dataclasses import asdict, fields

import pyarrow as pa
import pyarrow.parquet as pq

from llmcore.corpus.portions import HeldOut
from llmcore.corpus.shards import Shard
from llmcore.storage import Folder, readable_json

__all__ = ["ENCODER", "HELD_OUT", "LISTING", "held_out_bytes", "held_out_of", "listing_bytes", "listing_of"]

LISTING = "listing.parquet"
HELD_OUT = "held_out.json"
ENCODER = "encoder.json"

_SCHEMA = pa.schema(
    [
        ("source", pa.int16()),
        ("url", pa.string()),
        ("name", pa.string()),
        ("size", pa.int64()),
        ("version", pa.string()),
        ("max_documents", pa.int64()),
    ]
)


def listing_bytes(sources: Sequence[Sequence[Shard]]) -> bytes:
    """The shards of all sources as a Parquet file."""
    rows = [{"source": number, **asdict(shard)} for number, shards in enumerate(sources) for shard in shards]
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows, schema=_SCHEMA), sink)
    return bytes(sink.getvalue().to_pybytes())


def listing_of(folder: Folder, num_sources: int) -> list[list[Shard]]:
    """The shards of each source. Raises StorageError."""
    table = pq.read_table(pa.BufferReader(folder.read_bytes(LISTING)))
    found: list[list[Shard]] = [[] for _ in range(num_sources)]
    names = [field.name for field in fields(Shard)]
    for number, *values in zip(*(table[name].to_pylist() for name in ("source", *names)), strict=True):
        found[number].append(Shard(*values))
    return found


def held_out_bytes(sources: Sequence[HeldOut]) -> bytes:
    """What is never trained on, of all sources, as JSON."""
    keys = {key for source in sources for key in source.keys}
    digests = {digest.hex() for source in sources for digest in source.digests}
    return readable_json({"keys": sorted(keys), "digests": sorted(digests)})


def held_out_of(folder: Folder) -> HeldOut:
    """What is never trained on. Raises StorageError."""
    plain = folder.read_json(HELD_OUT)
    return HeldOut(frozenset(plain["keys"]), frozenset(map(bytes.fromhex, plain["digests"])))
