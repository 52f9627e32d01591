# SPDX-License-Identifier: Apache-2.0
"""Pose from points: known poses, numerical derivatives, OpenCV."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from drp_slam import geometry
from drp_slam.slam.optimize import Noise, pose_jacobian, ransac_pose, refine_pose, residuals

NOISE = Noise(500.0, 505.0, 100.0)


def scene(seed: int, n: int = 200) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """T_camera_world, xyz in the world, xy and inverse depth without noise."""
    rng = np.random.default_rng(seed)
    T = geometry.exp(rng.normal(scale=0.3, size=6))
    p = rng.uniform([-1.0, -0.8, 1.0], [1.0, 0.8, 4.0], (n, 3))
    return T, geometry.apply(geometry.inverse(T), p), p[:, :2] / p[:, 2:], 1.0 / p[:, 2]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("with_depth", [True, False])
def test_exact_points_give_the_exact_pose(seed: int, with_depth: bool) -> None:
    T, xyz, xy, depth = scene(seed)
    start = geometry.exp(np.random.default_rng(seed + 50).normal(scale=0.05, size=6)) @ T
    fit = refine_pose(start, xyz, xy, depth if with_depth else 0 * depth, NOISE, 30)
    np.testing.assert_allclose(fit.T_camera_world, T, atol=1e-6)
    assert fit.inliers.all()
    assert fit.depth_fits.all() and fit.error2_depth.max() < 1e-6


@pytest.mark.parametrize("seed", range(5))
def test_a_third_of_outliers_do_not_matter(seed: int) -> None:
    T, xyz, xy, depth = scene(seed, 300)
    rng = np.random.default_rng(seed)
    xy = xy + rng.normal(scale=0.5 / 500.0, size=xy.shape)
    xy[:100] += rng.uniform(-0.15, 0.15, (100, 2))
    depth[200:220] *= 1.5
    start = geometry.exp(rng.normal(scale=0.03, size=6)) @ T
    fit = refine_pose(start, xyz, xy, depth, NOISE)
    assert np.linalg.norm(geometry.log(fit.T_camera_world @ geometry.inverse(T))) < 3e-3
    assert fit.inliers[100:].mean() > 0.98 and fit.inliers[:100].mean() < 0.1
    assert not fit.depth_fits[200:220].any()


def test_refinement_agrees_with_opencv() -> None:
    T, xyz, xy, depth = scene(9)
    xy = xy + np.random.default_rng(1).normal(scale=0.3 / 500.0, size=xy.shape)
    fit = refine_pose(T, xyz, xy, 0 * depth, Noise(500.0, 500.0, 100.0), 50)
    rvec, tvec = cv2.solvePnPRefineLM(xyz, xy, np.eye(3), None, cv2.Rodrigues(T[:3, :3])[0], T[:3, 3:].copy())
    theirs = np.eye(4)
    theirs[:3, :3], theirs[:3, 3] = cv2.Rodrigues(rvec)[0], tvec[:, 0]
    # OpenCV's is least squares, ours is robust: equal within a fraction of the noise.
    assert np.linalg.norm(geometry.log(fit.T_camera_world @ geometry.inverse(theirs))) < 2e-4


def test_covariance_is_that_of_repeated_trials() -> None:
    T, xyz, xy, depth = scene(4, 150)
    rng, errors = np.random.default_rng(0), []
    for _ in range(200):
        noisy = xy + rng.normal(size=xy.shape) / (NOISE.fx, NOISE.fy)
        fit = refine_pose(T, xyz, noisy, depth + rng.normal(size=len(depth)) / NOISE.fd, NOISE)
        errors.append(geometry.log(fit.T_camera_world @ geometry.inverse(T)))
    ratio = np.std(errors, axis=0) / np.sqrt(np.diag(fit.covariance))
    assert (ratio > 0.6).all() and (ratio < 1.3).all()


def test_jacobian_is_the_numerical_one() -> None:
    T, xyz, xy, depth = scene(2, 20)
    depth = np.where(np.arange(20) % 3 == 0, 0.0, depth + 0.1)

    def r(xi: np.ndarray) -> np.ndarray:
        return residuals(geometry.apply(geometry.exp(xi) @ T, xyz).T, xy.T, depth, NOISE)

    J = pose_jacobian(geometry.apply(T, xyz).T, depth, NOISE)
    for k in range(6):
        step = np.eye(6)[k] * 1e-6
        np.testing.assert_allclose(J[k], (r(step) - r(-step)) / 2e-6, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("seed", range(3))
def test_ransac_finds_the_pose_among_outliers_twice_the_same(seed: int) -> None:
    T, xyz, xy, _ = scene(seed)
    xy[:100] = np.random.default_rng(seed).uniform(-0.6, 0.6, (100, 2))
    first, second = (ransac_pose(xyz, xy, 3.0 / 500.0) for _ in range(2))
    assert first is not None and second is not None
    assert (first[0] == second[0]).all()
    np.testing.assert_allclose(first[0], T, atol=5e-3)
    assert first[1][100:].mean() > 0.95 and first[1][:100].mean() < 0.1


def test_ransac_says_when_there_is_nothing() -> None:
    assert ransac_pose(np.zeros((3, 3)), np.zeros((3, 2)), 0.01) is None
