# SPDX-License-Identifier: Apache-2.0
"""Pose of one frame from known points: robust PnP and pose-only refinement.

A residual has three rows, each in units of its standard deviation: two of reprojection and one of
inverse depth (weight zero without depth). The pose is `T_camera_world`, perturbed from the left.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import cv2
import numpy as np

from drp_slam import geometry
from drp_slam.slam.compiled import NO_MARKS, NO_ONES, native, plain

CHI2_PIXEL = 5.99
"""95 % of a chi-square of two degrees of freedom."""
CHI2_DEPTH = 3.84
"""95 % of a chi-square of one degree of freedom."""
DEPTH_GATE2 = 9.0 * CHI2_DEPTH
"""Depth has heavy tails (edges, registration): a larger squared error belongs to another surface."""
NEAR_M = 0.05
"""Points nearer than this, or behind the camera, have no weight."""
LEAST_FULL = 20
"""The scale of the kernel is the median of the fully weighted observations if there are as many."""
SMALL_STEP = 2e-5
"""Metres and radians: refinement stops at a smaller step."""
FLOPS_PER_ROW = 240.0
"""Flops of one observation in one iteration: residuals, (3, 6) Jacobian and its (6, 6) product."""


_NO_PULL, _PLANE = np.zeros(6), np.eye(3)
"""The pull where nothing was marked; the camera matrix of the normalised plane."""


@dataclass(frozen=True)
class Noise:
    """Standard deviations as weights: residual rows are `fx dx`, `fy dy`, `fd d(1/z)`.

    `fx = camera.fx / pixel_sigma_px`, `fy` likewise, `fd = 1 / inverse_depth_sigma`.
    """

    fx: float
    fy: float
    fd: float

    @cached_property
    def row(self) -> np.ndarray:
        """(3,) the same in one array."""
        return np.array([self.fx, self.fy, self.fd])


@dataclass(frozen=True)
class PoseFit:
    """`T_camera_world` with the `covariance` (6, 6) of its left perturbation (translation, rotation).

    `error2_px` and `error2_depth` (N,) are squared residuals in standard deviations; the former is
    infinite behind the camera, the latter 0 without depth.

    Where a part of the observations was marked: `pull` (6,) is the step that they alone would make from this pose,
    `pull2` its squared length in standard deviations, both 0 otherwise.
    """

    T_camera_world: np.ndarray
    covariance: np.ndarray
    error2_px: np.ndarray
    error2_depth: np.ndarray
    flops: float
    pull: np.ndarray = field(default_factory=lambda: _NO_PULL)
    pull2: float = 0.0

    @cached_property
    def T_world_camera(self) -> np.ndarray:
        """(4, 4) the inverse of the pose."""
        return geometry.inverse(self.T_camera_world)

    @cached_property
    def inliers(self) -> np.ndarray:
        """(N,) bool: reprojection within 95 %."""
        return self.error2_px < CHI2_PIXEL

    @cached_property
    def depth_fits(self) -> np.ndarray:
        """(N,) bool: the depth is near, or not known."""
        return self.error2_depth < DEPTH_GATE2

    @cached_property
    def count(self) -> int:
        """Number of inliers."""
        return int(np.count_nonzero(self.inliers))


def residuals(p: np.ndarray, xy: np.ndarray, inverse_depth: np.ndarray, noise: Noise) -> np.ndarray:
    """(3, N) residuals of (3, N) points in the camera's frame; the depth row is 0 without depth.

    `xy` is (2, N). Here and below the observations lie along the last axis: one pass over memory
    for every entry.
    """
    q = 1.0 / np.maximum(p[2], NEAR_M)
    r = np.empty((3, p.shape[1]))
    r[0] = noise.fx * (p[0] * q - xy[0])
    r[1] = noise.fy * (p[1] * q - xy[1])
    r[2] = np.where(inverse_depth > 0, noise.fd * (q - inverse_depth), 0.0)
    return r


def pose_jacobian(p: np.ndarray, inverse_depth: np.ndarray, noise: Noise) -> np.ndarray:
    """(6, 3, N) derivatives of `residuals` by the left perturbation (translation, rotation)."""
    q = 1.0 / np.maximum(p[2], NEAR_M)
    x, y = p[0] * q, p[1] * q
    J = np.zeros((6, 3, p.shape[1]))
    fx, fy, xy = noise.fx, noise.fy, x * y
    J[0, 0], J[1, 1] = fx * q, fy * q
    J[2, 0], J[2, 1] = -x * J[0, 0], -y * J[1, 1]
    J[3, 0], J[3, 1] = -fx * xy, -fy * (1.0 + y * y)
    J[4, 0], J[4, 1] = fx * (1.0 + x * x), fy * xy
    J[5, 0], J[5, 1] = -fx * y, fy * x
    d = np.where(inverse_depth > 0, -noise.fd * q, 0.0)
    J[2, 2], J[3, 2], J[4, 2] = d * q, d * y, -d * x
    return J


def refine_pose(
    T: np.ndarray,
    xyz: np.ndarray,
    xy: np.ndarray,
    inverse_depth: np.ndarray,
    noise: Noise,
    iterations: int = 12,
    weight: np.ndarray | None = None,
    part: np.ndarray | None = None,
) -> PoseFit:
    """Iteratively reweighted Gauss-Newton with a Cauchy kernel whose scale shrinks to the noise.

    `T_camera_world` to start from, xyz (N, 3) in the world, xy (N, 2) on the normalised plane,
    inverse_depth (N,) with 0 for none, `weight` (N,) of each in 0 to 1, 1 without; `part` (N,) bool
    marks those whose pull is wanted.
    """
    if native is None:
        return _refined(T, xyz, xy, inverse_depth, noise, iterations, weight, part)
    n, fitted, steps, errors = len(xyz), np.empty((4, 4)), np.empty((7, 6)), np.empty((2, len(xyz)))
    covariance, pull = steps[:6], steps[6]
    done, pull2 = native.refine(
        T,
        xyz,
        xy,
        inverse_depth,
        noise.row,
        NO_ONES if weight is None else weight,
        NO_MARKS if part is None else part,
        iterations,
        LEAST_FULL,
        fitted,
        covariance,
        errors[0],
        errors[1],
        pull,
    )
    return PoseFit(fitted, covariance, errors[0], errors[1], FLOPS_PER_ROW * n * done, pull, pull2)


def _refined(
    T: np.ndarray,
    xyz: np.ndarray,
    xy: np.ndarray,
    inverse_depth: np.ndarray,
    noise: Noise,
    iterations: int,
    weight: np.ndarray | None,
    part: np.ndarray | None,
) -> PoseFit:
    """`refine_pose` in numpy."""
    world, plane = np.ascontiguousarray(xyz.T), np.ascontiguousarray(xy.T)
    T = geometry.orthonormal(T)
    H = np.eye(6)
    flops = 0.0
    full = None if weight is None or (weight >= 1.0).sum() < LEAST_FULL else weight >= 1.0
    for _ in range(iterations):
        p = T[:3, :3] @ world + T[:3, 3:]
        r = residuals(p, plane, inverse_depth, noise)
        J = pose_jacobian(p, inverse_depth, noise)
        JW = (J * _weights(r, p, weight, full)).reshape(6, -1)
        H = JW @ J.reshape(6, -1).T + 1e-6 * np.eye(6)
        step = -np.linalg.solve(H, JW @ r.ravel())
        T = geometry.exp(step) @ T
        flops += FLOPS_PER_ROW * len(xyz)
        if np.abs(step).max() < SMALL_STEP:
            break
    errors = errors2(T, xyz, xy, inverse_depth, noise)
    return PoseFit(T, np.linalg.inv(H), *errors, flops, *(_pull(JW, J, r, part) if part is not None else ()))


def _pull(JW: np.ndarray, J: np.ndarray, r: np.ndarray, part: np.ndarray) -> tuple[np.ndarray, float]:
    """Step (6,) that some of the observations alone would make, and its squared length in standard deviations."""
    JW = JW * np.concatenate([part, part, part])
    H = JW @ J.reshape(6, -1).T + 1e-6 * np.eye(6)
    step = -np.linalg.solve(H, JW @ r.ravel())
    return step, float(step @ H @ step)


def errors2(
    T: np.ndarray, xyz: np.ndarray, xy: np.ndarray, inverse_depth: np.ndarray, noise: Noise
) -> tuple[np.ndarray, np.ndarray]:
    """Squared residuals (N,) of reprojection and of depth, as `PoseFit` has them."""
    if native is not None:
        errors = np.empty((2, len(xyz)))
        native.errors2(T, xyz, xy, inverse_depth, noise.row, errors[0], errors[1])
        return errors[0], errors[1]
    p = T[:3, :3] @ xyz.T + T[:3, 3:]
    r = residuals(p, xy.T, inverse_depth, noise)
    return np.where(p[2] > NEAR_M, r[0] ** 2 + r[1] ** 2, np.inf), r[2] ** 2


def _weights(r: np.ndarray, p: np.ndarray, weight: np.ndarray | None, full: np.ndarray | None) -> np.ndarray:
    """(3, N) Cauchy weights; their scale is the median error, of those marked in `full`, but not below the noise."""
    pixel2 = r[0] ** 2 + r[1] ** 2
    some = pixel2 if full is None else pixel2[full]
    middle = len(some) // 2
    scale2 = max(1.0, float(np.partition(some, middle)[middle]))
    W = np.empty_like(r)
    W[0] = (p[2] > NEAR_M) / (1.0 + pixel2 / (CHI2_PIXEL * scale2))
    if weight is not None:
        W[0] *= weight
    W[1] = W[0]
    W[2] = W[0] / (1.0 + r[2] ** 2 / (CHI2_DEPTH * scale2))
    return W


def ransac_pose(xyz: np.ndarray, xy: np.ndarray, threshold: float) -> tuple[np.ndarray, np.ndarray] | None:
    """`T_camera_world` and (N,) bool inliers by P3P in a RANSAC of fixed seed, or None.

    `threshold` is in units of the normalised plane.
    """
    if len(xyz) < 6:
        return None
    cv2.setRNGSeed(0)
    found, rvec, tvec, index = cv2.solvePnPRansac(
        plain(xyz),
        plain(xy),
        _PLANE,
        None,
        iterationsCount=150,
        reprojectionError=threshold,
        confidence=0.995,
        flags=cv2.SOLVEPNP_P3P,
    )
    if not found or index is None or len(index) < 6:
        return None
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = cv2.Rodrigues(rvec)[0], tvec[:, 0]
    inliers = np.zeros(len(xyz), dtype=bool)
    inliers[index.ravel()] = True
    return (T, inliers) if np.isfinite(T).all() else None
