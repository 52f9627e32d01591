# SPDX-License-Identifier: Apache-2.0
"""Checks the calibration against motion: focal length and principal point from RGB-D image pairs.

Points are tracked from one image to the next (Lucas-Kanade), lifted by their depth, and moved by the pose that explains
them. Over several pairs of images, one correction of the focal length and of the principal point is estimated together
with all poses (Gauss-Newton with Tukey's weights). Only rotation constrains the focal length of a camera with depth: if
the camera barely rotated, the uncertainty of the estimate is large and nothing is reported.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from drp_slam import geometry
from drp_slam.datatypes import Camera
from drp_slam.slam.camera import undistort

CORNERS, LEAST_POINTS = 250, 40
LEAST_MOTION_PX = 3.0
"""Minimum median motion of the points of a pair."""
RANSAC_PX = 6.0
ITERATIONS = 12
TUKEY = 4.685
LEAST_SIGMA_PX = 0.3


@dataclass(frozen=True)
class Tracks:
    """Points of a pair of images: `xy` (N, 2) on the normalised plane, `z_m` (N,) in the first; `xy_later` (N, 2)."""

    xy: np.ndarray
    z_m: np.ndarray
    xy_later: np.ndarray


@dataclass(frozen=True)
class Correction:
    """Correction of the calibration by the motion: `focal` is a factor, `shift_px` (2,) is added to the principal
    point.

    `sigma` (3,) are standard deviations of the logarithm of the factor and of the shifts. `residual_px` is the usual
    residual with the correction, `residual_before_px` without.
    """

    focal: float
    shift_px: np.ndarray
    sigma: np.ndarray
    residual_px: float
    residual_before_px: float
    pairs: int


def tracks(
    before: np.ndarray, after: np.ndarray, depth: np.ndarray, unit_m: float, camera: Camera, far_m: float = 8.0
) -> Tracks | None:
    """Tracked points of two (H, W) grey images; `depth` is of the first. None if too few are found or move."""
    corners = cv2.goodFeaturesToTrack(before, CORNERS, 0.01, 8)
    if corners is None:
        return None
    found, status = _flow(before, after, corners)
    back, status_back = _flow(after, before, found)
    uv, uv_later = corners[:, 0], found[:, 0]
    kept = (status[:, 0] > 0) & (status_back[:, 0] > 0) & (np.abs(back[:, 0] - uv).max(axis=1) < 0.5)
    column, row = np.rint(uv).astype(int).T
    height, width = depth.shape
    kept &= (column > 1) & (row > 1) & (column < width - 2) & (row < height - 2)
    uv, uv_later, column, row = uv[kept], uv_later[kept], column[kept], row[kept]
    around = np.stack([depth[row + i, column + j] for i in (-2, 0, 2) for j in (-2, 0, 2)])
    around = np.where(np.isfinite(around), around, 0).astype(np.float64) * unit_m
    z = around[4]
    flat = (around.min(axis=0) > 0) & (np.ptp(around, axis=0) < 0.03 * z) & (z < far_m)
    uv, uv_later, z = uv[flat], uv_later[flat], z[flat]
    if len(z) < LEAST_POINTS or np.median(np.linalg.norm(uv_later - uv, axis=1)) < LEAST_MOTION_PX:
        return None
    return Tracks(undistort(camera, uv), z, undistort(camera, uv_later))


def _flow(before: np.ndarray, after: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points of `before` (N, 1, 2) float32 in `after`, and whether they were found (N, 1)."""
    moved, status, _ = cv2.calcOpticalFlowPyrLK(before, after, points, points.copy(), winSize=(21, 21), maxLevel=4)
    return moved, status


def correction(pairs: Sequence[Tracks], camera: Camera) -> Correction | None:
    """The correction of the calibration that explains the pairs best, None if no pose can be found."""
    f = np.array([camera.fx, camera.fy])
    begun = [(pair, T) for pair in pairs if (T := _pose(pair, f)) is not None]
    if not begun:
        return None
    used = [pair for pair, _ in begun]
    theta, poses = np.zeros(3), [T for _, T in begun]
    for _ in range(ITERATIONS):
        poses = _step(used, poses, theta, f)[1]
    before_px = _usual(used, poses, theta, f)
    information = np.eye(3)
    for _ in range(ITERATIONS):
        step, poses, information = _step(used, poses, theta, f, free=True)
        theta = theta + np.clip(step, (-0.2, -60, -60), (0.2, 60, 60))
    after_px = _usual(used, poses, theta, f)
    sigma = np.sqrt(np.diag(np.linalg.pinv(information))) * max(after_px, LEAST_SIGMA_PX)
    return Correction(float(np.exp(theta[0])), theta[1:], sigma, after_px, before_px, len(used))


