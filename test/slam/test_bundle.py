# SPDX-License-Identifier: Apache-2.0
"""Bundle adjustment: known worlds, numerical derivatives, gtsam."""

from __future__ import annotations

import numpy as np
import pytest

from drp_slam import geometry
from drp_slam.slam import bundle, optimize
from drp_slam.slam.bundle import Problem
from drp_slam.slam.optimize import Noise

NOISE = Noise(500.0, 500.0, 100.0)


def world(seed: int, free: int = 4, fixed: int = 2, points: int = 120, noise: float = 0.0):
    """A problem with the truth: poses and points start off the truth, observations have noise."""
    rng = np.random.default_rng(seed)
    poses = geometry.exp(rng.normal(scale=0.08, size=(free + fixed, 6)))
    xyz = rng.uniform([-1.0, -0.8, 1.5], [1.0, 0.8, 4.0], (points, 3))
    seen = rng.random((free + fixed, points)) < 0.7
    seen[:2] = True
    camera, point = np.nonzero(seen)
    p = np.einsum("nij,nj->ni", poses[camera, :3, :3], xyz[point]) + poses[camera, :3, 3]
    xy = p[:, :2] / p[:, 2:] + noise * rng.normal(size=(len(p), 2)) / 500.0
    depth = 1.0 / p[:, 2] + noise * rng.normal(size=len(p)) / 100.0
    depth[rng.random(len(p)) < 0.3] = 0.0
    off = poses.copy()
    off[:free] = geometry.exp(rng.normal(scale=0.01, size=(free, 6))) @ poses[:free]
    start = xyz + rng.normal(scale=0.02, size=xyz.shape)
    return Problem(off, start, camera, point, xy, depth, free), poses, xyz


@pytest.mark.parametrize("seed", range(4))
def test_finds_the_true_world(seed: int) -> None:
    problem, poses, xyz = world(seed)
    solution = bundle.adjust(problem, NOISE, 20)
    np.testing.assert_allclose(solution.poses, poses, atol=1e-6)
    np.testing.assert_allclose(solution.points, xyz, atol=1e-5)
    assert solution.error2_px.max() < 1e-4 and (solution.poses[4:] == problem.poses[4:]).all()


def test_normal_equations_are_those_of_numerical_derivatives() -> None:
    problem, _, _ = world(1, free=2, fixed=1, points=8, noise=1.0)
    unknowns = 12 + 3 * 8

    def r(x: np.ndarray) -> np.ndarray:
        poses = problem.poses.copy()
        poses[:2] = geometry.exp(x[:12].reshape(2, 6)) @ poses[:2]
        return bundle.residuals(problem, poses, problem.points + x[12:].reshape(8, 3), NOISE)[0]

    J = np.stack([(r(e) - r(-e)).ravel() / 2e-6 for e in np.eye(unknowns) * 1e-6], axis=1)
    r0, p = bundle.residuals(problem, problem.poses, problem.points, NOISE)
    system = bundle._normal_equations(problem, problem.poses, p, r0, np.ones_like(r0), NOISE)
    H, g = J.T @ J, J.T @ r0.ravel()
    assert np.allclose(system.gradient_pose.ravel(), g[:12], rtol=1e-4, atol=1e-2)
    assert np.allclose(system.gradient_point.T.ravel(), g[12:], rtol=1e-4, atol=1e-2)
    for k in range(2):
        assert np.allclose(system.U[k], H[6 * k : 6 * k + 6, 6 * k : 6 * k + 6], rtol=1e-4, atol=1)
    for m in range(8):
        rows = slice(12 + 3 * m, 15 + 3 * m)
        assert np.allclose(system.V[:, :, m], H[rows, rows], rtol=1e-4, atol=1)
        assert np.allclose(system.W[:, :, m], H[rows, :12], rtol=1e-4, atol=1)
    step = np.linalg.solve(H + 1e-9 * np.eye(unknowns), -g)
    pose_step, point_step = bundle._solve(system, 0.0)
    np.testing.assert_allclose(pose_step.ravel(), step[:12], rtol=1e-3, atol=1e-7)
    np.testing.assert_allclose(point_step.ravel(), step[12:], rtol=1e-3, atol=1e-7)


def test_cost_falls_and_outliers_stand_out() -> None:
    problem, _poses, xyz = world(3, noise=0.5)
    problem.xy[::29] += 0.05
    before = bundle.robust_cost(bundle.residuals(problem, problem.poses, problem.points, NOISE)[0])[0]
    solution = bundle.adjust(problem, NOISE, 15)
    assert solution.cost < before / 5
    bad = solution.error2_px > 5 * optimize.CHI2_PIXEL
    assert bad[::29].mean() > 0.95 and np.delete(bad, np.s_[::29]).mean() < 0.02
    assert np.median(np.linalg.norm(solution.points - xyz, axis=1)) < 0.02


def test_agrees_with_gtsam() -> None:
    """Reprojection only, Gaussian noise below Huber's limit: both are plain least squares."""
    gtsam = pytest.importorskip("gtsam")
    problem, poses, _ = world(5, free=2, fixed=2, points=40, noise=0.2)
    problem.inverse_depth[:] = 0.0
    solution = bundle.adjust(problem, NOISE, 50)
    graph, values = gtsam.NonlinearFactorGraph(), gtsam.Values()
    K = gtsam.Cal3_S2(500.0, 500.0, 0.0, 0.0, 0.0)
    pixel = gtsam.noiseModel.Isotropic.Sigma(2, 1.0)
    for row in range(len(problem.camera)):
        graph.add(
            gtsam.GenericProjectionFactorCal3_S2(
                problem.xy[row] * 500.0,
                pixel,
                gtsam.symbol("x", int(problem.camera[row])),
                gtsam.symbol("l", int(problem.point[row])),
                K,
            )
        )
    for k, T in enumerate(problem.poses):
        pose = gtsam.Pose3(geometry.inverse(T))
        values.insert(gtsam.symbol("x", k), pose)
        if k >= problem.free:
            graph.add(gtsam.NonlinearEqualityPose3(gtsam.symbol("x", k), pose))
    for m, xyz in enumerate(problem.points):
        values.insert(gtsam.symbol("l", m), xyz)
    result = gtsam.LevenbergMarquardtOptimizer(graph, values).optimize()
    for k in range(problem.free):
        theirs = geometry.inverse(result.atPose3(gtsam.symbol("x", k)).matrix())
        np.testing.assert_allclose(solution.poses[k], theirs, atol=2e-5)
    assert np.abs(solution.poses[:2] - poses[:2]).max() < 5e-3
