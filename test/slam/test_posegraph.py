# SPDX-License-Identifier: Apache-2.0
"""Pose graph: exact graphs, numerical derivatives, scipy's least squares, gtsam."""

from __future__ import annotations

import numpy as np
import pytest

from drp_slam import geometry
from drp_slam.slam import posegraph
from drp_slam.slam.posegraph import Graph


def ring(seed: int, count: int = 8, noise: float = 0.0, start: float = 0.05) -> tuple[Graph, np.ndarray]:
    """Poses on a ring with edges to the next two and one loop, off the truth by `start`."""
    rng = np.random.default_rng(seed)
    truth = np.stack([np.eye(4)] * count)
    for k in range(1, count):
        truth[k] = geometry.exp(rng.normal(scale=0.4, size=6)) @ truth[k - 1]
    a = np.r_[np.arange(count - 1), np.arange(count - 2), 0]
    b = np.r_[np.arange(1, count), np.arange(2, count), count - 1]
    measured = geometry.exp(rng.normal(scale=noise, size=(len(a), 6))) @ truth[b] @ geometry.inverse(truth[a])
    root = rng.normal(size=(len(a), 6, 6))
    information = root @ root.transpose(0, 2, 1) + np.eye(6)
    off = truth.copy()
    off[1:] = geometry.exp(rng.normal(scale=start, size=(count - 1, 6))) @ truth[1:]
    return Graph(off, a, b, measured, information), truth


@pytest.mark.parametrize("seed", range(4))
def test_exact_edges_give_the_exact_poses(seed: int) -> None:
    graph, truth = ring(seed, start=0.3)
    solution = posegraph.optimise(graph, 50)
    np.testing.assert_allclose(solution.poses, truth, atol=1e-6)
    assert solution.cost < 1e-10 and (solution.poses[0] == graph.poses[0]).all()


def test_gradient_is_the_numerical_one() -> None:
    graph, _ = ring(1, noise=0.2)
    r = posegraph.residuals(graph, graph.poses)
    sparse, g, _ = posegraph._normal_equations(graph, graph.poses, r)
    H = sparse.toarray()

    def cost(x: np.ndarray) -> float:
        poses = graph.poses.copy()
        poses[1:] = geometry.exp(x.reshape(-1, 6)) @ poses[1:]
        return posegraph._cost(graph, posegraph.residuals(graph, poses))

    steps = np.eye(len(g)) * 1e-6
    numerical = np.array([(cost(e) - cost(-e)) / 2e-6 for e in steps])
    np.testing.assert_allclose(2.0 * g, numerical, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(H, H.T, atol=1e-9)
    assert np.linalg.eigvalsh(H).min() > 0


@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_scipy(seed: int) -> None:
    optimize = pytest.importorskip("scipy.optimize")
    graph, _ = ring(seed, noise=0.05)
    root = np.linalg.cholesky(graph.information).transpose(0, 2, 1)

    def residual(x: np.ndarray) -> np.ndarray:
        poses = graph.poses.copy()
        poses[1:] = geometry.exp(x.reshape(-1, 6)) @ poses[1:]
        return (root @ posegraph.residuals(graph, poses)[:, :, None]).ravel()

    theirs = optimize.least_squares(residual, np.zeros(6 * 7), xtol=1e-12, ftol=1e-12, gtol=1e-12)
    ours = posegraph.optimise(graph, 50)
    assert ours.cost == pytest.approx(2.0 * theirs.cost, rel=1e-6)
    poses = graph.poses.copy()
    poses[1:] = geometry.exp(theirs.x.reshape(-1, 6)) @ poses[1:]
    np.testing.assert_allclose(ours.poses, poses, atol=2e-4)


def test_agrees_with_gtsam() -> None:
    gtsam = pytest.importorskip("gtsam")
    graph, _ = ring(2, noise=0.02)
    factors, values = gtsam.NonlinearFactorGraph(), gtsam.Values()
    # theirs is rotation first, and perturbs from the right: weights alike in all directions
    unit = Graph(graph.poses, graph.a, graph.b, graph.T_b_a, np.stack([np.eye(6)] * len(graph.a)))
    for k, T in enumerate(graph.poses):
        values.insert(k, gtsam.Pose3(geometry.inverse(T)))
    factors.add(gtsam.NonlinearEqualityPose3(0, gtsam.Pose3(geometry.inverse(graph.poses[0]))))
    for a, b, T in zip(unit.a.tolist(), unit.b.tolist(), unit.T_b_a):
        # gtsam's poses are T_world_camera: T_a_b = T_world_a^-1 T_world_b
        factors.add(gtsam.BetweenFactorPose3(a, b, gtsam.Pose3(geometry.inverse(T)), gtsam.noiseModel.Unit.Create(6)))
    result = gtsam.LevenbergMarquardtOptimizer(factors, values).optimize()
    theirs = np.stack([geometry.inverse(result.atPose3(k).matrix()) for k in range(len(graph.poses))])
    ours = posegraph.optimise(unit, 50)
    np.testing.assert_allclose(ours.poses, theirs, atol=2e-3)


def test_adjoint_moves_a_tangent_through_a_transform() -> None:
    rng = np.random.default_rng(0)
    T, xi = geometry.exp(rng.normal(size=6)), rng.normal(size=6)
    np.testing.assert_allclose(T @ geometry.exp(xi), geometry.exp(geometry.adjoint(T) @ xi) @ T, atol=1e-12)
