# SPDX-License-Identifier: Apache-2.0
"""SE(3): group properties, and scipy-free agreement with the matrix exponential's series."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from drp_slam import geometry

tangents = st.lists(st.floats(-1.7, 1.7), min_size=6, max_size=6).map(np.array)


def series(xi: np.ndarray) -> np.ndarray:
    """The matrix exponential by its power series: an oracle without closed forms."""
    A = np.zeros((4, 4))
    A[:3, :3], A[:3, 3] = geometry.hat(xi[3:]), xi[:3]
    total, term = np.eye(4), np.eye(4)
    for k in range(1, 60):
        term = term @ A / k
        total = total + term
    return total


@settings(max_examples=50, deadline=None)
@given(tangents)
def test_exp_is_the_matrix_exponential(xi: np.ndarray) -> None:
    np.testing.assert_allclose(geometry.exp(xi), series(xi), atol=1e-12)
    np.testing.assert_allclose(geometry.exp(xi[None])[0], geometry.exp(xi), atol=1e-12)


@settings(max_examples=50, deadline=None)
@given(tangents)
def test_log_undoes_exp(xi: np.ndarray) -> None:
    np.testing.assert_allclose(geometry.log(geometry.exp(xi)), xi, atol=1e-9)


@settings(max_examples=30, deadline=None)
@given(tangents, st.floats(1e-12, 1e-3))
def test_small_motions_are_exact(xi: np.ndarray, scale: float) -> None:
    np.testing.assert_allclose(geometry.log(geometry.exp(scale * xi)), scale * xi, atol=1e-13)


@settings(max_examples=30, deadline=None)
@given(tangents, tangents)
def test_inverse_and_composition(a: np.ndarray, b: np.ndarray) -> None:
    A, B = geometry.exp(a), geometry.exp(b)
    np.testing.assert_allclose(geometry.inverse(A) @ A, np.eye(4), atol=1e-12)
    np.testing.assert_allclose(geometry.inverse(A @ B), geometry.inverse(B) @ geometry.inverse(A), atol=1e-12)


def test_half_turns_keep_their_angle() -> None:
    axes = np.eye(3).repeat(2, axis=0) * np.array([1, -1] * 3)[:, None]
    xi = np.concatenate([np.zeros((6, 3)), axes * (np.pi - 1e-7)], axis=1)
    angle = np.linalg.norm(geometry.rotation_vector(geometry.exp(xi)[:, :3, :3]), axis=1)
    np.testing.assert_allclose(angle, np.pi - 1e-7, atol=1e-9)


def test_apply_moves_points() -> None:
    T = geometry.exp(np.array([1.0, 2.0, 3.0, 0.0, 0.0, np.pi / 2]))
    moved = geometry.apply(T, np.array([[1.0, 0.0, 0.0]]))
    np.testing.assert_allclose(moved - T[:3, 3], [[0.0, 1.0, 0.0]], atol=1e-12)


@settings(max_examples=20, deadline=None)
@given(tangents)
def test_orthonormal_repairs_a_rotation(xi: np.ndarray) -> None:
    T = geometry.exp(xi)
    broken = T.copy()
    broken[:3, :3] += 1e-4 * np.arange(9).reshape(3, 3)
    repaired = geometry.orthonormal(broken)[:3, :3]
    np.testing.assert_allclose(repaired @ repaired.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(repaired) > 0 and np.abs(repaired - T[:3, :3]).max() < 2e-3


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-1, 1), min_size=4, max_size=4).filter(lambda q: np.linalg.norm(q) > 1e-3))
def test_quaternions_and_rotations_are_each_others_inverse(q: list[float]) -> None:
    R = geometry.rotation(np.array(q))
    assert np.abs(R @ R.T - np.eye(3)).max() < 1e-14
    assert np.abs(geometry.rotation(geometry.quaternion(R)) - R).max() < 1e-14


@settings(max_examples=20, deadline=None)
@given(tangents)
def test_a_quaternion_turns_like_its_rotation(xi: np.ndarray) -> None:
    R = geometry.exp(xi)[:3, :3]
    (x, y, z, w), v = geometry.quaternion(R), np.array([0.3, -1.2, 0.7])
    turned = v + 2.0 * np.cross([x, y, z], np.cross([x, y, z], v) + w * v)
    np.testing.assert_allclose(turned, R @ v, atol=1e-12)
    assert w >= 0 and geometry.quaternion(np.stack([R, R])).shape == (2, 4)
