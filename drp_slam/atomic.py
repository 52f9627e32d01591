# SPDX-License-Identifier: Apache-2.0
"""Files that are complete or absent: written under a temporary name, then renamed; blocks safe from signals."""

from __future__ import annotations

import csv
import dataclasses
import os
import secrets
import signal
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from drp_slam.errors import DrpSlamError


@contextmanager
def replacing(path: Path, error: type[DrpSlamError]) -> Iterator[Path]:
    """Yield a name beside `path` to write to; rename it to `path` when the block ends without an exception.

    Raises `error`, with the path, the reason and the remedy, for every OSError.
    """
    temporary = path.with_name(f"{path.name}.part{os.getpid()}-{secrets.token_hex(4)}")
    try:
        # create an empty file first, so that the writer never follows a link planted under this name
        os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666))
        yield temporary
        temporary.replace(path)
    except OSError as refused:
        raise error(
            f"{path}: cannot write: {refused.strerror or refused}; the previous file is kept; "
            "free the disk or name another folder with --out"
        ) from refused
    finally:
        with suppress(OSError):  # on a read-only disk this fails, too, and would hide the error
            temporary.unlink()


def write_text(path: Path, text: str, error: type[DrpSlamError]) -> None:
    """Write a text file. Raises `error` as `replacing` does."""
    write_bytes(path, text.encode(), error)


def write_bytes(path: Path, content: bytes, error: type[DrpSlamError]) -> None:
    """Write a binary file. Raises `error` as `replacing` does."""
    with replacing(path, error) as temporary:
        temporary.write_bytes(content)


@contextmanager
def table(path: Path, columns: Iterable[str], error: type[DrpSlamError]) -> Iterator[Any]:
    """Yield a `csv.writer` of a table with these columns; the file appears when the block ends without an exception.

    Raises `error` as `replacing` does.
    """
    with replacing(path, error) as temporary, temporary.open("w", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(columns)
        yield rows


def write_table(path: Path, kind: Any, rows: Iterable[Any], error: type[DrpSlamError]) -> None:
    """Write dataclasses of one `kind` as CSV, one column per field. Raises `error` as `replacing` does."""
    with table(path, [f.name for f in dataclasses.fields(kind)], error) as out:
        out.writerows(dataclasses.astuple(row) for row in rows)


@dataclass
class Interrupts:
    """Number of SIGINT and SIGTERM received."""

    count: int = 0


@contextmanager
def uninterrupted() -> Iterator[Interrupts]:
    """Count SIGINT and SIGTERM while the block runs, even if SIGINT was ignored (a shell's `&`).

    Nothing is raised: in an import or while a file is written, KeyboardInterrupt may be swallowed or
    lose data. Other threads than the main one get no signals, so nothing is changed there.
    """
    interrupts = Interrupts()
    if threading.current_thread() is not threading.main_thread():
        yield interrupts
        return

    def note(*_: object) -> None:
        interrupts.count += 1

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield interrupts
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def make_folder(path: Path) -> Path:
    """Creates a folder of results and its parents. Raises DrpSlamError if that fails."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DrpSlamError(
            f"{path}: cannot create the folder: {error.strerror}; name another folder with --out"
        ) from error
    return path
