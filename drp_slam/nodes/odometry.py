# SPDX-License-Identifier: Apache-2.0
"""The odometry of a graph as files: a pose is on disk as soon as it is published."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TextIO

import numpy as np

from drp_slam.atomic import write_text
from drp_slam.data.trajectory import lines, read_tum, write_tum
from drp_slam.datatypes import Trajectory
from drp_slam.errors import DataError
from drp_slam.reporting import folder as files


class Odometry:
    """Collects `T_world_camera` by stamp. `out` is the folder of results, or empty for none.

    A node that is killed writes nothing, but its journal stays: `recover` makes results of it.
    """

    def __init__(self, out: str) -> None:
        self._journal_path = Path(out) / files.JOURNAL if out else None
        self._journal: TextIO | None = None
        self._poses: list[tuple[int, np.ndarray]] = []
        if self._journal_path is not None:  # of an earlier graph that was killed as a whole
            with contextlib.suppress(OSError):
                self._journal_path.unlink()

    def __len__(self) -> int:
        return len(self._poses)

    def add(self, stamp_ns: int, T_world_camera: np.ndarray) -> str | None:
        """Takes the next pose. What the disk refused, in words, after which no journal is kept."""
        self._poses.append((stamp_ns, T_world_camera))
        if self._journal_path is None:
            return None
        try:
            if self._journal is None:
                self._journal_path.parent.mkdir(parents=True, exist_ok=True)
                self._journal = self._journal_path.open("w", buffering=1)
            self._journal.write(lines(_trajectory(self._poses[-1:])))
        except OSError as refused:
            path, self._journal_path = self._journal_path, None
            return f"{path}: cannot write: {refused.strerror or refused}; free the disk"
        return None

    def write(self, out: Path) -> None:
        """Writes `odometry.txt`, which the journal is no longer needed for."""
        write_tum(out / files.ODOMETRY, _trajectory(self._poses))
        if self._journal is not None:
            self._journal.close()
        (out / files.JOURNAL).unlink(missing_ok=True)


def recover(out: Path) -> bool:
    """Makes `odometry.txt` and `trajectory.txt` of the journal that a killed node left, if any.

    Raises DataError for a journal that cannot be read.
    """
    journal = out / files.JOURNAL
    if not journal.is_file():
        return False
    text = journal.read_text()
    write_text(journal, text[: text.rfind("\n") + 1], DataError)  # a line may have been cut off
    published = read_tum(journal)
    for name in (files.ODOMETRY, files.TRAJECTORY):
        write_tum(out / name, published)
    journal.unlink()
    return True


def _trajectory(poses: list[tuple[int, np.ndarray]]) -> Trajectory:
    stamps_ns = np.array([stamp for stamp, _ in poses], np.int64)
    return Trajectory(stamps_ns, np.array([T for _, T in poses]).reshape(-1, 4, 4))
