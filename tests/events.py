"""Reads TensorBoard's event files, checksums included, by the format's own description."""

import struct

from tensorboardX.crc32c import crc32c
from tensorboardX.proto.event_pb2 import Event

from llmcore.storage import Folder

__all__ = ["read_events"]


def read_events(folder: Folder) -> list[tuple[int, str, float]]:
    """(step, name, value) of all files of a folder, in the order of their names."""
    told = []
    for name in folder.names():
        data = folder.read_bytes(name)
        first = True
        while data:
            (length,) = struct.unpack("<Q", data[:8])
            header, rest = data[:8], data[12:]
            assert struct.unpack("<I", data[8:12])[0] == _masked(header), name
            body, data = rest[:length], rest[length + 4 :]
            assert struct.unpack("<I", rest[length : length + 4])[0] == _masked(body), name
            event = Event.FromString(body)
            assert not first or event.file_version == "brain.Event:2"
            first = False
            told += [(event.step, value.tag, value.simple_value) for value in event.summary.value]
    return told


def _masked(data: bytes) -> int:
    """The checksum that TFRecords have: CRC-32C, rotated by 15 bits, plus a constant."""
    crc = crc32c(data)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF
