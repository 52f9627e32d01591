# SPDX-License-Identifier: Apache-2.0
"""Opens the files of a rosbag2 (MCAP, sqlite3, either compressed with zstd) through the `rosbags` package.

A bag is its folder with metadata.yaml, or just its storage files: if metadata.yaml is missing or wrong (an
interrupted recording, a renamed file), the files are sufficient.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from drp_slam.data.mcap_recovery import Scanner, is_indexed
from drp_slam.data.sqlite_recovery import is_short, recover
from drp_slam.errors import DataError
from drp_slam.resources import parse_yaml, read_text

log = logging.getLogger(__name__)

OLD_READER = "0.11"
"""rosbags before this, the last for Python 3.10, opens a bag by its folder only."""
MAGIC = {b"\x89MCAP0\r\n": ".mcap", b"SQLite format 3\0": ".db3"}
"""First bytes of a storage file -> its correct suffix."""
ZSTD = b"\x28\xb5\x2f\xfd"
ROS_1 = b"#ROSBAG V"
LARGEST_MESSAGE = 1 << 28
"""Bytes of a message: a colour image of 8192 x 8192 pixels has 200 MB."""
LONGEST_METADATA = 1 << 24
"""Bytes of metadata.yaml, which lists every file of a bag in many parts."""
SUFFIXES = (".mcap", ".db3", ".mcap.zstd", ".db3.zstd", ".bag")
FOREIGN = ("Profile is not ros2", "Serialization format")
"""Messages of `rosbags` for intact files that are not of ROS 2."""
Message = tuple[Any, int, bytes]
"""Connection, log time in ns, and the message's CDR bytes."""


def is_bag(path: Path) -> bool:
    """Whether the path is a rosbag2, its folder or one of its files, under any name; or a bag of ROS 1."""
    if path.is_file():
        return path.name.endswith(SUFFIXES) or _kind(path) is not None
    return (path / "metadata.yaml").is_file() or any(entry.name.endswith(SUFFIXES) for entry in path.iterdir())


@contextlib.contextmanager
def reader(path: Path) -> Iterator[Joined]:
    """An open bag. Raises DataError with a way to repair it, or to convert another format."""
    with contextlib.ExitStack() as stack:
        yield _open(path, stack)


@dataclass
class Joined:
    """One or more readers of `rosbags` as one; `note` says why metadata.yaml is not used."""

    path: Path
    readers: list[Any]
    note: str = ""

    @property
    def connections(self) -> list[Any]:
        """One connection per topic and type, with the messages of all files."""
        found: dict[tuple[str, str], Any] = {}
        for connection in (c for reader in self.readers for c in reader.connections):
            key = connection.topic, connection.msgtype
            first = found.get(key)
            found[key] = connection if first is None else first._replace(msgcount=first.msgcount + connection.msgcount)
        return list(found.values())

    def messages(self, wanted: list[Any], begin: int | None = None, end: int | None = None) -> Iterator[Message]:
        """Messages of the wanted connections by log time. Raises DataError where the bag is truncated."""
        by_key = {(c.topic, c.msgtype): c for c in wanted}
        for reader in self.readers:
            own = [c for c in reader.connections if (c.topic, c.msgtype) in by_key]
            stream = reader.messages(own, begin, end) if own else iter(())
            while True:
                try:
                    connection, log_ns, data = next(stream)
                    if data[:4] == ZSTD:  # compressed by message, without a metadata.yaml
                        data = _message(data)
                except StopIteration:
                    break
                except Exception as error:  # damaged bytes raise various errors of the storage libraries
                    raise damaged(self.path, error) from error
                yield by_key[connection.topic, connection.msgtype], log_ns, data


