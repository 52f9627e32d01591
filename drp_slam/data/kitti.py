# SPDX-License-Identifier: Apache-2.0
"""Reads sequences of KITTI odometry (Geiger et al., CVPR 2012): rectified stereo pairs.

A folder with `image_0` and `image_1` (grey) or `image_2` and `image_3` (colour), or only the left ones, `calib.txt`
and `times.txt`;
ground truth from `poses.txt` in it, or from `../../poses/<name of the folder>.txt` as in the data set.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from drp_slam.data.calibration import Given, calibration_of_pair
from drp_slam.data.sequence import Sequence, alone, window, without_depth
from drp_slam.data.stamps import admitted
from drp_slam.data.tum import read_colour
from drp_slam.datatypes import Camera, Frame, Trajectory
from drp_slam.errors import DataError
from drp_slam.resources import read_text

PAIRS = (("image_0", "image_1"), ("image_2", "image_3"))
SUFFIXES = (".png", ".jpg")


def is_kitti(folder: Path) -> bool:
    """Whether the folder has the layout of a KITTI odometry sequence."""
    return (folder / "calib.txt").is_file() and any((folder / left).is_dir() for left, _ in PAIRS)


def open_kitti(folder: Path, start: int = 0, frames: int | None = None, given: Given | None = None) -> Sequence:
    """Opens a folder. Raises DataError for invalid files or calibration."""
    left, right = next((pair for pair in PAIRS if (folder / pair[0]).is_dir()), PAIRS[0])
    files = [_images(folder / left), _images(folder / right)]
    stamps_ns = _times(folder / "times.txt")
    lone = not (folder / right).is_dir()
    if len(files[0]) != len(stamps_ns) or not (lone or len(files[1]) == len(stamps_ns)):
        raise DataError(
            f"{folder}: {len(files[0])} images in {left}, {len(files[1])} in {right} and {len(stamps_ns)} stamps in "
            "times.txt; copy the sequence again"
        )
    used, _, notes = admitted(stamps_ns, str(folder / "times.txt"))
    if not len(used):
        raise DataError(f"{folder / 'times.txt'}: no usable stamps; expected one per pair, increasing")
    height, width = read_colour(files[0][0]).shape[:2]
    camera, T_camera_rig = _camera(folder / "calib.txt", int(left[-1]), width, height, stamps_ns)
    camera, said = calibration_of_pair(camera, given, str(folder))
    if lone:
        camera, said = alone(camera), (*said, without_depth(str(folder), f"no {right}"))
    chosen = used[window(used, start, frames, str(folder))]

    def source() -> Iterator[Frame | DataError]:
        for index, place in enumerate(chosen.tolist()):
            try:
                left, *other = (read_colour(listed[place]) for listed in files[: 1 if lone else 2])
                yield Frame(index, int(stamps_ns[place]), left, camera, right=other[0] if other else None)
            except DataError as error:
                yield error

    truth, said_of_truth = _ground_truth(folder, stamps_ns, T_camera_rig)
    notes += said + said_of_truth
    return Sequence(folder.resolve().name, camera, stamps_ns[chosen], truth, source, notes=notes)


def _images(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.suffix in SUFFIXES) if folder.is_dir() else []


def _numbers(path: Path, width: int, label: bool = False) -> tuple[list[str], np.ndarray]:
    """Labels (if any) and (rows, width) float64. Raises DataError."""
    try:
        rows = [line.split() for line in read_text(path, DataError).splitlines() if line.strip()]
        labels = [row.pop(0).rstrip(":") for row in rows] if label else []
        values = np.array([[float(v) for v in row] for row in rows])
    except (ValueError, IndexError) as error:
        raise DataError(f"{path}: cannot read: {error}; copy the sequence again") from error
    if values.ndim != 2 or values.shape[1] != width or not np.isfinite(values).all():
        raise DataError(f"{path}: expected {width} finite numbers per line{' after its label' if label else ''}")
    return labels, values


def _times(path: Path) -> np.ndarray:
    """(N,) int64 nanoseconds."""
    seconds = _numbers(path, 1)[1][:, 0]
    if (np.abs(seconds) > 9e9).any():
        raise DataError(f"{path}: a stamp of {seconds[np.abs(seconds).argmax()]:g} s; expected seconds below 9e9")
    return np.rint(seconds * 1e9).astype(np.int64)


def _camera(path: Path, number: int, width: int, height: int, stamps_ns: np.ndarray) -> tuple[Camera, np.ndarray]:
    """The left camera, and (4, 4) `T_camera_rig` from camera 0, whose poses the data set has."""
    labels, rows = _numbers(path, 12, label=True)
    known = dict(zip(labels, rows.reshape(-1, 3, 4)))
    try:
        left, right = known[f"P{number}"], known[f"P{number + 1}"]
    except KeyError as error:
        raise DataError(f"{path}: no line {error.args[0]}; expected P{number} and P{number + 1}") from None
    focal_px, offset_px_m = float(left[0, 0]), float(left[0, 3] - right[0, 3])
    if not (focal_px > 0 and offset_px_m > 0 and math.isclose(focal_px, right[0, 0], rel_tol=1e-6)):
        raise DataError(
            f"{path}: focal length {focal_px} px, baseline x focal {offset_px_m} px m; is the pair rectified?"
        )
    try:
        offset_m = np.linalg.solve(left[:, :3], left[:, 3])
    except np.linalg.LinAlgError:
        raise DataError(f"{path}: P{number} is not a projection: its left 3 x 3 part is singular") from None
    baseline_m, distinct_ns = offset_px_m / focal_px, np.unique(stamps_ns)
    fps = 1e9 / float(np.median(np.diff(distinct_ns))) if len(distinct_ns) > 1 else 10.0
    T_camera_rig = np.eye(4)
    T_camera_rig[:3, 3] = offset_m
    fy, cx, cy = float(left[1, 1]), float(left[0, 2]), float(left[1, 2])
    return Camera(width, height, focal_px, fy, cx, cy, fps=fps, baseline_m=baseline_m), T_camera_rig


def _ground_truth(
    folder: Path, stamps_ns: np.ndarray, T_camera_rig: np.ndarray
) -> tuple[Trajectory | None, tuple[str, ...]]:
    """The camera's poses, or None and, for an invalid file, a note: ground truth is only for scoring."""
    name = folder.resolve().name
    places = (folder / "poses.txt", folder.resolve().parent.parent / "poses" / f"{name}.txt")
    path = next((p for p in places if p.is_file()), None)
    if path is None:
        return None, ()
    try:
        rows = _numbers(path, 12)[1].reshape(-1, 3, 4)
    except DataError as error:
        return None, (f"{error}: no ground truth",)
    if len(rows) != len(stamps_ns):
        return None, (f"{path}: {len(rows)} poses for {len(stamps_ns)} stamps: not this sequence's ground truth",)
    T_world_rig = np.tile(np.eye(4), (len(rows), 1, 1))
    T_world_rig[:, :3] = rows
    return Trajectory.of(zip(stamps_ns.tolist(), T_world_rig @ np.linalg.inv(T_camera_rig))), ()
