# SPDX-License-Identifier: Apache-2.0
"""The tables of a running graph: committed rows survive the end of the process, however it ends.

Rows are appended to journals. A commit records their length: after a kill, later bytes are cut off, and the
restarted process continues there. At the end they are renamed to the tables. No ROS is imported.
"""

from __future__ import annotations

import csv
import dataclasses
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from drp_slam.errors import ProfilerError
from drp_slam.profiler.span import Span
from drp_slam.profiler.work_table import NAMES
from drp_slam.reporting import folder as files

COLUMNS = {
    files.SPANS: [f.name for f in dataclasses.fields(Span)],
    files.KERNELS: list(NAMES),
    files.FRAMES: [f.name for f in dataclasses.fields(files.FrameRow)],
}
TAIL = 1 << 20
"""Bytes of a journal that a restarted process searches for frames whose messages it will receive again."""


@dataclass
class Progress:
    """The contents of the tables: `rows` of frames, of which `lost`; frames without a status; times of this host."""

    rows: int = 0
    lost: int = 0
    unended: int = 0
    number: int = 0
    first_ns: int | None = None
    last_ns: int | None = None

    @property
    def wall_total_s(self) -> float:
        """From the first frame's start to the last frame's end."""
        return 0.0 if self.first_ns is None or self.last_ns is None else (self.last_ns - self.first_ns) * 1e-9


class FrameTables:
    """Journals of `spans.csv`, `kernels.csv` and `frames.csv` in `out`, opened by the first `commit`.

    `progress` and `known`, the stamps of the last frames, are those that a killed process has left, or empty. All
    methods raise ProfilerError or OSError if something cannot be written.
    """

    def __init__(self, out: Path) -> None:
        self._out = out
        self._files: dict[str, TextIO] = {}
        self.progress, self.known = Progress(), set[int]()
        left = committed(out)
        if left is None:  # killed before its first commit
            for name in COLUMNS:
                with suppress(OSError):
                    (out / journal(name)).unlink()
        else:
            self.progress, sizes = left
            cut(out, sizes)
            self.known = _stamps(out / journal(files.SPANS), 0) | _stamps(out / journal(files.FRAMES), 1)

    def rows(self, name: str) -> Any:
        """The `csv.writer` of a table."""
        if name not in self._files:
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW
            self._files[name] = os.fdopen(os.open(self._out / journal(name), flags, 0o666), "a", newline="")
            if not os.fstat(self._files[name].fileno()).st_size:
                csv.writer(self._files[name], lineterminator="\n").writerow(COLUMNS[name])
        return csv.writer(self._files[name], lineterminator="\n")

    def commit(self) -> None:
        """Makes the rows so far permanent."""
        sizes = {}
        for name in COLUMNS:
            self.rows(name)
            self._files[name].flush()
            sizes[name] = os.fstat(self._files[name].fileno()).st_size
        files.write_json(self._out / files.LEDGER, {**dataclasses.asdict(self.progress), "sizes": sizes})

    def close(self) -> None:
        """Commits and renames the journals to the tables."""
        self.commit()
        for file in self._files.values():
            file.close()
        complete(self._out)

    def abandon(self) -> None:
        """Renames the committed part to the tables, when nothing more can be written."""
        left = committed(self._out)
        for file in self._files.values():
            with suppress(OSError):  # it flushes what no longer fits on the disk
                file.close()
        with suppress(OSError):
            if left is None:
                for name in self._files:
                    (self._out / journal(name)).unlink(missing_ok=True)
            else:
                cut(self._out, left[1])
                complete(self._out)


def journal(name: str) -> str:
    """The name of the journal of a table."""
    return f"{name}{files.GROWING}"


def committed(out: Path) -> tuple[Progress, dict[str, int]] | None:
    """The progress of a killed process, and the sizes of its journals; None if there is none."""
    if not (out / files.LEDGER).is_file():
        return None
    try:
        content = files.read_json(out / files.LEDGER)
        sizes = {name: int(content["sizes"][name]) for name in COLUMNS}
        counts = [content[f.name] for f in dataclasses.fields(Progress)]
        if not all(count is None or type(count) is int for count in counts) or None in counts[:4]:
            return None
        return Progress(*counts), sizes
    except (ProfilerError, KeyError, TypeError, ValueError):
        return None


def cut(out: Path, sizes: dict[str, int]) -> None:
    """Cuts off uncommitted bytes."""
    for name, size in sizes.items():
        with suppress(FileNotFoundError):
            file = os.open(out / journal(name), os.O_WRONLY | os.O_NOFOLLOW)
            try:
                os.ftruncate(file, min(size, os.fstat(file).st_size))
            finally:
                os.close(file)


def complete(out: Path) -> None:
    """Renames the journals to the tables."""
    for name in COLUMNS:
        with suppress(FileNotFoundError):
            (out / journal(name)).replace(out / name)
    (out / files.LEDGER).unlink(missing_ok=True)


def recover(out: Path) -> bool:
    """Completes the tables, and `graph.json`, of a killed profiler_node. Raises ProfilerError."""
    left = committed(out)
    if left is None:
        return False
    progress, sizes = left
    try:
        cut(out, sizes)
        complete(out)
    except OSError as refused:
        raise ProfilerError(f"{out}: cannot complete the tables of frames: {refused.strerror}") from refused
    if not (out / files.GRAPH).exists():
        words = "was killed: frames of its last seconds are missing"
        content = {"frames": progress.rows, "wall_total_s": progress.wall_total_s, "problems": {"profiler_node": words}}
        files.write_json(out / files.GRAPH, content)
    return True


def _stamps(path: Path, column: int) -> set[int]:
    """Stamps in the last lines of a journal."""
    found: set[int] = set()
    with suppress(FileNotFoundError), path.open("rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - TAIL))
        for line in file.read().splitlines()[1:]:  # the first one is the header, or torn
            fields = line.split(b",", column + 1)
            if len(fields) > column and fields[column].lstrip(b"-").isdigit():
                found.add(int(fields[column]))
    return found