def _open(path: Path, stack: contextlib.ExitStack) -> Joined:
    from rosbags.rosbag2 import Reader

    files = [path] if path.is_file() else sorted(f for f in path.iterdir() if f.is_file())
    for file in files:
        if _begins(file, ROS_1):
            raise DataError(
                f"{file}: a bag of ROS 1, not a rosbag2; convert it: rosbags-convert --src {file} --dst "
                f"{file.with_suffix('')}"
            )
    note, cause = "", None
    if (path / "metadata.yaml").is_file():
        try:
            _check_metadata(path / "metadata.yaml")
            if any(_kind(file) == ".db3" and is_short(file) for file in files):
                raise EOFError("a file is shorter than it says")
            return Joined(path, [_entered(stack, Reader(path))], _logged(_unwritten(files)))
        except Exception as error:  # as above
            note, cause = f"{path}: does not open by its metadata.yaml ({error}); the files are read without it", error
    stores = [file for file in files if _kind(file) is not None]
    if reads_folders_only() and (stores or path.is_file()):
        raise (
            (cause and damaged(path, cause))
            or DataError(
                f"{path}: rosbags {version('rosbags')} reads a bag by its folder only; name that, "
                "after `ros2 bag reindex` where it has no metadata.yaml"
            )
        )
    if not stores:
        raise damaged(path, cause or EOFError("no file in it begins as MCAP or sqlite3 do"))
    try:
        opened = [_opened(stack, Reader.STORAGE_PLUGINS[suffix], file) for file, suffix in _plain(stores, stack)]
    except DataError:
        raise
    except Exception as error:  # as above
        raise damaged(path, error) from error
    note = "; ".join(filter(None, (note, *(said for _, said in opened), _unwritten(stores))))
    return Joined(path, sorted((r for r, _ in opened), key=lambda r: r.metadata.start_time), _logged(note))


def _logged(note: str) -> str:
    if note:
        log.warning(note)
    return note


def _unwritten(files: list[Path]) -> str:
    """Says that messages are in the log of a database whose recorder was killed: `rosbags` does not read it."""
    logs = {file: file.with_name(file.name + "-wal") for file in files}
    return "; ".join(
        f"{file}: the last messages are in {wal.name} and not read; sqlite3 {file} 'PRAGMA wal_checkpoint' adds them"
        for file, wal in logs.items()
        if wal.is_file() and wal.stat().st_size
    )


def _opened(stack: contextlib.ExitStack, plugin: Any, file: Path) -> tuple[Any, str]:
    """The reader of a storage file, and a note on damage."""
    if _kind(file) == ".db3":
        return _opened_sqlite(stack, plugin, file)
    if is_indexed(file):
        return _entered(stack, plugin(file)), ""
    scanner = Scanner(plugin, file)
    reader, lost_bytes = _entered(stack, scanner), scanner.whole.lost_bytes
    if lost_bytes and not reader.metadata.message_count:
        raise EOFError("no whole message in it")
    return reader, f"{file}: truncated, {lost_bytes} bytes after the last whole message" * (lost_bytes > 0)


def _opened_sqlite(stack: contextlib.ExitStack, plugin: Any, file: Path) -> tuple[Any, str]:
    """As `_opened`; of a damaged file the whole messages are copied."""
    cause: Exception = EOFError("the file is shorter than it says")
    try:
        reader = _entered(stack, plugin(file))
        if not is_short(file):
            return reader, ""
    except Exception as error:  # damaged bytes surface as any error of the storage libraries
        cause = error
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    if 2 * file.stat().st_size > shutil.disk_usage(folder).free:
        raise EOFError(f"{cause}; to read what is whole, set TMPDIR to a disk with twice its size free")
    messages, gaps = recover(file, folder / file.name)
    if not messages:
        raise EOFError(f"no whole message in it; {cause}")
    parts = f"{gaps} part{'s' * (gaps > 1)} cannot be read" if gaps else "its index cannot be read"
    return _entered(stack, plugin(folder / file.name)), f"{file}: damaged, {parts}; {messages} whole messages are used"


def _check_metadata(path: Path) -> None:
    """Raises DataError unless it is YAML of bounded depth: the parser of `rosbags` would take seconds to fail."""
    parse_yaml(read_text(path, DataError, LONGEST_METADATA), path.name, DataError)


