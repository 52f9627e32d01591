# SPDX-License-Identifier: Apache-2.0
"""Registers depth to the image: depth of another size, another focal length or another camera.

The tracker reads depth at the pixels of the image, so a depth image must have the image's size and viewpoint
(REP-118: *registered*). This module does it where the driver has not, with calibrations and extrinsics.
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
    """Resamples depth with the image's viewpoint: every pixel takes the nearest depth pixel.

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

    `rays` (N, 3) are the depth pixels' with z = 1. A point covers `splat` x `splat` pixels, so that rounding and a
    coarser depth image leave no holes; the nearest point wins.
    """

    rays: np.ndarray
    shape: tuple[int, int]
    T_image_depth: np.ndarray
    camera: Camera
    splat: int

    def __call__(self, depth: np.ndarray, unit_m: float) -> tuple[np.ndarray, float]:
        """(H, W) float32 metres, 0 without depth, and the unit 1. Raises DataError for another size."""
        _check(depth, self.shape)
        z_m = depth.ravel().astype(np.float64) * unit_m
        seen = np.flatnonzero((z_m > 0) & np.isfinite(z_m))
        xyz = (self.rays[seen] * z_m[seen, None]) @ self.T_image_depth[:3, :3].T + self.T_image_depth[:3, 3]
        xyz = xyz[xyz[:, 2] > 0]
        width, height = self.camera.width, self.camera.height
        out = np.full(height * width, np.inf, np.float32)
        uv = _project(self.camera, xyz)
        inside = np.all((uv > -self.splat) & (uv < (width + self.splat, height + self.splat)), axis=1)
        corner = np.floor(uv[inside] - 0.5 * (self.splat - 2)).astype(np.int64)
        z = xyz[inside, 2].astype(np.float32)
        for dv in range(self.splat):
            for du in range(self.splat):
                u, v = corner[:, 0] + du, corner[:, 1] + dv
                within = (u >= 0) & (u < width) & (v >= 0) & (v < height)
                np.minimum.at(out, v[within] * width + u[within], z[within])
        out[np.isinf(out)] = 0
        return out.reshape(height, width), 1.0


Registration = Resampled | Moved


def scaled(size_px: tuple[int, int], camera: Camera) -> Resampled:
    """For depth of `size_px` (width, height) with the same field of view as the image."""
    u = ((np.arange(camera.width) + 0.5) * size_px[0] / camera.width).astype(np.int64)
    v = ((np.arange(camera.height) + 0.5) * size_px[1] / camera.height).astype(np.int64)
    return Resampled(v[:, None] * size_px[0] + u, (size_px[1], size_px[0]))


def registration(depth_camera: Camera, camera: Camera, T_image_depth: np.ndarray) -> Registration:
    """From `depth_camera` to `camera`, with (4, 4) `T_image_depth`. Uses both distortion models."""
    shape = depth_camera.height, depth_camera.width
    if np.linalg.norm(T_image_depth[:3, 3]) > 1e-4:
        ratio = max(camera.fx / depth_camera.fx, camera.fy / depth_camera.fy)
        rays = np.concatenate([_plane(depth_camera), np.ones((shape[0] * shape[1], 1))], axis=1)
        return Moved(rays, shape, T_image_depth, camera, max(2, int(np.ceil(ratio - 1e-6))))
    rays = np.concatenate([_plane(camera), np.ones((camera.height * camera.width, 1))], axis=1) @ T_image_depth[:3, :3]
    uv = np.rint(_project(depth_camera, rays)).astype(np.int64)
    inside = (rays[:, 2] > 0) & np.all((uv >= 0) & (uv < (depth_camera.width, depth_camera.height)), axis=1)
    index = np.where(inside, uv[:, 1] * depth_camera.width + uv[:, 0], shape[0] * shape[1])
    return Resampled(index.reshape(camera.height, camera.width), shape)


def register_depth(
    size_px: tuple[int, int], own: Camera | None, camera: Camera, T_image_depth: np.ndarray
) -> Registration | None:
    """How to register depth of `size_px` to the image of `camera`; None if nothing is to be done.

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


def _plane(camera: Camera) -> np.ndarray:
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
