# SPDX-License-Identifier: Apache-2.0
"""Bundle adjustment: keyframe poses and points together, by a dense Schur complement.

Made for windows: M points by F free keyframes with M in the thousands and F around ten, where one
(M, F, 6, 3) block array and three matrix products beat a general sparse solver. Levenberg-Marquardt
with Huber weights; the residuals are those of `optimize`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from drp_slam.slam import se3
from drp_slam.slam.optimize import CHI2_DEPTH, CHI2_PIXEL, Noise, camera_residuals, pose_jacobian

FLOPS_PER_OBSERVATION = 900.0
"""Jacobians and block products of one observation in one iteration."""


@dataclass(frozen=True)
class Problem:
    """`poses` (K, 4, 4) `T_camera_world`, the first `free` of which move; `points` (M, 3).

    One row an observation: `camera` (n,), `point` (n,), `xy` (n, 2), `inverse_depth` (n,), no pair
    of camera and point twice.
    """

    poses: np.ndarray
    points: np.ndarray
    camera: np.ndarray
    point: np.ndarray
    xy: np.ndarray
    inverse_depth: np.ndarray
    free: int


@dataclass(frozen=True)
class Solution:
    """`error2_px` (n,) and `error2_depth` (n,): squared residuals in standard deviations."""

    poses: np.ndarray
    points: np.ndarray
    error2_px: np.ndarray
    error2_depth: np.ndarray
    cost: float
    flops: float


def residuals(
    problem: Problem, poses: np.ndarray, points: np.ndarray, noise: Noise
) -> tuple[np.ndarray, np.ndarray]:
    """(3, n) residuals as in `optimize.residuals` and (n, 3) points in their camera's frame."""
    T = poses[problem.camera]
    p = np.einsum("nij,nj->ni", T[:, :3, :3], points[problem.point]) + T[:, :3, 3]
    return camera_residuals(p, problem.xy, problem.inverse_depth, noise), p


def point_jacobian(poses: np.ndarray, camera: np.ndarray, p: np.ndarray, inverse_depth: np.ndarray,
                   noise: Noise) -> np.ndarray:  # fmt: skip
    """(n, 3, 3) derivatives of `residuals` by the points' world coordinates."""
    q = 1.0 / np.maximum(p[:, 2], 1e-3)
    J = np.zeros((len(p), 3, 3))
    J[:, 0, 0], J[:, 0, 2] = noise.fx * q, -noise.fx * p[:, 0] * q * q
    J[:, 1, 1], J[:, 1, 2] = noise.fy * q, -noise.fy * p[:, 1] * q * q
    J[:, 2, 2] = np.where(inverse_depth > 0, -noise.fd * q * q, 0.0)
    return J @ poses[camera, :3, :3]


def robust_cost(r: np.ndarray) -> tuple[float, np.ndarray]:
    """Huber cost and (3, n) weights, reprojection and depth apart."""
    W = np.empty_like(r)
    cost = 0.0
    for rows, limit2 in ((slice(0, 2), CHI2_PIXEL), (slice(2, 3), CHI2_DEPTH)):
        square = (r[rows] ** 2).sum(axis=0)
        size, limit = np.sqrt(square), np.sqrt(limit2)
        outside = size > limit
        W[rows] = np.where(outside, limit / np.maximum(size, limit), 1.0)
        cost += float(np.where(outside, limit * (2.0 * size - limit), square).sum())
    return cost, W


