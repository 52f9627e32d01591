# SPDX-License-Identifier: Apache-2.0
"""Reads ground truth in TUM's or EuRoC's format, in any unit of time, and skips invalid rows.

Ground truth is only used to score a run, so problems become notes, not errors.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from drp_slam import geometry
from drp_slam.data.trajectory import parse_stamp
from drp_slam.datatypes import Trajectory
from drp_slam.errors import DataError
from drp_slam.resources import read_text

UNIT = 0.1
"""Largest deviation of a quaternion from length 1; smaller ones are normalised."""
POWERS = ((17, 9), (14, 6), (11, 3))
"""Stamps with more digits than the first number are in units of 10 to minus the second: ns, us, ms since 1970."""


def read_truth(path: Path) -> tuple[Trajectory | None, tuple[str, ...]]:
    """The poses of a file, or None, and notes.

    A row is `t tx ty tz qx qy qz qw`, or with w first if a comment line names q_w before q_x (EuRoC). Stamps in ms,
    us or ns are recognised by their size.
    """
    if not path.is_file():
        return None, ()
    try:
        lines = read_text(path, DataError).splitlines()
    except DataError as error:
        return None, (f"{error}: no ground truth",)
    w_first = any(re.search(r"q_?(RS_)?w.*q_?(RS_)?x", line, re.I) for line in lines[:20] if line.startswith("#"))
    rows = [line.replace(",", " ").split() for line in lines if line.strip() and line[0] != "#"]
    stamps_ns: list[int] = []
    poses: list[np.ndarray] = []
    problem = ""
    for number, fields in enumerate(rows, 1):
        try:
            stamp_ns, pose = _pose(fields, w_first, f"row {number}")
        except DataError as error:
            problem = problem or str(error)
            continue
        stamps_ns.append(stamp_ns)
        poses.append(pose)
    bad = len(rows) - len(poses)
    notes = (f"{path}: {bad} of {len(rows)} rows skipped, the first: {problem}",) if bad else ()
    if not poses:
        return None, notes or (f"{path}: no poses in it",)
    table = np.array(poses)
    T_world_camera = np.tile(np.eye(4), (len(table), 1, 1))
    T_world_camera[:, :3, :3], T_world_camera[:, :3, 3] = geometry.rotation(table[:, 3:]), table[:, :3]
    found = Trajectory.of(zip(stamps_ns, T_world_camera))
    twice = len(poses) - len(found)
    return found, (*notes, f"{path}: {twice} rows with repeated stamps skipped") if twice else notes


def _pose(fields: list[str], w_first: bool, where: str) -> tuple[int, np.ndarray]:
    """Stamp in ns, and x y z qx qy qz qw, of a row. Raises DataError."""
    if len(fields) < 8:
        raise DataError(f"{where} has {len(fields)} fields, expected t tx ty tz qx qy qz qw")
    try:
        values = np.array([float(field) for field in fields[1:8]])
    except ValueError as error:
        raise DataError(f"{where}: {error}") from error
    q = np.roll(values[3:], -1) if w_first else values[3:]
    if not (np.isfinite(values).all() and abs(np.linalg.norm(q) - 1.0) <= UNIT):
        raise DataError(f"{where} is not a pose: not finite, or a quaternion of length {np.linalg.norm(q):.3g}")
    whole = len(fields[0].partition(".")[0].lstrip("-"))
    power = next((power for digits, power in POWERS if whole > digits), 0)
    stamp_ns = parse_stamp(f"{fields[0]}e-{power}" if power else fields[0], where)
    return stamp_ns, np.concatenate([values[:3], q])
