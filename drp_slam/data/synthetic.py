# SPDX-License-Identifier: Apache-2.0
"""The built-in sequence: a furnished room, seen by a hand-held RGB-D camera, with exact poses.

It is rendered once into a folder of the cache, in TUM's layout, and read from there. `synthetic`
alone is 360 frames at 30 Hz: past the desk and the shelf, in a fast turn along a bare wall, past the sofa,
and back to the start. `synthetic:seed=3,frames=60,width=320` sets the seed of room and noise, the
length (longer sequences repeat the loop) and the image width.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import hashlib
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np

from drp_slam.data import renderer, room, sensor, textures
from drp_slam.data.sequence import Sequence
from drp_slam.data.tum import open_tum
from drp_slam.data.tum_writer import write_folder
from drp_slam.datatypes import Camera, Frame, Trajectory
from drp_slam.errors import DataError

LOOP_S = 12.0
FPS = 30.0
FIRST_STAMP_NS = 1_000_000_000
KEPT = 8
"""Number of sequences kept in the cache; 360 frames take 71 MB, a change of the drawing code renders it again."""
WRITTEN_WITHIN_S = 6 * 3600.0
"""A folder still incomplete after this time belongs to a killed process."""
LIMITS = {"seed": (0, 2**31 - 1), "frames": (1, 3600), "width": (64, 1280)}

WAYPOINTS = np.array(
    [
        # t_s    x_m    y_m   z_m  yaw_deg pitch_deg (down)
        [0.0, -0.60, -0.30, 1.35, 5.0, 12.0],
        [1.4, 0.20, -0.50, 1.30, -6.0, 15.0],
        [2.5, 0.85, -0.05, 1.22, 14.0, 17.0],
        [3.5, 0.60, 0.60, 1.35, 68.0, 12.0],
        [4.5, -0.10, 0.85, 1.42, 102.0, 8.0],
        [5.2, -0.60, 0.75, 1.36, 132.0, 12.0],
        [5.8, -0.80, 0.55, 1.32, 182.0, 4.0],
        [6.5, -0.95, 0.35, 1.30, 184.0, 2.0],
        [7.2, -0.85, -0.25, 1.36, 222.0, 14.0],
        [8.2, -0.40, -0.50, 1.42, 266.0, 10.0],
        [9.2, 0.40, -0.20, 1.46, 288.0, 12.0],
        [9.9, 0.75, 0.25, 1.45, 252.0, 9.0],
        [11.0, 0.10, 0.20, 1.40, 318.0, 16.0],
    ]
)


@dataclass(frozen=True)
class Parameters:
    """Parameters of a sequence: the same parameters give the same bits on one machine."""

    seed: int = 0
    frames: int = 360
    width: int = 640


def parse(name: str) -> Parameters:
    """`synthetic[:key=value,...]`. Raises DataError that names the key and its limits."""
    values: dict[str, int] = {}
    for item in filter(None, name.partition(":")[2].split(",")):
        key, _, text = item.partition("=")
        if key not in LIMITS:
            raise DataError(
                f"{name}: unknown {key!r}; a synthetic sequence has {', '.join(f.name for f in fields(Parameters))}"
            )
        low, high = LIMITS[key]
        if not text.isdecimal() or not low <= int(text) <= high or (key == "width" and int(text) % 4):
            step = " in steps of 4" if key == "width" else ""
            raise DataError(f"{name}: {key} is {text!r}, expected {low} to {high}{step}")
        values[key] = int(text)
    return Parameters(**values)


def open_synthetic(name: str, start: int = 0, frames: int | None = None, cache: Path | None = None) -> Sequence:
    """Opens the built-in sequence; what the cache lacks is rendered into it, up to the last frame asked for."""
    parameters = parse(name)
    folder = cache_folder(parameters, cache)
    if not folder.is_dir() and frames is not None and start >= 0 and 0 < start + frames < parameters.frames:
        parameters = dataclasses.replace(parameters, frames=start + frames)
        folder = cache_folder(parameters, cache)
    with rendered(parameters, folder):
        opened = open_tum(folder, None, start, frames)

    def source() -> Iterator[Frame | DataError]:
        with rendered(parameters, folder):
            yield from opened.source()

    return dataclasses.replace(opened, name="synthetic", source=source)


@contextlib.contextmanager
def rendered(parameters: Parameters, folder: Path) -> Iterator[None]:
    """Holds a folder of the cache; renders it first where it is missing, or where another process just removed it."""
    while True:
        if not folder.is_dir():
            forget(folder.parent, KEPT - 1)
            try:
                write_folder(folder, render(parameters), colour=".jpg", label="rendering the room")
            except DataError:
                # another process may have written the same bits first
                if not folder.is_dir():
                    raise
        with held(folder):
            if folder.is_dir():
                yield
                return


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """Marks a sequence as the one read last, and keeps other processes from removing it meanwhile."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):  # a shared read-only cache works too
            lock = os.open(folder, os.O_RDONLY)
            stack.callback(os.close, lock)
            fcntl.flock(lock, fcntl.LOCK_SH)
            os.utime(folder)
        yield


def forget(cache: Path, kept: int) -> None:
    """Removes sequences from the cache except the `kept` read last, and those that are being read.

    Incomplete ones (`.part`) do not count unless they are stale.
    """
    aged: list[tuple[float, Path]] = []
    for folder in cache.glob("synthetic-*"):
        with contextlib.suppress(OSError):  # another process may have removed it first
            begun = folder.stat().st_mtime
            if ".part" not in folder.suffix or begun < time.time() - WRITTEN_WITHIN_S:
                aged.append((begun, folder))
    for _, folder in sorted(aged, reverse=True)[kept:]:
        with contextlib.suppress(OSError):
            lock = os.open(folder, os.O_RDONLY)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # refused while somebody reads it
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(lock)


