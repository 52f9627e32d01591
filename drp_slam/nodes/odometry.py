# SPDX-License-Identifier: Apache-2.0
"""Writes the odometry of a graph to files; each pose is on disk as soon as it is published."""

from __future__ import annotations

import contextlib
import os
from collections import deque
from pathlib import Path

import numpy as np

from drp_slam.atomic import write_text
from drp_slam.data.trajectory import HEADER, lines, parse_stamp
from drp_slam.datatypes import Trajectory
from drp_slam.errors import DataError
from drp_slam.reporting import folder as files

BACKLOG = 100_000
"""Largest number of poses held while the disk is full, an hour at 30 Hz."""


class Odometry:
    """Writes `T_world_camera` by stamp into a journal. `out` is the folder of results, or empty for none.

    The journal survives when the node is killed: the restarted node appends to it, and `write` or
    `recover` turns it into results.
    """

    def __init__(self, out: str) -> None:
        self._path = Path(out) / files.JOURNAL if out else None
        self._file: int | None = None
        self._waiting: deque[bytes] = deque(maxlen=BACKLOG)
        self._refused = False
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, stamp_ns: int, T_world_camera: np.ndarray) -> str | None:
        """Adds the next pose. A write error is reported once, and poses are held until there is room."""
        self._count += 1
        if self._path is None:
            return None
        self._waiting.append(lines(Trajectory.of([(stamp_ns, T_world_camera)])).encode())
        try:
            self._flush(self._path)
        except OSError as refused:
            known, self._refused = self._refused, True
            return None if known else f"{self._path}: cannot write: {refused.strerror}; free the disk"
        self._refused = False
        return None

    def write(self, out: Path) -> None:
        """Writes `odometry.txt`; the journal is no longer needed. Raises DataError."""
        if self._path is None:
            return
        try:
            self._flush(self._path)
        except OSError as refused:
            raise DataError(f"{self._path}: cannot write: {refused.strerror}; free the disk") from refused
        if self._file is not None:
            os.close(self._file)
            self._file = None
        write_text(out / files.ODOMETRY, published(self._path), DataError)
        self._path.unlink(missing_ok=True)

    def _flush(self, path: Path) -> None:
        """Writes the held poses. A full disk may truncate a line; the next attempt marks that line as invalid."""
        if self._file is None:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o666)
            if os.fstat(self._file).st_size:  # left by a killed node, perhaps in the middle of a line
                self._waiting.appendleft(TORN)
        while self._waiting:
            line = self._waiting[0]
            written = os.write(self._file, line)
            if written < len(line):
                self._waiting.appendleft(TORN)
                continue
            self._waiting.popleft()


TORN = b" torn\n"
"""Appended to a partly written line to make it invalid."""


def recover(out: Path) -> bool:
    """Writes `odometry.txt` and `trajectory.txt` from the journal of a killed node, if there is one.

    Raises DataError for a journal that cannot be read.
    """
    journal = out / files.JOURNAL
    if not journal.is_file():
        return False
    text = published(journal)
    for name in (files.ODOMETRY, files.TRAJECTORY):
        write_text(out / name, text, DataError)
    journal.unlink()
    return True


def published(journal: Path) -> str:
    """The poses of a journal in TUM's format, by stamp; the last pose for each stamp.

    Truncated lines, from a kill or a full disk, are left out. Raises DataError.
    """
    try:
        text = journal.read_bytes().decode(errors="replace") if journal.exists() else ""
    except OSError as refused:
        raise DataError(f"{journal}: cannot read: {refused.strerror}") from refused
    by_stamp: dict[int, str] = {}
    for number, line in enumerate(text[: text.rfind("\n") + 1].splitlines(), 1):
        fields = line.split()
        if len(fields) != 8:
            continue
        with contextlib.suppress(DataError):
            by_stamp[parse_stamp(fields[0], f"{journal}: line {number}")] = line
    return HEADER + "".join(f"{line}\n" for _, line in sorted(by_stamp.items()))
