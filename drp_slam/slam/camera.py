# SPDX-License-Identifier: Apache-2.0
"""The camera's geometry: distorted pixels to rays and back, vectorised.

Inside the tracker a feature lives on the normalised image plane (`x = X / Z`), undistorted once.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np

from drp_slam.config import SlamConfig
from drp_slam.datatypes import DISTORTION, Camera
from drp_slam.errors import SlamError
from drp_slam.slam.compiled import native, plain
from drp_slam.slam.optimize import Noise

NO_DEPTH = 1e9
"""Standard deviation of an inverse depth in 1/m that carries no information."""
LEAST_DISPARITY_PX = 1.0
"""A smaller disparity gives no depth."""


@dataclass(frozen=True)
class Geometry:
    """The camera as tracking and mapping see it: how it projects, and how well it measures.

    `focal_px` (2,) takes the normalised plane to undistorted pixels about the principal point;
    `bounds` (2, 2): smallest and largest x y of the plane that the image shows. Depth outside `depth_m` (nearest,
    farthest) is ignored. `mono`: the camera measures no depth.
    """

    camera: Camera
    noise: Noise
    focal_px: np.ndarray
    bounds: np.ndarray
    depth_m: tuple[float, float]
    mono: bool = False

    @classmethod
    def of(cls, camera: Camera, config: SlamConfig) -> Geometry:
        """Raises SlamError for a calibration that cannot project a point."""
        check_camera(camera)
        sigma_px, inverse_sigma, depth_m = config.pixel_sigma_px, config.inverse_depth_sigma, config.depth_max_m
        if camera.baseline_m:
            # a stereo pair measures disparity = fx baseline / depth: its noise and its range follow
            inverse_sigma = config.disparity_sigma_px / (camera.fx * camera.baseline_m)
            depth_m = camera.fx * camera.baseline_m / LEAST_DISPARITY_PX
        mono = camera.mono or config.sensor == "mono"
        if mono:
            inverse_sigma = NO_DEPTH
        noise = Noise(camera.fx / sigma_px, camera.fy / sigma_px, 1.0 / inverse_sigma)
        focal_px = np.array([camera.fx, camera.fy])
        return cls(camera, noise, focal_px, plane_bounds(camera), (config.depth_min_m, depth_m), mono)

    @cached_property
    def lens(self) -> np.ndarray | None:
        """`lens_of` a plumb_bob camera, None for another."""
        return lens_of(self.camera) if self.camera.model == "plumb_bob" else None

    @property
    def size_px(self) -> np.ndarray:
        """(2,) width and height."""
        return np.array([self.camera.width, self.camera.height])


def check_camera(camera: Camera) -> None:
    """Raises SlamError for a calibration that cannot project a point."""
    numbers = [camera.fx, camera.fy, camera.cx, camera.cy, *np.asarray(camera.distortion).ravel()]
    if camera.width < 1 or camera.height < 1 or not np.isfinite(numbers).all():
        raise SlamError(
            f"camera {camera.width}x{camera.height} has a size or a number that is not finite; check its calibration"
        )
    if camera.fx <= 0 or camera.fy <= 0:
        raise SlamError(f"camera has focal lengths fx {camera.fx}, fy {camera.fy}; both must be > 0")
    if np.asarray(camera.distortion).shape != (DISTORTION.get(camera.model),):
        known = ", ".join(f"{count} for {model}" for model, count in DISTORTION.items())
        raise SlamError(f"distortion {camera.model!r} has {np.size(camera.distortion)} numbers, expected {known}")


def same_camera(a: Camera, b: Camera) -> bool:
    """Whether both project alike, up to the rounding of calibrations by drivers."""
    if a is b:
        return True
    if (a.width, a.height, a.model, len(a.distortion)) != (b.width, b.height, b.model, len(b.distortion)):
        return False
    first, second = ([c.fx, c.fy, c.cx, c.cy, *c.distortion] for c in (a, b))
    return bool(np.allclose(first, second, rtol=1e-5, atol=1e-6))


def lens_of(camera: Camera) -> np.ndarray:
    """(9,) fx, fy, cx, cy and the coefficients of a plumb_bob camera."""
    return np.array([camera.fx, camera.fy, camera.cx, camera.cy, *camera.distortion])


def undistort(camera: Camera, uv: np.ndarray, iterations: int = 6, lens: np.ndarray | None = None) -> np.ndarray:
    """(N, 2) pixels of the original image to (N, 2) float64 points of the normalised plane.

    Newton's method on the distortion: exact to 1e-9 where OpenCV's five fixed-point steps leave
    a tenth of a pixel in the corners of a strongly distorted camera. Other models go through OpenCV.
    """
    if camera.model != "plumb_bob":
        return _undistort_by_opencv(camera, np.asarray(uv, dtype=np.float64))
    if native is not None:
        xy = np.empty((len(uv), 2))
        native.undistort(lens_of(camera) if lens is None else lens, plain(uv), iterations, xy)
        return xy
    target = (np.asarray(uv, dtype=np.float64) - (camera.cx, camera.cy)) / (camera.fx, camera.fy)
    k1, k2, p1, p2, k3 = np.asarray(camera.distortion, dtype=np.float64)
    tx, ty = target[:, 0], target[:, 1]
    x, y = tx.copy(), ty.copy()
    for _ in range(iterations):
        xx, yy, xy = x * x, y * y, x * y
        r2 = xx + yy
        radial = 1.0 + r2 * (k1 + r2 * (k2 + r2 * k3))
        slope = 2.0 * (k1 + r2 * (2.0 * k2 + 3.0 * k3 * r2))
        ex = x * radial + 2.0 * p1 * xy + p2 * (r2 + 2.0 * xx) - tx
        ey = y * radial + p1 * (r2 + 2.0 * yy) + 2.0 * p2 * xy - ty
        a = radial + slope * xx + 2.0 * p1 * y + 6.0 * p2 * x
        b = slope * xy + 2.0 * p1 * x + 2.0 * p2 * y
        d = radial + slope * yy + 6.0 * p1 * y + 2.0 * p2 * x
        determinant = a * d - b * b
        x = x - (d * ex - b * ey) / determinant
        y = y - (a * ey - b * ex) / determinant
    return np.stack([x, y], axis=1)


def distort(camera: Camera, xy: np.ndarray) -> np.ndarray:
    """(N, 2) points of the normalised plane to (N, 2) pixels of the original image."""
    if camera.model != "plumb_bob":
        return _distort_by_opencv(camera, np.asarray(xy, dtype=np.float64))
    if native is not None:
        uv = np.empty((len(xy), 2))
        native.distort(lens_of(camera), plain(xy), uv)
        return uv
    k1, k2, p1, p2, k3 = np.asarray(camera.distortion, dtype=np.float64)
    x, y = xy[:, 0], xy[:, 1]
    r2 = x * x + y * y
    radial = 1.0 + r2 * (k1 + r2 * (k2 + r2 * k3))
    u = x * radial + 2.0 * p1 * x * y + p2 * (r2 + 2.0 * x * x)
    v = y * radial + p1 * (r2 + 2.0 * y * y) + 2.0 * p2 * x * y
    return np.stack([camera.fx * u + camera.cx, camera.fy * v + camera.cy], axis=1)


UNDISTORT_STEPS = (cv2.TERM_CRITERIA_COUNT + cv2.TERM_CRITERIA_EPS, 100, 1e-12)
"""OpenCV's default of five steps leaves errors of some tenths of a pixel in the corners."""


