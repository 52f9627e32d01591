# SPDX-License-Identifier: Apache-2.0
"""Trajectories in formats other than TUM's: KITTI odometry and EuRoC."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from drp_slam import geometry
from drp_slam.atomic import write_text
from drp_slam.data.trajectory import read_tum
from drp_slam.datatypes import Trajectory
from drp_slam.errors import DataError
from drp_slam.resources import read_text

FORMATS = ("kitti", "euroc")
NAMES = {"kitti": "trajectory_kitti.txt", "euroc": "trajectory_euroc.csv"}
"""File names in a folder of results."""
EUROC_COLUMNS = "timestamp [ns],p_RS_R_x [m],p_RS_R_y [m],p_RS_R_z [m],q_RS_w [],q_RS_x [],q_RS_y [],q_RS_z []"
"""Header of the data set's ground truth."""


def export(path: Path, trajectory: Trajectory, form: str) -> list[Path]:
    """Writes a trajectory as `form` and returns the files. Raises DataError.

    `kitti`: 12 numbers per line, the upper three rows of `T_world_camera`, and the stamps in seconds in a second file
    `..._times.txt`, because KITTI's format has none. `euroc`: stamp in ns, position, quaternion w x y z.
    """
    if form == "kitti":
        times = path.with_name(f"{path.stem}_times.txt")
        rows = trajectory.T_world_camera[:, :3].reshape(-1, 12)
        seconds = (f"{s // 10**9}.{s % 10**9:09d}" for s in trajectory.stamps_ns.tolist())
        write_text(path, "".join(" ".join(map(repr, row)) + "\n" for row in rows.tolist()), DataError)
        write_text(times, "".join(f"{text}\n" for text in seconds), DataError)
        return [path, times]
    turns = np.roll(geometry.quaternion(trajectory.T_world_camera[:, :3, :3]), 1, axis=1)
    values = np.hstack([trajectory.positions_m, turns]).tolist()
    stamps = trajectory.stamps_ns.tolist()
    lines = (f"{stamp},{','.join(map(repr, row))}\n" for stamp, row in zip(stamps, values, strict=True))
    write_text(path, f"#{EUROC_COLUMNS}\n" + "".join(lines), DataError)
    return [path]


def export_results(folder: Path, forms: list[str]) -> list[str]:
    """Writes `trajectory.txt` of a results folder in other formats beside it; returns the files' names."""
    trajectory = read_tum(folder / "trajectory.txt")
    return [p.name for form in dict.fromkeys(forms) for p in export(folder / NAMES[form], trajectory, form)]


def trajectory_file(source: Path) -> Path | None:
    """The trajectory that a path names: a file in TUM's format, or that of a results folder; else None."""
    path = source / "trajectory.txt" if source.is_dir() else source
    return path if path.is_file() and path.suffix == ".txt" else None


def only_keyframes(trajectory: Trajectory, source: Path) -> Trajectory:
    """The poses of keyframes, from `frames.csv` beside the trajectory. Raises DataError without it."""
    table = source.parent / "frames.csv"
    if not table.is_file():
        raise DataError(f"{table}: no such file: keyframes are only listed in a results folder")
    try:
        rows = csv.DictReader(read_text(table, DataError).splitlines())
        keys = np.array([int(row["stamp_ns"]) for row in rows if row["keyframe"] == "1"], np.int64)
    except (KeyError, TypeError, ValueError, OverflowError, csv.Error) as error:
        raise DataError(f"{table}: cannot read: {error!r}") from error
    kept = np.isin(trajectory.stamps_ns, keys)
    return Trajectory(trajectory.stamps_ns[kept], trajectory.T_world_camera[kept])
