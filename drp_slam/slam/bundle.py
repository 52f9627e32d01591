# SPDX-License-Identifier: Apache-2.0
"""Bundle adjustment: keyframe poses and points together, by a dense Schur complement.

For windows: M points by F free keyframes with M in the thousands and F around ten, where one
(3, F, 6, M) block array and three matrix products beat a general sparse solver. Levenberg-Marquardt
with Huber weights; the residuals are those of `optimize`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from drp_slam import geometry
from drp_slam.slam import optimize
from drp_slam.slam.compiled import native, plain
from drp_slam.slam.optimize import CHI2_DEPTH, CHI2_PIXEL, NEAR_M, Noise, pose_jacobian

SMALL_FALL = 1e-3
"""Stop when the cost falls by a smaller ratio: the adjustment at the next keyframe continues from there."""
FLOPS_PER_OBSERVATION = 900.0
"""Flops of the Jacobians and block products of one observation in one iteration."""


@dataclass(frozen=True)
class Problem:
    """`poses` (K, 4, 4) `T_camera_world`, the first `free` of which are optimised; `points` (M, 3).

    One row an observation: `camera` (n,), in ascending order, `point` (n,), `xy` (n, 2),
    `inverse_depth` (n,), no pair of camera and point twice.
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


def residuals(problem: Problem, poses: np.ndarray, points: np.ndarray, noise: Noise) -> tuple[np.ndarray, np.ndarray]:
    """(3, n) residuals as in `optimize.residuals` and (3, n) points in their camera's frame."""
    T = poses[problem.camera]
    p = np.einsum("nij,nj->in", T[:, :3, :3], points[problem.point]) + T[:, :3, 3].T
    return optimize.residuals(p, problem.xy.T, problem.inverse_depth, noise), p


def point_jacobian(R: np.ndarray, p: np.ndarray, inverse_depth: np.ndarray, noise: Noise) -> np.ndarray:
    """(3, 3, n) derivatives of `residuals` by the points' world coordinates, coordinate first.

    `R` (n, 3, 3) rotations of the cameras, `p` (3, n) points in their cameras' frames.
    """
    q = 1.0 / np.maximum(p[2], NEAR_M)
    x, y = p[0] * q, p[1] * q
    fx, fy = noise.fx * q, noise.fy * q
    d = np.where(inverse_depth > 0, -noise.fd * q * q, 0.0)
    rows = np.ascontiguousarray(R.transpose(2, 1, 0))
    J = np.empty((3, 3, p.shape[1]))
    J[:, 0] = fx * (rows[:, 0] - x * rows[:, 2])
    J[:, 1] = fy * (rows[:, 1] - y * rows[:, 2])
    J[:, 2] = d * rows[:, 2]
    return J


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
    """Minimise the robust cost; poses from `problem.free` on are fixed."""
    poses, points = problem.poses.copy(), problem.points.copy()
    if native is not None:
        return _adjusted(problem, poses, points, noise, iterations)
    poses[: problem.free] = geometry.orthonormal(poses[: problem.free])
    r, p = residuals(problem, poses, points, noise)
    cost, W = robust_cost(r)
    damping, flops = 1e-4, 0.0
    system = None
    for _ in range(iterations):
        flops += FLOPS_PER_OBSERVATION * len(problem.point)
        if system is None:
            system = _normal_equations(problem, poses, p, r, W, noise)
        pose_step, point_step = _solve(system, damping)
        new_poses = poses.copy()
        new_poses[: problem.free] = geometry.exp(pose_step) @ poses[: problem.free]
        new_points = points + point_step
        new_r, new_p = residuals(problem, new_poses, new_points, noise)
        new_cost, new_W = robust_cost(new_r)
        if not new_cost < cost:  # also when not finite
            damping *= 10.0
            continue
        small = cost - new_cost < SMALL_FALL * cost
        poses, points, r, p, W, cost = new_poses, new_points, new_r, new_p, new_W, new_cost
        system, damping = None, max(damping * 0.1, 1e-7)
        if small:
            break
    pixel2 = np.where(p[2] > NEAR_M, r[0] ** 2 + r[1] ** 2, np.inf)
    return Solution(poses, points, pixel2, r[2] ** 2, cost, flops)