def _entered(stack: contextlib.ExitStack, reader: Any) -> Any:
    """A reader that stays open until the stack is closed."""
    reader.open()
    stack.callback(reader.close)
    return reader


def _plain(stores: list[Path], stack: contextlib.ExitStack) -> Iterator[tuple[Path, str]]:
    """Storage files without compression, and the suffix for their format."""
    for file in stores:
        kind = _kind(file)
        if kind == ".zstd":
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            plain = folder / file.name.removesuffix(".zstd")
            _unpack(file, plain)
            file, kind = plain, _kind(plain)
        yield file, kind or file.suffix


def _unpack(file: Path, plain: Path) -> None:
    """Unpacks a compressed file. Raises DataError if that would fill the disk: a small file can expand to any size."""
    left = shutil.disk_usage(plain.parent).free // 2
    with _zstd().open(file, "rb") as packed, plain.open("wb") as out:
        while piece := packed.read(1 << 20):
            left -= len(piece)
            if left < 0:
                raise DataError(
                    f"{file}: unpacks to more than half of the free space of {plain.parent.parent}; unpack it with "
                    "zstd, or set TMPDIR to a larger disk"
                )
            out.write(piece)


def _message(data: bytes) -> bytes:
    """Decompresses a single message. Raises ValueError for one larger than any image."""
    unpacking = _zstd().ZstdDecompressor()
    plain = unpacking.decompress(data, LARGEST_MESSAGE)
    if not unpacking.eof:
        raise ValueError(f"a message of more than {LARGEST_MESSAGE} bytes")
    return bytes(plain)


def _kind(file: Path) -> str | None:
    """`.mcap`, `.db3` or `.zstd` by the first bytes of a file, None for another one."""
    if file.name.endswith((".yaml", ".db3-shm", ".db3-wal")):
        return None
    found = next((suffix for magic, suffix in MAGIC.items() if _begins(file, magic)), None)
    packed = found is None and file.name.endswith(".zstd") and _begins(file, ZSTD)
    return ".zstd" if packed else found


def _begins(file: Path, magic: bytes) -> bool:
    try:
        with file.open("rb") as content:
            return file.is_file() and content.read(len(magic)) == magic
    except OSError:
        return False


def _zstd() -> Any:
    """The module that `rosbags` itself decompresses with."""
    from rosbags.rosbag2 import reader as rosbags_reader

    return rosbags_reader.zstd


def damaged(path: Path, error: Exception) -> DataError:
    """The error for a bag that cannot be read, with the remedy."""
    if any(words in str(error) for words in FOREIGN):
        return DataError(f"{path}: {error} Expected a rosbag2 with messages of ROS 2 in CDR")
    files = [path] if path.is_file() else sorted(path.iterdir())
    store = next((f for f in files if f.suffix in (".db3", ".mcap")), path)
    if isinstance(error, FileNotFoundError):
        kind = "sqlite3" if store.suffix == ".db3" else "mcap"
        repair = f"ros2 bag reindex -s {kind} {path}"
    elif store.suffix == ".db3":
        repair = f"sqlite3 {store} .recover | sqlite3 recovered.db3"
    else:
        repair = f"mcap recover {store} -o recovered.mcap"
    return DataError(f"{path}: damaged, truncated or incomplete bag ({error}); try: {repair}")


def reads_folders_only() -> bool:
    """Whether the installed rosbags is an old one."""
    major_minor = [int(part) for part in version("rosbags").split(".")[:2]]
    return major_minor < [int(part) for part in OLD_READER.split(".")]


def message_of(store: Any, data: bytes, kind: str, path: Path) -> Any:
    """Decodes a message of this type. Raises DataError for other bytes."""
    try:
        return store.deserialize_cdr(data, kind)
    except Exception as error:  # damaged bytes raise various errors of numpy or struct
        raise damaged(path, error) from error


def typestore() -> Any:
    """Message types of ROS 2 Jazzy."""
    from rosbags.typesys import Stores, get_typestore

    return get_typestore(Stores.ROS2_JAZZY)