def _pose(pair: Tracks, f: np.ndarray) -> np.ndarray | None:
    """(4, 4) T_later_before by RANSAC, in pixels about the principal point."""
    xyz = np.column_stack([pair.xy, np.ones(len(pair.xy))]) * pair.z_m[:, None]
    K = np.diag([*f, 1.0])
    cv2.setRNGSeed(0)
    done, turn, shift, inliers = cv2.solvePnPRansac(
        xyz, pair.xy_later * f, K, None, reprojectionError=RANSAC_PX, iterationsCount=200
    )
    if not done or inliers is None or len(inliers) < LEAST_POINTS // 2:
        return None
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = cv2.Rodrigues(turn)[0], shift[:, 0]
    return T


def _step(
    pairs: Sequence[Tracks], poses: Sequence[np.ndarray], theta: np.ndarray, f: np.ndarray, free: bool = False
) -> tuple[np.ndarray, list[np.ndarray], np.ndarray]:
    """One Gauss-Newton step: the change of `theta` (zero unless `free`), new poses, the information of `theta`."""
    blocks, H, g = [], np.zeros((3, 3)), np.zeros(3)
    for pair, T in zip(pairs, poses):
        r, J_pose, J_theta = _linearised(pair, T, theta, f)
        w = _weights(r)[:, None, None]
        A, B = (np.einsum("nij,nik->jk", w * J_pose, J) for J in (J_pose, J_theta))
        a = np.einsum("nij,ni->j", w * J_pose, r)
        A += 1e-9 * np.trace(A) * np.eye(6)
        inverse = np.linalg.inv(A)
        H += np.einsum("nij,nik->jk", w * J_theta, J_theta) - B.T @ inverse @ B
        g += np.einsum("nij,ni->j", w * J_theta, r) - B.T @ inverse @ a
        blocks.append((inverse, B, a))
    step = -np.linalg.pinv(H, rcond=1e-9) @ g if free else np.zeros(3)
    moved = [geometry.exp(-inverse @ (a + B @ step)) @ T for (inverse, B, a), T in zip(blocks, poses)]
    return step, moved, H


def _linearised(
    pair: Tracks, T: np.ndarray, theta: np.ndarray, f: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Residuals (N, 2) in pixels, and their derivatives by the pose (N, 2, 6) and by `theta` (N, 2, 3).

    `theta` holds the logarithm of the focal length's factor and the shift of the principal point in pixels.
    """
    scaled, shift, z, R = f * np.exp(theta[0]), theta[1:], pair.z_m, T[:3, :3]
    xy = (f * pair.xy - shift) / scaled
    xyz = np.column_stack([xy, np.ones(len(xy))]) * z[:, None]
    moved = xyz @ R.T + T[:3, 3]
    depth = np.maximum(moved[:, 2], 1e-3)
    plane = moved[:, :2] / depth[:, None]
    r = scaled * plane + shift - f * pair.xy_later
    J = np.zeros((len(xy), 2, 3))
    J[:, 0, 0], J[:, 1, 1] = scaled[0] / depth, scaled[1] / depth
    J[:, :, 2] = -scaled * plane / depth[:, None]
    J_pose = np.concatenate([J, -J @ geometry.hat(moved)], axis=2)
    by_log = np.column_stack([-xy * z[:, None], np.zeros(len(xy))])
    J_log = scaled * plane + np.einsum("nij,nj->ni", J @ R, by_log)
    J_shift = np.eye(2) - (J @ R)[:, :, :2] * (z[:, None, None] / scaled)
    return r, J_pose, np.concatenate([J_log[:, :, None], J_shift], axis=2)


def _weights(r: np.ndarray) -> np.ndarray:
    """(N,) Tukey's weights of residuals (N, 2) in units of their usual size."""
    size = np.linalg.norm(r, axis=1)
    sigma = max(float(np.median(size)), LEAST_SIGMA_PX) / 1.177  # the median of a Rayleigh distribution
    return np.maximum(1.0 - (size / (TUKEY * sigma)) ** 2, 0.0) ** 2


def _usual(pairs: Sequence[Tracks], poses: Sequence[np.ndarray], theta: np.ndarray, f: np.ndarray) -> float:
    """The median residual of all points in pixels."""
    sizes = [np.linalg.norm(_linearised(p, T, theta, f)[0], axis=1) for p, T in zip(pairs, poses)]
    return float(np.median(np.concatenate(sizes)))