def _undistort_by_opencv(camera: Camera, uv: np.ndarray) -> np.ndarray:
    if not len(uv):
        return np.zeros((0, 2))
    function = cv2.fisheye.undistortPoints if camera.model == "equidistant" else cv2.undistortPoints
    return function(uv[:, None], camera.K, camera.distortion, criteria=UNDISTORT_STEPS)[:, 0]


def _distort_by_opencv(camera: Camera, xy: np.ndarray) -> np.ndarray:
    if not len(xy):
        return np.zeros((0, 2))
    if camera.model == "equidistant":
        return cv2.fisheye.distortPoints(xy[:, None], camera.K, camera.distortion)[:, 0]
    xyz = np.concatenate([xy, np.ones((len(xy), 1))], axis=1)
    return cv2.projectPoints(xyz, np.zeros(3), np.zeros(3), camera.K, camera.distortion)[0][:, 0]


def plane_bounds(camera: Camera) -> np.ndarray:
    """(2, 2) float64: smallest and largest x y of the normalised plane that the image shows."""
    u = np.linspace(0.0, camera.width - 1.0, 16)
    v = np.linspace(0.0, camera.height - 1.0, 16)
    border = np.concatenate(
        [
            np.stack([u, np.zeros(16)], 1),
            np.stack([u, np.full(16, camera.height - 1.0)], 1),
            np.stack([np.zeros(16), v], 1),
            np.stack([np.full(16, camera.width - 1.0), v], 1),
        ]
    )
    xy = undistort(camera, border)
    return np.stack([xy.min(axis=0), xy.max(axis=0)])
