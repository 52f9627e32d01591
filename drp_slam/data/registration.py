# SPDX-License-Identifier: Apache-2.0
"""Registers depth to the image: depth of another size, another focal length or another camera.

The tracker reads depth at the pixels of the image, so a depth image must have the image's size and viewpoint
(REP-118: *registered*). This module registers depth if the driver has not, with calibrations and extrinsics.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from drp_slam.datatypes import Camera
from drp_slam.errors import DataError

STEPS = (cv2.TERM_CRITERIA_COUNT + cv2.TERM_CRITERIA_EPS, 100, 1e-12)
"""OpenCV's default of five steps leaves errors of some tenths of a pixel in the corners."""


@dataclass(frozen=True)
class Resampled:
    """Resamples depth that has the image's viewpoint: every pixel takes the nearest depth pixel.

    `index` (H, W) int64 points into the flattened depth image of `shape`, one past its end outside of it.
    """

    index: np.ndarray
    shape: tuple[int, int]

    def __call__(self, depth: np.ndarray, unit_m: float) -> tuple[np.ndarray, float]:
        """(H, W) depth in the grid of the image, in the same unit. Raises DataError for another size."""
        _check(depth, self.shape)
        return np.append(depth.ravel(), depth.dtype.type(0))[self.index], unit_m


@dataclass(frozen=True)
class Moved:
    """Reprojects depth of another camera into the image.

    `rays` (H, W, 3) float32 are the depth pixels' with z = 1, in the axes of the image's camera, `offset_m` (3,) is the
    depth camera's place there. `lens` maps the normalised plane to pixels. A point covers `splat` x `splat` pixels, so
    that rounding and a coarser depth image leave no holes; the nearest point wins.
    """

    rays: np.ndarray
    offset_m: np.ndarray
    size_px: tuple[int, int]
    lens: Lens
    splat: int

    def __call__(self, depth: np.ndarray, unit_m: float) -> tuple[np.ndarray, float]:
        """(H, W) float32 metres, 0 without depth, and the unit 1. Raises DataError for another size."""
        _check(depth, self.rays.shape[:2])
        metres = np.nan_to_num(depth.astype(np.float32) * np.float32(unit_m), nan=0.0, posinf=0.0, neginf=0.0)
        x, y, z = (self.rays[..., k] * metres + self.offset_m[k] for k in range(3))
        seen = (metres > 0) & (z > 0)
        z_safe = np.where(seen, z, np.float32(1))
        margin, (width, height) = self.splat, self.size_px
        corner = np.floor(self.lens(x / z_safe, y / z_safe) - 0.5 * (margin - 2)) + margin
        u, v = corner[..., 0], corner[..., 1]
        seen &= (u >= 0) & (v >= 0) & (u < width + margin) & (v < height + margin)
        points = np.full((height + 2 * margin, width + 2 * margin), np.inf, np.float32)
        place = v[seen].astype(np.int32) * points.shape[1] + u[seen].astype(np.int32)
        np.minimum.at(points.reshape(-1), place, z[seen])
        kernel, anchor = np.ones((margin, margin), np.uint8), (margin - 1, margin - 1)
        out = cv2.erode(points, kernel, anchor=anchor)[margin : margin + height, margin : margin + width]
        return np.where(np.isinf(out), np.float32(0), out), 1.0


