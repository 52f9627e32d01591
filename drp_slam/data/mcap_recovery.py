# SPDX-License-Identifier: Apache-2.0
"""Reads an MCAP file without an index, and one whose end is missing because the recorder was killed.

The whole records of such a file are presented to `rosbags` as a complete file, to get its topics; nothing is copied.
Messages come in recording order, which may differ from the order of their times. Format: https://mcap.dev/spec.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from drp_slam.errors import DataError

MAGIC = b"\x89MCAP0\r\n"
FOOTER = struct.pack("<BQQQI", 0x02, 20, 0, 0, 0) + MAGIC
"""A footer that names no summary."""
RECORD = struct.Struct("<BQ")
"""Opcode and length in front of every record."""
CHUNK_HEAD = struct.Struct("<QQQII")
"""First and last time, size and CRC of a chunk's records, and the length of the compression's name, which follows."""
MESSAGE_HEAD = struct.Struct("<HIQQ")
"""Channel, number, log time and time of publishing."""
MESSAGE, CHUNK = 0x05, 0x06
DATA = frozenset({0x01, 0x03, 0x04, MESSAGE, CHUNK, 0x07, 0x09, 0x0A, 0x0C})
"""Opcodes of records before the end of the data section."""
ENDS = (0x02, 0x0F)
"""Opcodes of the footer and of the data section's end."""
Span = tuple[int, int]
"""First byte and the one after the last."""


def is_indexed(path: Path) -> bool:
    """Whether an MCAP file ends with a footer that names a summary."""
    with path.open("rb") as file:
        size = file.seek(0, io.SEEK_END)
        file.seek(max(0, size - len(FOOTER)))
        end = file.read()
    return end[:9] == FOOTER[:9] and end[-8:] == MAGIC and any(end[9:17])


class Recovered:
    """The whole records of an MCAP file; `open` as `Path.open`. `lost_bytes` come after them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with path.open("rb") as file:
            size = file.seek(0, io.SEEK_END)
            self.spans, closed = _spans(file, size)
        self.lost_bytes = 0 if closed else size - self.spans[-1][1]

    def open(self, mode: str = "rb") -> BinaryIO:
        """The file with a footer in place of whatever is broken or follows the data."""
        return io.BufferedReader(_Joined(self.path.open(mode), self.spans))  # type: ignore[return-value, arg-type]

    def __str__(self) -> str:
        return str(self.path)


class Scanner:
    """As the reader of `rosbags` that is `plugin`, for a file without an index."""

    def __init__(self, plugin: Any, path: Path) -> None:
        self.whole = Recovered(path)
        self._reader = plugin(self.whole)

    def open(self) -> None:
        """Scans the file for topics and times."""
        self._reader.open()

    def close(self) -> None:
        self._reader.close()

    @property
    def connections(self) -> list[Any]:
        return self._reader.connections  # type: ignore[no-any-return]

    @property
    def metadata(self) -> Any:
        return self._reader.metadata

    def messages(
        self, wanted: list[Any], begin: int | None = None, end: int | None = None
    ) -> Iterator[tuple[Any, int, bytes]]:
        """Connection, log time in ns and bytes of the messages of these connections, as they were recorded."""
        by_id = {connection.id: connection for connection in wanted}
        with self.whole.path.open("rb") as file:
            for first, after in self.whole.spans:
                yield from _messages(file, first or len(MAGIC), after, by_id, begin or 0, end or 1 << 63)


def _messages(
    file: BinaryIO, first: int, after: int, by_id: dict[int, Any], begin_ns: int, end_ns: int
) -> Iterator[tuple[Any, int, bytes]]:
    for opcode, at, until in _records(file, first, after):
        file.seek(at)
        if opcode == CHUNK:
            earliest_ns, latest_ns = struct.unpack("<QQ", file.read(16))
            if earliest_ns < end_ns and latest_ns >= begin_ns:
                file.seek(at)
                chunk = _unpacked(file.read(until - at))
                yield from _messages(io.BytesIO(chunk), 0, len(chunk), by_id, begin_ns, end_ns)
        elif opcode == MESSAGE:
            channel, _, log_ns, _ = MESSAGE_HEAD.unpack(file.read(MESSAGE_HEAD.size))
            if channel in by_id and begin_ns <= log_ns < end_ns:
                yield by_id[channel], log_ns, file.read(until - at - MESSAGE_HEAD.size)


def _unpacked(chunk: bytes) -> bytes:
    """The records of a chunk."""
    name_length = CHUNK_HEAD.unpack_from(chunk)[-1]
    begin = CHUNK_HEAD.size + name_length
    name, records = chunk[CHUNK_HEAD.size : begin].decode(), chunk[begin + 8 :]
    if name == "":
        return records
    if name == "lz4":
        from lz4.frame import decompress

        return decompress(records)  # type: ignore[no-any-return]
    if name == "zstd":
        from rosbags.rosbag2 import reader

        return reader.zstd.decompress(records)  # type: ignore[no-any-return]
    raise DataError(f"chunk compressed with {name!r}; expected lz4, zstd or none")


def _spans(file: BinaryIO, size: int) -> tuple[list[Span], bool]:
    """The whole records of a file of `size` bytes, and whether the data section was closed.

    A truncated last chunk contributes the records inside it, unless it is compressed.
    """
    end, cut = _whole(file, len(MAGIC), size)
    if cut is None or cut[0] != CHUNK:
        return [(0, end)], cut is not None and cut[0] in ENDS
    file.seek(cut[1])
    head = file.read(CHUNK_HEAD.size)
    if len(head) < CHUNK_HEAD.size or CHUNK_HEAD.unpack(head)[-1] != 0:
        return [(0, end)], False
    first = cut[1] + CHUNK_HEAD.size + 8  # the length of the records
    last, _ = _whole(file, first, size)
    return [(0, end), *([(first, last)] if last > first else [])], False


def _whole(file: BinaryIO, begin: int, size: int) -> tuple[int, tuple[int, int] | None]:
    """End of the valid records from `begin` on, and opcode and start of content of the record after them."""
    end, last = begin, None
    for opcode, content, after in _records(file, begin, size):
        if opcode in ENDS or (opcode in DATA and after > size):
            return end, (opcode, content)
        if opcode not in DATA:  # blocks that were never written are zeros, perhaps starting within the last record
            return (end, None) if last is None else (last[1] - RECORD.size, last)
        end, last = after, (opcode, content)
    return end, None


def _records(file: BinaryIO, begin: int, size: int) -> Iterator[tuple[int, int, int]]:
    """Opcode, first byte of the content and the byte after it of each record, the last of which may be truncated."""
    while begin + RECORD.size <= size:
        file.seek(begin)
        opcode, length = RECORD.unpack(file.read(RECORD.size))
        content = begin + RECORD.size
        yield opcode, content, content + length
        begin = content + length


class _Joined(io.RawIOBase):
    """Parts of a file, then a footer, as one file."""

    def __init__(self, file: BinaryIO, spans: list[Span]) -> None:
        self._file, self._spans = file, spans
        self._size = sum(end - begin for begin, end in spans) + len(FOOTER)
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Fills the buffer up to the end of one part."""
        view, at = memoryview(buffer), self._at
        for begin, end in self._spans:
            if at < end - begin:
                self._file.seek(begin + at)
                data = self._file.read(min(len(view), end - begin - at))
                break
            at -= end - begin
        else:
            data = FOOTER[at : at + len(view)]
        view[: len(data)] = data
        self._at += len(data)
        return len(data)

    def close(self) -> None:
        self._file.close()
        super().close()
