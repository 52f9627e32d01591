# SPDX-License-Identifier: Apache-2.0
"""Reads an sqlite3 bag that is cut off or damaged: its whole messages, copied into a file that `rosbags` opens.

SQLite refuses a file that is shorter than its header says, unless the schema may be edited. Messages are read in the
order of recording, without the index of their times, whose pages lie all over the file. Where the first pages of the
messages' tree are lost, as where most of a bag is cut off, only `sqlite3 FILE .recover` finds the messages. Format:
https://www.sqlite.org/fileformat.html.
"""

from __future__ import annotations

import contextlib
import io
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

LARGEST_GAP = 1 << 24
"""Messages in a row that cannot be read; what follows more of them is given up."""
TABLES = ("schema", "topics", "message_definitions")
"""What says how to read the messages; older bags have topics alone."""
Row = tuple[int, int, int, bytes]
"""Number, topic, log time in ns, and the message's CDR bytes."""


def is_short(file: Path) -> bool:
    """Whether a file has fewer pages than its header says, where the header is up to date."""
    head, size, page = _head(file)
    return head[24:28] == head[92:96] and size < page * int.from_bytes(head[28:32], "big")


def _head(file: Path) -> tuple[bytes, int, int]:
    """The file's header, and the bytes of the file and of a page."""
    with file.open("rb") as content:
        head = content.read(100)
        size = content.seek(0, io.SEEK_END)
    page = int.from_bytes(head[16:18], "big")
    return head, size, 65536 if page == 1 else max(page, 512)


def recover(file: Path, into: Path) -> tuple[int, int]:
    """Copies what can be read into a new file; how many messages that is, and how many parts are lost.

    Raises sqlite3.Error where nothing can be read, or the disk is full.
    """
    broken = sqlite3.connect(f"file:{quote(str(file))}?immutable=1", uri=True)
    broken.text_factory = lambda text: text.decode(errors="replace")
    whole = sqlite3.connect(into, isolation_level=None)
    rows, gaps = 0, 0
    with contextlib.closing(broken), contextlib.closing(whole):
        broken.execute("PRAGMA writable_schema=ON")
        for words in ("PRAGMA journal_mode=OFF", "PRAGMA synchronous=OFF", "BEGIN"):
            whole.execute(words)
        for name in TABLES:
            _copy(broken, whole, name)
        whole.execute("CREATE TABLE messages (id INTEGER PRIMARY KEY, topic_id, timestamp, data)")
        for row in _messages(broken):
            if row is None:
                gaps += 1
            else:
                whole.execute("INSERT INTO messages VALUES (?, ?, ?, ?)", row)
                rows += 1
        _, size, page = _head(file)
        if rows and size % page:  # SQLite reads what a page lacks as zeros: the last message may have some
            whole.execute("DELETE FROM messages WHERE id = (SELECT max(id) FROM messages)")
            rows -= 1
        whole.execute("CREATE INDEX timestamp_idx ON messages (timestamp)")
        whole.execute("COMMIT")
    return rows, gaps


def _copy(broken: sqlite3.Connection, whole: sqlite3.Connection, table: str) -> None:
    """Copies a small table, if there is one, without its constraints."""
    columns = ['"' + name.replace('"', '""') + '"' for _, name, *_ in broken.execute(f"PRAGMA table_info({table})")]
    if columns:
        whole.execute(f"CREATE TABLE {table} ({','.join(columns)})")
        marks = ",".join("?" * len(columns))
        whole.executemany(f"INSERT INTO {table} VALUES ({marks})", broken.execute(f"SELECT * FROM {table}"))


def _messages(broken: sqlite3.Connection) -> Iterator[Row | None]:
    """Whole messages in the order of recording; None for each part that cannot be read."""
    words = "SELECT id, topic_id, timestamp, data FROM messages NOT INDEXED WHERE id > ? ORDER BY id"
    last, skipped = 0, 0
    while skipped < LARGEST_GAP:
        try:
            for row in broken.execute(words, (last + skipped,)):
                if row[0] <= last or tuple(map(type, row)) != (int, int, int, bytes):
                    raise sqlite3.DatabaseError("no message")
                last, skipped = row[0], 0
                yield row
            return
        except (sqlite3.DatabaseError, OverflowError):
            if not skipped:
                yield None
            skipped = 2 * skipped + 1
