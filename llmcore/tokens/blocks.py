"""Blocks of token shards: mapped from a disk, or fetched from an object store and held for a while."""

from collections import OrderedDict
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock

import pyarrow as pa

from llmcore.errors import ShardError, StorageError
from llmcore.storage import Folder, storage_errors

__all__ = ["Blocks"]

HELD_BYTES = 256 << 20
"""Of fetched blocks: a window of 64 for each of a few sources, so that each block is fetched once by a process."""
NUM_THREADS = 8
"""Blocks that are fetched at a time: most of a request is waiting."""


class _Shard:
    """An open shard; its file is read by one thread at a time."""

    def __init__(self, folder: Folder, name: str, local: Path | None) -> None:
        self.url = f"{folder.url}/{name}"
        self._lock = Lock()
        try:
            with storage_errors(self.url, "read"):
                file = pa.memory_map(str(local / name)) if local else pa.PythonFile(folder.open_at_random(name), "r")
                self.reader = pa.ipc.open_file(file)
        except StorageError as error:
            raise ShardError(f"{self.url}: cannot be read from row 0 on ({error}): run `prepare` again") from error

    def block(self, number: int) -> pa.RecordBatch:
        with self._lock:
            try:
                with storage_errors(self.url, "read"):
                    return self.reader.get_batch(number)
            except StorageError as error:
                raise ShardError(f"{self.url}: block {number} cannot be read ({error})") from error


class Blocks:
    """The blocks of a folder's shards, by name of the shard and number of the block."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._local = folder.local_path()
        self._shards: dict[str, _Shard] = {}
        self._held: OrderedDict[tuple[str, int], pa.RecordBatch] = OrderedDict()
        self._held_bytes = 0

    def shard(self, name: str) -> pa.RecordBatchFileReader:
        """The reader of a shard: its schema and number of blocks. Raises ShardError."""
        return self._shard(name).reader

    def fetch(self, wanted: Iterable[tuple[str, int]]) -> None:
        """Have these blocks at hand; from a remote folder several are fetched at a time. Raises ShardError."""
        missing = [] if self._local else [key for key in wanted if key not in self._held]
        if not missing:
            return
        for name in dict.fromkeys(name for name, _ in missing):
            self._shard(name)
        with ThreadPoolExecutor(NUM_THREADS) as pool:
            for key, block in zip(
                missing, pool.map(lambda key: self._shards[key[0]].block(key[1]), missing), strict=True
            ):
                self._hold(key, block)

    def get(self, name: str, number: int) -> pa.RecordBatch:
        """One block. Raises ShardError."""
        if self._local:
            return self._shard(name).block(number)
        self.fetch([(name, number)])
        self._held.move_to_end((name, number))
        return self._held[name, number]

    def _shard(self, name: str) -> _Shard:
        if name not in self._shards:
            self._shards[name] = _Shard(self._folder, name, self._local)
        return self._shards[name]

    def _hold(self, key: tuple[str, int], block: pa.RecordBatch) -> None:
        self._held[key] = block
        self._held_bytes += block.nbytes
        while self._held_bytes > HELD_BYTES and len(self._held) > 1:
            _, oldest = self._held.popitem(last=False)
            self._held_bytes -= oldest.nbytes