def _adjusted(problem: Problem, poses: np.ndarray, points: np.ndarray, noise: Noise, iterations: int) -> Solution:
    """`adjust` compiled: the same system, of which the points are eliminated one by one."""
    assert native is not None
    observations = len(problem.point)
    pixel2, depth2 = np.empty(observations), np.empty(observations)
    rows = plain(problem.xy), plain(problem.inverse_depth), noise.row
    numbers = plain(problem.camera, np.int64), plain(problem.point, np.int64)
    cost, done = native.adjust(poses, points, *numbers, *rows, problem.free, iterations, pixel2, depth2)
    return Solution(poses, points, pixel2, depth2, cost, FLOPS_PER_OBSERVATION * observations * done)


@dataclass(frozen=True)
class _System:
    """Blocks of the normal equations.

    Poses U (F, 6, 6), points V (3, 3, M), both W (3, 6F, M): points lie along the last axis.
    """

    U: np.ndarray
    V: np.ndarray
    W: np.ndarray
    gradient_pose: np.ndarray
    gradient_point: np.ndarray


def _normal_equations(
    problem: Problem, poses: np.ndarray, p: np.ndarray, r: np.ndarray, weight: np.ndarray, noise: Noise
) -> _System:
    free, count = problem.free, len(problem.points)
    Jp = point_jacobian(poses[problem.camera, :3, :3], p, problem.inverse_depth, noise)
    JpW = Jp * weight
    V = np.empty((3, 3, count))
    gradient_point = np.empty((3, count))
    for i in range(3):
        gradient_point[i] = np.bincount(problem.point, (JpW[i] * r).sum(axis=0), count)
        for j in range(i, 3):
            V[i, j] = V[j, i] = np.bincount(problem.point, (JpW[i] * Jp[j]).sum(axis=0), count)

    # rows lie in the order of the cameras: the free ones come first, each in one contiguous run
    edges = np.searchsorted(problem.camera, np.arange(free + 1)).tolist()
    moving = slice(0, edges[-1])
    Jc = pose_jacobian(p[:, moving], problem.inverse_depth[moving], noise)
    JcW = Jc * weight[:, moving]
    U, gradient_pose = np.zeros((free, 6, 6)), np.zeros((free, 6))
    W = np.zeros((3, free, 6, count))
    cross = np.stack([(JcW * Jp[j][:, moving]).sum(axis=1) for j in range(3)])
    for k in range(free):
        mine = slice(edges[k], edges[k + 1])
        left = JcW[:, :, mine].reshape(6, -1)
        U[k] = left @ Jc[:, :, mine].reshape(6, -1).T
        gradient_pose[k] = left @ r[:, mine].ravel()
        W[:, k][:, :, problem.point[mine]] = cross[:, :, mine]
    return _System(U, V, W.reshape(3, free * 6, count), gradient_pose, gradient_point)


def _solve(system: _System, damping: float) -> tuple[np.ndarray, np.ndarray]:
    """Steps of the poses (F, 6) and of the points (M, 3)."""
    free, W = len(system.U), system.W
    V = system.V.copy()
    for i in range(3):
        V[i, i] += damping * V[i, i] + 1e-9
    inverse = _inverse_3x3(V)
    Y = np.empty_like(W)
    for k in range(3):
        np.multiply(W[0], inverse[0, k], out=Y[k])
        Y[k] += W[1] * inverse[1, k]
        Y[k] += W[2] * inverse[2, k]
    S = -sum(Y[k] @ W[k].T for k in range(3))
    blocks = S.reshape(free, 6, free, 6)
    each = np.arange(free)
    blocks[each, :, each] += system.U
    S[np.diag_indices(6 * free)] += damping * np.einsum("fii->fi", system.U).ravel() + 1e-9
    right = sum(Y[k] @ system.gradient_point[k] for k in range(3)) - system.gradient_pose.ravel()
    pose_step = np.linalg.solve(S, right)
    back = system.gradient_point + np.stack([pose_step @ W[j] for j in range(3)])
    point_step = -(inverse * back[:, None]).sum(axis=0)
    return pose_step.reshape(free, 6), point_step.T


def _inverse_3x3(V: np.ndarray) -> np.ndarray:
    """(3, 3, M) inverses of symmetric matrices, by cofactors."""
    a, b, c, d, e, f = V[0, 0], V[0, 1], V[0, 2], V[1, 1], V[1, 2], V[2, 2]
    C = np.empty_like(V)
    C[0, 0], C[0, 1], C[0, 2] = d * f - e * e, c * e - b * f, b * e - c * d
    C[1, 1], C[1, 2], C[2, 2] = a * f - c * c, b * c - a * e, a * d - b * b
    C[1, 0], C[2, 0], C[2, 1] = C[0, 1], C[0, 2], C[1, 2]
    return C / (a * C[0, 0] + b * C[0, 1] + c * C[0, 2])
