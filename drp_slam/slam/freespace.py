# SPDX-License-Identifier: Apache-2.0
"""Space that depth images show to be empty: a point there has moved away, or has moved in."""

from __future__ import annotations

import cv2
import numpy as np

from drp_slam import geometry
from drp_slam.slam.camera import Geometry, distort
from drp_slam.slam.compiled import native, plain

STEP_PX = 8
"""Side of a cell of the grid of nearest depths in pixels."""
THINNED = 2
"""Every second row and column is used."""
REACH_PX = 26
"""Side of the square whose nearest depth a cell holds: edges may be off by a cell."""
SIGMAS, SHARE = 5.0, 0.06
"""A point is behind when it is farther by this many deviations of inverse depth and this share of the depth."""

_SQUARE = np.ones((REACH_PX // THINNED, REACH_PX // THINNED), np.uint8)


def nearest(depth: np.ndarray, unit_m: float) -> np.ndarray:
    """(H/8, W/8) float32 nearest depth around each cell in metres; 0 where a pixel has none."""
    known = np.ascontiguousarray(depth[::THINNED, ::THINNED])
    if known.dtype == np.float32:
        known = np.nan_to_num(known, copy=False, nan=0.0, posinf=0.0)
    step = STEP_PX // THINNED
    eroded = cv2.erode(known, _SQUARE)
    return eroded[step // 2 :: step, step // 2 :: step].astype(np.float32) * np.float32(unit_m)


def seen_through(
    grid: np.ndarray, T_camera_world: np.ndarray, xyz: np.ndarray, geometry_: Geometry, points: np.ndarray
) -> np.ndarray:
    """(N,) bool: which `points`, rows (N,) of xyz (M, 3), lie in space that a pose's depth image shows empty."""
    if native is not None and geometry_.lens is not None:
        marks, bounds = np.empty(len(points), dtype=bool), geometry_.bounds
        margins = SIGMAS / geometry_.noise.fd, SHARE
        cells = plain(grid, np.float32)
        native.seen_through(cells, STEP_PX, T_camera_world, xyz, points, bounds, geometry_.lens, *margins, marks)
        return marks
    xyz = xyz[points]
    p = geometry.apply(T_camera_world, xyz)
    z = np.maximum(p[:, 2], 1e-3)
    xy = p[:, :2] / z[:, None]
    low, high = geometry_.bounds
    inside = (p[:, 2] > 0.1) & (xy > low).all(axis=1) & (xy < high).all(axis=1)
    through = np.zeros(len(xyz), dtype=bool)
    cell = (distort(geometry_.camera, xy[inside]) / STEP_PX).astype(np.intp)
    rows, columns = np.clip(cell[:, 1], 0, grid.shape[0] - 1), np.clip(cell[:, 0], 0, grid.shape[1] - 1)
    behind = grid[rows, columns].astype(np.float32, copy=False)
    margin = SIGMAS / geometry_.noise.fd + SHARE / z[inside]
    with np.errstate(divide="ignore"):
        through[inside] = (behind > 0) & (1.0 / z[inside] - 1.0 / behind > margin)
    return through