def cache_folder(parameters: Parameters, cache: Path | None = None) -> Path:
    """The folder of a sequence, named by its parameters and by a hash of the drawing modules.

    `cache` is `$XDG_CACHE_HOME/drp_slam` if not given.
    """
    digest = hashlib.sha256(repr(asdict(parameters)).encode())
    for module in (__file__, room.__file__, renderer.__file__, sensor.__file__, textures.__file__):
        digest.update(Path(str(module)).read_bytes())
    if cache is None:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        cache = Path(base) / "drp_slam"
    return cache / f"synthetic-{digest.hexdigest()[:16]}"


def camera(parameters: Parameters) -> Camera:
    """The pinhole camera; 62.7 degrees wide, as the Kinect's."""
    width, height = parameters.width, parameters.width * 3 // 4
    focal_px = 525.0 * width / 640
    return Camera(width, height, focal_px, focal_px, (width - 1) / 2, (height - 1) / 2, depth_scale=5000.0, fps=FPS)


def trajectory(parameters: Parameters) -> Trajectory:
    """Exact poses of the camera, one per frame."""
    index = np.arange(parameters.frames)
    stamps_ns = FIRST_STAMP_NS + np.round(index * (1e9 / FPS)).astype(np.int64)
    return Trajectory(stamps_ns, poses(index / FPS, parameters.seed))


def poses(time_s: np.ndarray, seed: int) -> np.ndarray:
    """(N, 4, 4) T_world_camera: a smooth loop through the waypoints, plus hand tremor."""
    rng = np.random.default_rng([seed, 0xCA])
    x, y, z, yaw, pitch = _loop(time_s % LOOP_S, WAYPOINTS, closing=(0, 0, 0, 360, 0)).T
    # 0.6 to 6 Hz, whole periods in a loop, falling with frequency
    cycles = np.arange(7, 72, 5)
    phase = rng.uniform(0, 2 * np.pi, (6, len(cycles)))
    waves = np.sin(2 * np.pi * cycles * time_s[:, None, None] / LOOP_S + phase)
    tremor = (waves * (7.0 / cycles)).sum(-1)
    x, y, z = (axis + 0.004 * tremor[:, i] for i, axis in enumerate((x, y, z)))
    yaw, pitch, roll = np.radians([yaw + 0.4 * tremor[:, 3], pitch + 0.4 * tremor[:, 4], 0.9 * tremor[:, 5]])
    forward = np.stack([np.cos(yaw) * np.cos(pitch), np.sin(yaw) * np.cos(pitch), -np.sin(pitch)], 1)
    level = np.stack([np.sin(yaw), -np.cos(yaw), np.zeros_like(yaw)], 1)
    down = np.cross(forward, level)
    c, s = np.cos(roll)[:, None], np.sin(roll)[:, None]
    T = np.tile(np.eye(4), (len(time_s), 1, 1))
    T[:, :3, 0], T[:, :3, 1], T[:, :3, 2] = c * level + s * down, c * down - s * level, forward
    T[:, :3, 3] = np.stack([x, y, z], 1)
    return T


def _loop(time_s: np.ndarray, points: np.ndarray, closing: tuple[float, ...]) -> np.ndarray:
    """Cubic Hermite spline through (time, values...) rows; a lap adds `closing` to the values."""
    step = np.array([LOOP_S, *closing])
    ring = np.vstack([points[-1:] - step, points, points[:2] + step])
    t, value = ring[:, 0], ring[:, 1:]
    slope = (value[2:] - value[:-2]) / (t[2:] - t[:-2])[:, None]
    i = np.clip(np.searchsorted(t[1:-1], time_s, side="right") - 1, 0, len(points) - 1)
    span = (t[i + 2] - t[i + 1])[:, None]
    s = (time_s[:, None] - t[i + 1][:, None]) / span
    here, there = value[i + 1], value[i + 2]
    leaving, arriving = span * slope[i], span * slope[i + 1]
    return (
        (2 * s**3 - 3 * s**2 + 1) * here
        + (s**3 - 2 * s**2 + s) * leaving
        + (3 * s**2 - 2 * s**3) * there
        + (s**3 - s**2) * arriving
    )


def render(parameters: Parameters) -> Sequence:
    """Renders the sequence without the cache."""
    truth, pinhole = trajectory(parameters), camera(parameters)

    def source() -> Iterator[Frame]:
        rng = np.random.default_rng([parameters.seed, 0xB0])
        size = (pinhole.width, pinhole.height)
        view = renderer.Renderer(room.furnish(rng), rng, size, pinhole.K)
        eye = sensor.RgbdSensor(parameters.seed, size, pinhole.fx)
        for index, (stamp_ns, pose) in enumerate(zip(truth.stamps_ns.tolist(), truth.T_world_camera)):
            scene, z, cosine, solid = view.render(pose)
            now = np.array([index / FPS - 1e-3, index / FPS + 1e-3])
            a, b = poses(now % LOOP_S, parameters.seed)[:, :3, :3]
            turn = a.T @ b
            turn_rad_s = np.array([turn[2, 1], turn[0, 2], turn[1, 0]]) / 2e-3
            metres = eye.depth(index, z, cosine, solid)
            raw = np.round(metres * pinhole.depth_scale).astype(np.uint16)
            image = eye.colour(index, scene, turn_rad_s)
            yield Frame(index, stamp_ns, image, pinhole, raw, 1 / pinhole.depth_scale)

    return Sequence("synthetic", pinhole, truth.stamps_ns, truth, source)
