# SPDX-License-Identifier: Apache-2.0
"""The dense files of a run: mesh, coloured cloud and occupancy grid, from its sequence and its final trajectory."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from drp_slam.atomic import write_text
from drp_slam.config import Config
from drp_slam.config.config_file import override
from drp_slam.data.dataset import open_sequence
from drp_slam.data.progress import track
from drp_slam.data.sequence import Sequence
from drp_slam.data.trajectory import read_tum
from drp_slam.datatypes import Camera, Frame, Trajectory
from drp_slam.errors import ProfilerError
from drp_slam.frontend.depth_sensor import Sensor, open_sensor
from drp_slam.geometry import inverse, rotation_vector
from drp_slam.reporting import folder as files
from drp_slam.slam.dense import LEAST_WEIGHT, Posed, fuse
from drp_slam.slam.occupancy import Occupancy

STEP_M, STEP_RAD = 0.03, 0.05
"""A frame is fused when the camera has moved or turned this far since the last fused frame."""
T_GROUND_WORLD = np.array([[0.0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]])
"""Maps the first camera's optical frame to x forward, y left, z up (REP-103), assuming that it was level."""

VOXEL_M, VOXEL_RANGE_M, MEMORY_MB = 0.02, 5.0, 400.0
"""Size of the voxels up to that range, beyond which they grow with it; limit of their memory."""


def write_dense(out: Path) -> dict[str, Any]:
    """Writes `mesh.ply`, `mesh.glb`, `cloud.ply`, `cloud.pcd`, `grid.yaml` and `grid.pgm` into a folder of results.

    Reads the sequence named in `run.json` again. Returns the files written. Raises DrpSlamError if the
    sequence is missing, nothing was tracked, or Open3D is missing.
    """
    run = files.read_json(out / files.RUN)
    sections = dict(run.get("config") or {})
    values = {f"{section}.{key}": value for section, body in sections.items() for key, value in body.items()}
    config = override(Config(), values | {"drp.stereo": "dense"})
    name, count = str(run.get("source") or run["sequence"]), run.get("frames")
    sequence = open_sequence(name, run.get("camera"), int(run.get("start") or 0), count)
    if sequence.camera.mono:
        raise ProfilerError(f"{out}: its camera has no depth to fuse; run with depth or a second camera")
    trajectory = read_tum(out / files.TRAJECTORY)
    sensor = open_sensor(sequence.camera, config.drp)
    stamps = set(chosen(trajectory).tolist())
    if not stamps:
        raise ProfilerError(f"{out}: no frame was tracked, so there is nothing to fuse")

    def frames() -> Iterator[tuple[Frame, np.ndarray]]:
        yield from posed(sequence, sensor, trajectory, stamps)

    range_m = reach_m(sensor.camera, config)
    voxel_m = VOXEL_M * max(1.0, range_m / VOXEL_RANGE_M)  # larger for a street than for a desk
    return write(out, frames, sensor.camera, range_m, voxel_m, MEMORY_MB, T_GROUND_WORLD)


def write(
    out: Path,
    frames: Callable[[], Posed],
    camera: Camera,
    range_m: float,
    voxel_m: float,
    memory_mb: float,
    T_ground_world: np.ndarray,
    least_weight: float = LEAST_WEIGHT,
) -> dict[str, Any]:
    """Writes the files of frames with depth and their `T_world_camera`; z of the ground's frame points up.

    `frames()` starts a pass over them. Returns the files written. Raises SlamError if there is nothing to fuse.
    """
    dense = fuse(frames, camera, voxel_m, range_m, memory_mb, least_weight).surface()
    scale = max(1.0, range_m / VOXEL_RANGE_M)
    written = [out / name for name in files.DENSE[:4]]
    for path in written:
        dense.write(path, path.stem)
    occupancy = Occupancy(camera, 0.05 * scale, (-0.3 * scale, 0.3 * scale), range_m)
    for frame, T_world_camera in frames():
        occupancy.add(frame, T_ground_world @ T_world_camera)
    occupancy.grid().write(out / files.DENSE[4])
    about = {
        "files": [str(path) for path in (*written, out / files.DENSE[4])],
        "voxel_m": dense.voxel_m,
        "frames": dense.frames,
        "vertices": len(dense.vertices_m),
        "triangles": len(dense.triangles),
    }
    write_text(out / files.DENSE_JSON, json.dumps(about, indent=1) + "\n", ProfilerError)
    return about


def chosen(trajectory: Trajectory) -> np.ndarray:
    """Stamps of the poses that are far enough from the last one chosen."""
    stamps: list[int] = []
    last = None
    for stamp_ns, T in zip(trajectory.stamps_ns.tolist(), trajectory.T_world_camera):
        motion = None if last is None else inverse(last) @ T
        if (
            motion is None
            or np.linalg.norm(motion[:3, 3]) > STEP_M
            or np.linalg.norm(rotation_vector(motion[:3, :3])) > STEP_RAD
        ):
            stamps.append(stamp_ns)
            last = T
    return np.array(stamps, np.int64)


def posed(
    sequence: Sequence, sensor: Sensor, trajectory: Trajectory, stamps: set[int]
) -> Iterator[tuple[Frame, np.ndarray]]:
    """The frames with depth at these stamps, and their (4, 4) `T_world_camera`."""
    poses = dict(zip(trajectory.stamps_ns.tolist(), trajectory.T_world_camera))
    for frame in track(sequence, len(sequence), "dense map"):
        if frame.stamp_ns in stamps:
            yield sensor.before(frame)[0], poses[frame.stamp_ns]


def reach_m(camera: Camera, config: Config) -> float:
    """Largest depth to fuse: the camera's range; for a stereo pair, where the error reaches about 0.1 m."""
    if camera.baseline_m is None:
        return config.slam.depth_max_m
    # the error of depth is depth^2 sigma / (fx baseline)
    return float(np.sqrt(0.3 * camera.fx * camera.baseline_m / config.slam.disparity_sigma_px))
