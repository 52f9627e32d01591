# SPDX-License-Identifier: Apache-2.0
"""A 2-D occupancy grid from depth: for planners such as Nav2.

Each frame marks a cell once: occupied where depth ends at the height of the robot, free where rays pass at that
height before. Log-odds of the marks, as OctoMap weighs them (Hornung et al., Autonomous Robots 2013).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from drp_slam.atomic import write_bytes, write_text
from drp_slam.datatypes import Camera, Frame
from drp_slam.errors import SlamError
from drp_slam.slam.camera import undistort

HIT, MISS = 0.85, -0.4
"""Log-odds of one mark."""
STRIDE_PX = 8
"""Every eighth pixel of every eighth row is a ray."""
OCCUPIED, FREE, UNKNOWN = 100, 0, -1
"""Values of `nav_msgs/OccupancyGrid`."""
MOST_CELLS = 100_000_000


@dataclass(frozen=True)
class OccupancyGrid:
    """`cells` (H, W) int8, row 0 at the smallest y: 100 occupied, 0 free, -1 unknown. Cell (0, 0) begins at
    `origin_m` (x, y) of the ground's frame, x y in the plane and z up."""

    cells: np.ndarray
    cell_m: float
    origin_m: tuple[float, float]

    def write(self, path: Path) -> None:
        """Writes `path` (YAML) and a PGM beside it, as Nav2's map server reads them. Raises SlamError."""
        grey = np.full(self.cells.shape, 205, np.uint8)
        grey[self.cells == FREE], grey[self.cells == OCCUPIED] = 254, 0
        height, width = map(int, self.cells.shape)
        header = f"P5\n{width} {height}\n255\n"
        image = path.with_suffix(".pgm")
        write_bytes(image, header.encode() + grey[::-1].tobytes(), SlamError)
        x, y = self.origin_m
        lines = (
            *(f"image: {image.name}", f"resolution: {self.cell_m:.6g}", f"origin: [{x:.6f}, {y:.6f}, 0.0]"),
            *("negate: 0", "occupied_thresh: 0.65", "free_thresh: 0.196", "mode: trinary"),
        )
        write_text(path, "\n".join(lines) + "\n", SlamError)


class Occupancy:
    """Collects frames into a grid. The ground's frame has z up."""

    def __init__(
        self, camera: Camera, cell_m: float = 0.05, height_m: tuple[float, float] = (-0.3, 0.3), range_m: float = 5.0
    ) -> None:
        """`height_m`: lowest and highest height of an obstacle. Raises SlamError."""
        if not (0.001 <= cell_m <= 10 and height_m[0] < height_m[1] and range_m > cell_m):
            raise SlamError(
                f"cell {cell_m} m, slice {height_m} m, range {range_m} m: expected a cell of 0.001 to 10 m, a slice "
                "from low to high, and a longer range"
            )
        self._cell_m, self._height_m, self._range_m = cell_m, height_m, range_m
        v, u = np.mgrid[STRIDE_PX // 2 : camera.height : STRIDE_PX, STRIDE_PX // 2 : camera.width : STRIDE_PX]
        self._u, self._v = u.ravel(), v.ravel()
        xy = undistort(camera, np.stack([self._u, self._v], 1))
        self._rays = np.concatenate([xy, np.ones((len(xy), 1))], axis=1)
        self._marks: list[tuple[np.ndarray, float]] = []

    def add(self, frame: Frame, T_ground_camera: np.ndarray) -> None:
        """Marks what a frame's depth shows; a frame without depth marks nothing."""
        if frame.depth is not None:
            self.mark(self.sample(frame), T_ground_camera)

    def sample(self, frame: Frame) -> np.ndarray:
        """(n,) float32 depth in metres along the rays, all that `mark` needs of a frame with depth."""
        assert frame.depth is not None
        return (frame.depth[self._v, self._u] * np.float64(frame.depth_unit_m)).astype(np.float32)

    def clear(self) -> None:
        """Removes all marks."""
        self._marks.clear()

    def mark(self, depth_m: np.ndarray, T_ground_camera: np.ndarray) -> None:
        """Marks what the depths of a `sample` show from a pose."""
        z = depth_m.astype(np.float64)
        known = np.isfinite(z) & (z > 0)
        rays, z = self._rays[known], z[known]
        length = np.linalg.norm(rays, axis=1) * z
        rays = rays @ T_ground_camera[:3, :3].T
        origin = T_ground_camera[:3, 3]
        near = length <= self._range_m
        hit = self._in_slice(origin + rays[near] * z[near, None])
        self._mark(hit, HIT)
        # along each ray in steps of a cell, up to a cell before its end
        steps = np.arange(0.0, self._range_m, self._cell_m)
        reach = np.minimum(length - self._cell_m, self._range_m)
        scale = (z / length)[:, None] * steps
        points = origin + rays[:, None] * scale[..., None]
        free = self._in_slice(points[steps < reach[:, None]])
        self._mark(free[~_among(free, hit)], MISS)

    def _in_slice(self, xyz: np.ndarray) -> np.ndarray:
        """(n, 2) int64: the cells, each once, of the points at the slice's height."""
        inside = (xyz[:, 2] >= self._height_m[0]) & (xyz[:, 2] <= self._height_m[1])
        cells = np.floor(xyz[inside, :2] / self._cell_m).astype(np.int64)
        return _cells(np.unique(_keys(cells)))

    def _mark(self, cells: np.ndarray, odds: float) -> None:
        if len(cells):
            self._marks.append((cells, odds))

    def grid(self) -> OccupancyGrid:
        """The grid of all frames so far. Raises SlamError where nothing was marked, or the area is absurd."""
        if not self._marks:
            raise SlamError("no depth crossed the slice: no occupancy grid; choose another slice or range")
        low = np.min([cells.min(axis=0) for cells, _ in self._marks], axis=0)
        size = np.max([cells.max(axis=0) for cells, _ in self._marks], axis=0) - low + 1
        if size[0] * size[1] > MOST_CELLS:
            raise SlamError(f"occupancy grid of {size[0]} x {size[1]} cells; choose cells larger than {self._cell_m} m")
        odds, seen = np.zeros((size[1], size[0]), np.float32), np.zeros((size[1], size[0]), bool)
        for cells, value in self._marks:  # a frame has a cell once, so that no index repeats
            x, y = (cells - low).T
            odds[y, x] += value
            seen[y, x] = True
        values = np.where(odds > 0, OCCUPIED, FREE).astype(np.int8)
        values[~seen] = UNKNOWN
        return OccupancyGrid(values, self._cell_m, (float(low[0] * self._cell_m), float(low[1] * self._cell_m)))


def _keys(cells: np.ndarray) -> np.ndarray:
    """One int64 a cell."""
    return (cells[:, 0] << 32) + (cells[:, 1] + 2**31)


def _cells(keys: np.ndarray) -> np.ndarray:
    """The inverse of `_keys`."""
    return np.stack([keys >> 32, (keys & (2**32 - 1)) - 2**31], axis=1)


def _among(cells: np.ndarray, others: np.ndarray) -> np.ndarray:
    return np.isin(_keys(cells), _keys(others))
