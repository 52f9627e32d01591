# SPDX-License-Identifier: Apache-2.0
"""Reads sequences in EuRoC's layout (Burri et al., IJRR 2016; TUM-VI exports the same): raw stereo pairs.

`mav0/cam0` and `mav0/cam1` with `data.csv` (stamp in ns, file), `data/` and `sensor.yaml`; ground truth of the body
from `mav0/state_groundtruth_estimate0` (or `mocap0`). Pairs are frames of one stamp. The images are not rectified:
the camera includes the right one and the transform between them.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from drp_slam import geometry, resources
from drp_slam.data.calibration import Given, calibration_of_pair
from drp_slam.data.sequence import Sequence, alone, window, without_depth
from drp_slam.data.tum import read_colour
from drp_slam.datatypes import DISTORTION, Camera, Frame, Trajectory
from drp_slam.errors import DataError

MODELS = {"radial-tangential": "plumb_bob", "radtan": "plumb_bob", "equidistant": "equidistant"}
"""Names of EuRoC's and Kalibr's files -> names of `Camera.model`."""
TRUTH = ("state_groundtruth_estimate0", "mocap0")


def euroc_folder(folder: Path) -> Path | None:
    """The folder that holds `cam0` and `cam1`: the given one, or `mav0` in it; None if there is none."""
    return next((f for f in (folder / "mav0", folder) if (f / "cam0" / "sensor.yaml").is_file()), None)


def open_euroc(folder: Path, start: int = 0, frames: int | None = None, given: Given | None = None) -> Sequence:
    """Opens a sequence. Raises DataError for invalid lists, stamps or calibration."""
    root = euroc_folder(folder)
    if root is None:
        raise DataError(f"{folder}: no cam0 with sensor.yaml; expected a sequence in EuRoC's layout")
    if not (root / "cam1" / "sensor.yaml").is_file():
        return _lone(folder, root, start, frames)
    (left, T_body_left), (right, T_body_right) = _camera(root / "cam0"), _camera(root / "cam1")
    files = [_list(root / name) for name in ("cam0", "cam1")]
    stamps_ns = np.array(sorted(files[0].keys() & files[1].keys()), np.int64)
    if not len(stamps_ns):
        raise DataError(f"{folder}: cam0 and cam1 have no stamp in common; are they from one recording?")
    T_right_left = np.linalg.inv(T_body_right) @ T_body_left
    fps = 1e9 / float(np.median(np.diff(stamps_ns))) if len(stamps_ns) > 1 else 20.0
    camera = Camera(
        **left,
        fps=fps,
        baseline_m=float(np.linalg.norm(T_right_left[:3, 3])),
        right=Camera(**right),
        T_right_left=T_right_left,
    )
    camera, notes = calibration_of_pair(camera, given, str(folder))
    chosen = window(stamps_ns, start, frames, str(folder))

    def source() -> Iterator[Frame | DataError]:
        for index, stamp_ns in enumerate(stamps_ns[chosen].tolist()):
            try:
                one, other = (read_colour(names[stamp_ns]) for names in files)
                yield Frame(index, stamp_ns, one, camera, right=other)
            except DataError as error:
                yield error

    truth = _ground_truth(root, T_body_left)
    return Sequence(folder.resolve().name, camera, stamps_ns[chosen], truth, source, notes=notes)


def _lone(folder: Path, root: Path, start: int, frames: int | None) -> Sequence:
    """A folder with `cam0` alone."""
    left, T_body_left = _camera(root / "cam0")
    files = _list(root / "cam0")
    stamps_ns = np.array(sorted(files), np.int64)
    fps = 1e9 / float(np.median(np.diff(stamps_ns))) if len(stamps_ns) > 1 else 20.0
    camera = alone(Camera(**left, fps=fps))
    chosen = window(stamps_ns, start, frames, str(folder))

    def source() -> Iterator[Frame | DataError]:
        for index, stamp_ns in enumerate(stamps_ns[chosen].tolist()):
            try:
                yield Frame(index, stamp_ns, read_colour(files[stamp_ns]), camera)
            except DataError as error:
                yield error

    truth, notes = _ground_truth(root, T_body_left), (without_depth(str(folder), "no cam1"),)
    return Sequence(folder.resolve().name, camera, stamps_ns[chosen], truth, source, notes=notes)


def _camera(folder: Path) -> tuple[dict[str, Any], np.ndarray]:
    """Arguments of `Camera`, and (4, 4) `T_body_camera`."""
    path = folder / "sensor.yaml"
    try:
        tree = resources.read_yaml(path, DataError)
        width, height = (int(v) for v in tree["resolution"])
        fx, fy, cx, cy = (float(v) for v in tree["intrinsics"])
        model = MODELS[tree["distortion_model"]]
        distortion = np.array(tree["distortion_coefficients"], np.float64)
        T_body_camera = np.array(tree["T_BS"]["data"], np.float64).reshape(4, 4)
    except (LookupError, TypeError, ValueError, OverflowError) as error:
        raise DataError(
            f"{path}: not a camera of EuRoC's layout ({error!r}); expected resolution, intrinsics, distortion_model "
            f"({', '.join(MODELS)}), distortion_coefficients and T_BS"
        ) from error
    distortion = np.concatenate([distortion, np.zeros(DISTORTION[model])])[: DISTORTION[model]]
    rotation = T_body_camera[:3, :3]
    if not (np.isfinite(T_body_camera).all() and np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-3)):
        raise DataError(f"{path}: T_BS is not a rigid motion; expected 16 numbers, row by row")
    camera = {"width": width, "height": height, "fx": fx, "fy": fy, "cx": cx, "cy": cy}
    return camera | {"distortion": distortion, "model": model}, T_body_camera


def _rows(path: Path, width: int) -> list[list[str]]:
    """Fields of each line but comments. Raises DataError."""
    try:
        text = resources.read_text(path, DataError, remedy="copy the sequence again")
        rows = [row for row in csv.reader(io.StringIO(text, newline="")) if row and not row[0].startswith("#")]
    except csv.Error as error:
        raise DataError(f"{path}: cannot read: {error}; copy the sequence again") from error
    if any(len(row) < width for row in rows):
        raise DataError(f"{path}: a line has fewer than {width} fields; copy the sequence again")
    return rows


def _list(folder: Path) -> dict[int, Path]:
    """Stamp in ns -> image."""
    path = folder / "data.csv"
    try:
        return {int(row[0]): folder / "data" / row[1].strip() for row in _rows(path, 2)}
    except ValueError as error:
        raise DataError(f"{path}: {error}; expected stamp in ns, file") from error


def _ground_truth(root: Path, T_body_left: np.ndarray) -> Trajectory | None:
    """The left camera's trajectory from the body's (position, quaternion w x y z)."""
    path = next((root / name / "data.csv" for name in TRUTH if (root / name / "data.csv").is_file()), None)
    if path is None:
        return None
    rows = _rows(path, 8)
    try:
        stamps_ns = np.array([int(row[0]) for row in rows], np.int64)
        values = np.array([[float(v) for v in row[1:8]] for row in rows], np.float64).reshape(-1, 7)
    except ValueError as error:
        raise DataError(f"{path}: {error}; expected stamp in ns, x y z, quaternion w x y z") from error
    good = np.isfinite(values).all(axis=1) & (np.abs(np.linalg.norm(values[:, 3:], axis=1) - 1.0) < 0.1)
    good[1:] &= np.diff(stamps_ns) > 0
    T_world_body = np.tile(np.eye(4), (int(good.sum()), 1, 1))
    T_world_body[:, :3, :3] = geometry.rotation(values[good][:, [4, 5, 6, 3]])
    T_world_body[:, :3, 3] = values[good, :3]
    return Trajectory(stamps_ns[good], T_world_body @ T_body_left) if good.any() else None