def adjust(problem: Problem, noise: Noise, iterations: int = 5) -> Solution:
    """Minimises the robust cost; poses from `problem.free` on do not move."""
    poses, points = problem.poses.copy(), problem.points.copy()
    r, p = residuals(problem, poses, points, noise)
    cost, W = robust_cost(r)
    damping, flops = 1e-4, 0.0
    system = None
    for _ in range(iterations):
        flops += FLOPS_PER_OBSERVATION * len(p)
        if system is None:
            system = _normal_equations(problem, poses, p, r, W, noise)
        pose_step, point_step = _solve(system, damping)
        new_poses = poses.copy()
        new_poses[: problem.free] = se3.exp(pose_step) @ poses[: problem.free]
        new_points = points + point_step
        new_r, new_p = residuals(problem, new_poses, new_points, noise)
        new_cost, new_W = robust_cost(new_r)
        if not new_cost < cost:  # also when not finite
            damping *= 10.0
            continue
        small = cost - new_cost < 1e-4 * cost
        poses, points, r, p, W, cost = new_poses, new_points, new_r, new_p, new_W, new_cost
        system, damping = None, max(damping * 0.1, 1e-7)
        if small:
            break
    pixel2 = np.where(p[:, 2] > 0.05, r[0] ** 2 + r[1] ** 2, np.inf)
    return Solution(poses, points, pixel2, r[2] ** 2, cost,
                    flops)  # fmt: skip


@dataclass(frozen=True)
class _System:
    """Blocks of the normal equations: poses U (F, 6, 6), points V (M, 3, 3), both W (M, 6F, 3)."""

    U: np.ndarray
    V: np.ndarray
    W: np.ndarray
    gradient_pose: np.ndarray
    gradient_point: np.ndarray


def _normal_equations(problem: Problem, poses: np.ndarray, p: np.ndarray, r: np.ndarray,
                      weight: np.ndarray, noise: Noise) -> _System:  # fmt: skip
    free, count = problem.free, len(problem.points)
    Jp = point_jacobian(poses, problem.camera, p, problem.inverse_depth, noise)
    weight, r = weight.T, r.T
    JpW = (Jp * weight[:, :, None]).transpose(0, 2, 1)
    V = _sum_by(problem.point, (JpW @ Jp).reshape(-1, 9), count).reshape(-1, 3, 3)
    gradient_point = _sum_by(problem.point, (JpW @ r[:, :, None])[:, :, 0], count)

    moving = problem.camera < free
    camera, point = problem.camera[moving], problem.point[moving]
    Jc = pose_jacobian(p[moving], problem.inverse_depth[moving], noise)
    Jc = np.ascontiguousarray(Jc.transpose(2, 1, 0))
    JcW = (Jc * weight[moving][:, :, None]).transpose(0, 2, 1)
    U = _sum_by(camera, (JcW @ Jc).reshape(-1, 36), free).reshape(-1, 6, 6)
    gradient_pose = _sum_by(camera, (JcW @ r[moving][:, :, None])[:, :, 0], free)
    W = np.zeros((count, free, 6, 3))
    W[point, camera] = JcW @ Jp[moving]
    return _System(U, V, W.reshape(count, free * 6, 3), gradient_pose, gradient_point)


def _sum_by(key: np.ndarray, values: np.ndarray, count: int) -> np.ndarray:
    """(count, D) sums of the rows of (n, D) values by key."""
    width = values.shape[1]
    flat = (key[:, None] * width + np.arange(width)).ravel()
    return np.bincount(flat, values.ravel(), count * width).reshape(count, width)


def _solve(system: _System, damping: float) -> tuple[np.ndarray, np.ndarray]:
    """Steps of the poses (F, 6) and of the points (M, 3)."""
    free = len(system.U)
    V = system.V + (damping * np.einsum("mii->mi", system.V) + 1e-9)[:, :, None] * np.eye(3)
    inverse = np.linalg.inv(V)
    Y = system.W @ inverse
    S = -np.tensordot(Y, system.W, axes=([0, 2], [0, 2]))
    blocks = S.reshape(free, 6, free, 6)
    each = np.arange(free)
    blocks[each, :, each] += system.U
    S[np.diag_indices(6 * free)] += damping * np.einsum("fii->fi", system.U).ravel() + 1e-9
    right = -system.gradient_pose.ravel()
    right = right + np.tensordot(Y, system.gradient_point, axes=([0, 2], [0, 1]))
    pose_step = np.linalg.solve(S, right) if free else np.zeros(0)
    back = system.gradient_point + np.einsum("mci,c->mi", system.W, pose_step)
    point_step = -(inverse @ back[:, :, None])[:, :, 0]
    return pose_step.reshape(free, 6), point_step