@dataclass(frozen=True)
class Lens:
    """A camera's projection as a table, which costs a tenth of OpenCV's `projectPoints`.

    `table` (N, N, 2) float32 holds the pixels of points of the normalised plane, from `origin` on in steps of `step`.
    """

    table: np.ndarray
    origin: np.ndarray
    step: np.ndarray

    @classmethod
    def of(cls, camera: Camera, cells: int = 512) -> Lens:
        """Covers the image and a twentieth around it."""
        plane = image_plane(camera)
        low, high = plane.min(axis=0), plane.max(axis=0)
        low, high = low - 0.05 * (high - low), high + 0.05 * (high - low)
        x, y = np.meshgrid(np.linspace(low[0], high[0], cells), np.linspace(low[1], high[1], cells))
        table = _project(camera, np.stack([x.ravel(), y.ravel(), np.ones(cells * cells)], axis=1))
        return cls(table.reshape(cells, cells, 2).astype(np.float32), low, (high - low) / (cells - 1))

    def __call__(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """(H, W, 2) float32 pixels of (H, W) points of the normalised plane; far outside the image without a pixel."""
        across = ((x - self.origin[0]) / self.step[0]).astype(np.float32)
        down = ((y - self.origin[1]) / self.step[1]).astype(np.float32)
        outside = (-1e6, -1e6)
        return cv2.remap(self.table, across, down, cv2.INTER_LINEAR, None, cv2.BORDER_CONSTANT, outside)


Registration = Resampled | Moved


def scaled(size_px: tuple[int, int], camera: Camera) -> Resampled:
    """The table for depth of `size_px` (width, height) with the same field of view as the image."""
    u = ((np.arange(camera.width) + 0.5) * size_px[0] / camera.width).astype(np.int64)
    v = ((np.arange(camera.height) + 0.5) * size_px[1] / camera.height).astype(np.int64)
    return Resampled(v[:, None] * size_px[0] + u, (size_px[1], size_px[0]))


def registration(depth_camera: Camera, camera: Camera, T_image_depth: np.ndarray) -> Registration:
    """The reprojection from `depth_camera` to `camera`, with (4, 4) `T_image_depth`. Uses both distortion models."""
    shape = depth_camera.height, depth_camera.width
    if np.linalg.norm(T_image_depth[:3, 3]) > 1e-4:
        ratio = max(camera.fx / depth_camera.fx, camera.fy / depth_camera.fy)
        rays = (
            np.concatenate([image_plane(depth_camera), np.ones((shape[0] * shape[1], 1))], axis=1)
            @ T_image_depth[:3, :3].T
        )
        offset_m, size_px = T_image_depth[:3, 3].astype(np.float32), (camera.width, camera.height)
        splat = max(2, int(np.ceil(ratio - 1e-6)))
        return Moved(rays.reshape(*shape, 3).astype(np.float32), offset_m, size_px, Lens.of(camera), splat)
    rays = (
        np.concatenate([image_plane(camera), np.ones((camera.height * camera.width, 1))], axis=1)
        @ T_image_depth[:3, :3]
    )
    uv = np.rint(_project(depth_camera, rays)).astype(np.int64)
    inside = (rays[:, 2] > 0) & np.all((uv >= 0) & (uv < (depth_camera.width, depth_camera.height)), axis=1)
    index = np.where(inside, uv[:, 1] * depth_camera.width + uv[:, 0], shape[0] * shape[1])
    return Resampled(index.reshape(camera.height, camera.width), shape)


def register_depth(
    size_px: tuple[int, int], own: Camera | None, camera: Camera, T_image_depth: np.ndarray
) -> Registration | None:
    """How to register depth of `size_px` to the image of `camera`; None if it is registered.

    `own` is the depth camera's calibration or None. Raises DataError if it is needed and missing.
    """
    at_one_place = np.allclose(T_image_depth, np.eye(4), atol=1e-6)
    image_px = camera.width, camera.height
    if at_one_place and size_px == image_px:
        return None
    if own is not None and (own.width, own.height) == size_px:
        return registration(own, camera, T_image_depth)
    if at_one_place and alike(size_px, image_px):
        return scaled(size_px, camera)
    what = "of another size and shape" if at_one_place else "of another camera"
    raise DataError(
        f"depth of {size_px[0]}x{size_px[1]} is {what} than the image of {image_px[0]}x{image_px[1]}, and no "
        "camera_info of this size says how to register it; publish it beside the depth image"
    )


def alike(a_px: tuple[int, int], b_px: tuple[int, int]) -> bool:
    """Whether two sizes have the same aspect ratio, within a pixel."""
    return abs(a_px[0] * b_px[1] - b_px[0] * a_px[1]) <= max(*a_px, *b_px)


def image_plane(camera: Camera) -> np.ndarray:
    """(H * W, 2) points of the normalised plane that the pixels show, row by row."""
    u, v = np.meshgrid(np.arange(camera.width, dtype=np.float64), np.arange(camera.height, dtype=np.float64))
    uv = np.stack([u.ravel(), v.ravel()], axis=1)[:, None]
    function = cv2.fisheye.undistortPoints if camera.model == "equidistant" else cv2.undistortPoints
    return function(uv, camera.K, camera.distortion, criteria=STEPS)[:, 0]


def _project(camera: Camera, xyz: np.ndarray) -> np.ndarray:
    """(N, 3) points in front of a camera to (N, 2) pixels."""
    if not len(xyz):
        return np.zeros((0, 2))
    zero = np.zeros(3)
    if camera.model == "equidistant":
        return cv2.fisheye.projectPoints(xyz[:, None], zero, zero, camera.K, camera.distortion)[0][:, 0]
    return cv2.projectPoints(xyz, zero, zero, camera.K, camera.distortion)[0][:, 0]


def _check(depth: np.ndarray, shape: tuple[int, int]) -> None:
    if depth.shape != shape:
        raise DataError(
            f"depth is {depth.shape[1]}x{depth.shape[0]}, its first image or camera_info {shape[1]}x{shape[0]}"
        )
