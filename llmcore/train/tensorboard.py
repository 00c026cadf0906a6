"""TensorBoard's event files, on any storage.

tensorboardX gives the messages and the checksum; its writers append to a file, which an object store cannot, so the
newest file is written anew until it is full, as with the rows of metrics.
"""

import struct
import time
from collections.abc import Mapping

from tensorboardX.proto.event_pb2 import Event
from tensorboardX.proto.summary_pb2 import Summary
from tensorboardX.record_writer import masked_crc32c

from llmcore.storage import Folder

__all__ = ["TENSORBOARD", "EventsWriter"]

TENSORBOARD = "tensorboard"
_EVENTS_PER_FILE = 2048
_FLUSH_EVERY_S = 5.0


class EventsWriter:
    """Numbers by step under `<folder>/tensorboard/`; a later writer goes on with the next file."""

    def __init__(self, folder: Folder, session: int = 1) -> None:
        self._folder = folder / TENSORBOARD
        self._session = session
        self._number = len(self._folder.names())
        self._flushed = time.monotonic()
        self._begin()

    def _begin(self) -> None:
        self._events = [_framed(Event(wall_time=time.time(), file_version="brain.Event:2"))]

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        """Adds an event. Raises StorageError when a due flush fails."""
        values = [Summary.Value(tag=name, simple_value=value) for name, value in numbers.items()]
        self._events.append(_framed(Event(wall_time=time.time(), step=step, summary=Summary(value=values))))
        if len(self._events) >= _EVENTS_PER_FILE or time.monotonic() - self._flushed >= _FLUSH_EVERY_S:
            self.flush()

    def flush(self) -> None:
        """Writes what there is. Raises StorageError."""
        self._flushed = time.monotonic()
        if len(self._events) > 1:
            # TensorBoard reads the files of a folder in the order of their names.
            self._folder.write_bytes(
                f"events.out.tfevents.{self._number:010d}.llmcore{self._session}", b"".join(self._events)
            )
        if len(self._events) >= _EVENTS_PER_FILE:
            self._number += 1
            self._begin()

    def close(self) -> None:
        """Writes what has not been written. Raises StorageError."""
        self.flush()


def _framed(event: Event) -> bytes:
    """A TFRecord: length, its checksum, the message, its checksum."""
    data: bytes = event.SerializeToString()
    header = struct.pack("<Q", len(data))
    checksums = (struct.pack("<I", masked_crc32c(part)) for part in (header, data))
    return header + next(checksums) + data + next(checksums)
