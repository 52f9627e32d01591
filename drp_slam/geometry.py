# SPDX-License-Identifier: Apache-2.0
"""Rigid motions SE(3), vectorised: (..., 4, 4) float64, their (..., 6) tangents, and quaternions.

A tangent is (translation, rotation) and acts from the left: `exp(xi) @ T`. Formulas: Barfoot,
State Estimation for Robotics (2017), section 7.1.
"""

from __future__ import annotations

import math

import numpy as np


def hat(w: np.ndarray) -> np.ndarray:
    """(..., 3) to the (..., 3, 3) matrix with `hat(w) @ v = cross(w, v)`."""
    out = np.zeros(w.shape[:-1] + (3, 3))
    out[..., 0, 1], out[..., 0, 2], out[..., 1, 2] = -w[..., 2], w[..., 1], -w[..., 0]
    out[..., 1, 0], out[..., 2, 0], out[..., 2, 1] = w[..., 2], -w[..., 1], w[..., 0]
    return out


def _coefficients(angle: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """sin(a)/a, (1 - cos a)/a^2, (a - sin a)/a^3, by their series near zero."""
    small = angle < 1e-4
    a = np.where(small, 1.0, angle)
    square = angle * angle
    return (
        np.where(small, 1.0 - square / 6.0, np.sin(a) / a),
        np.where(small, 0.5 - square / 24.0, 2.0 * np.sin(0.5 * a) ** 2 / (a * a)),
        np.where(small, 1.0 / 6.0 - square / 120.0, (a - np.sin(a)) / (a * a * a)),
    )


def exp(xi: np.ndarray) -> np.ndarray:
    """(..., 6) tangent to (..., 4, 4) transform."""
    xi = np.asarray(xi, dtype=np.float64)
    if xi.ndim == 1:
        return _exp_one(xi.tolist())
    w = xi[..., 3:]
    a, b, c = (k[..., None, None] for k in _coefficients(np.linalg.norm(w, axis=-1)))
    W = hat(w)
    W2 = W @ W
    T = np.zeros(xi.shape[:-1] + (4, 4))
    T[..., :3, :3] = np.eye(3) + a * W + b * W2
    T[..., :3, 3] = ((np.eye(3) + b * W + c * W2) @ xi[..., :3, None])[..., 0]
    T[..., 3, 3] = 1.0
    return T


def _exp_one(xi: list[float]) -> np.ndarray:
    """`exp` of one tangent, ten times as fast on small arrays: tracking calls it often."""
    tx, ty, tz, x, y, z = xi
    square = x * x + y * y + z * z
    angle = math.sqrt(square)
    if angle < 1e-4:
        a, b, c = 1.0 - square / 6.0, 0.5 - square / 24.0, 1.0 / 6.0 - square / 120.0
    else:
        a, half = math.sin(angle) / angle, math.sin(0.5 * angle)
        b = 2.0 * half * half / square
        c = (1.0 - a) / square
    ux, uy, uz = y * tz - z * ty, z * tx - x * tz, x * ty - y * tx
    vx, vy, vz = y * uz - z * uy, z * ux - x * uz, x * uy - y * ux
    return np.array(
        [
            [1.0 - b * (y * y + z * z), b * x * y - a * z, b * x * z + a * y, tx + b * ux + c * vx],
            [b * x * y + a * z, 1.0 - b * (x * x + z * z), b * y * z - a * x, ty + b * uy + c * vy],
            [b * x * z - a * y, b * y * z + a * x, 1.0 - b * (x * x + y * y), tz + b * uz + c * vz],
            [0.0, 0.0, 0.0, 1.0],
        ]
    )


def log(T: np.ndarray) -> np.ndarray:
    """(..., 4, 4) transform to its (..., 6) tangent; the rotation is below pi."""
    if T.ndim == 2:
        return np.array(_log_one(T.tolist()))
    w = rotation_vector(T[..., :3, :3])
    angle = np.linalg.norm(w, axis=-1)
    a, b, _ = _coefficients(angle)
    square = angle * angle
    safe = np.where(angle < 1e-4, 1.0, square)
    k = np.where(angle < 1e-4, 1.0 / 12.0 + square / 720.0, (1.0 - a / (2.0 * b)) / safe)
    W = hat(w)
    inverse_V = np.eye(3) - 0.5 * W + k[..., None, None] * (W @ W)
    return np.concatenate([(inverse_V @ T[..., :3, 3, None])[..., 0], w], axis=-1)


def _log_one(T: list[list[float]]) -> list[float]:
    """`log` of one transform."""
    (r00, r01, r02, tx), (r10, r11, r12, ty), (r20, r21, r22, tz), _ = T
    square = 1 + r00 - r11 - r22, 1 - r00 + r11 - r22, 1 - r00 - r11 + r22, 1 + r00 + r11 + r22
    largest = square.index(max(square))
    qx, qy, qz, qw = (
        (square[0], r10 + r01, r02 + r20, r21 - r12),
        (r10 + r01, square[1], r21 + r12, r02 - r20),
        (r02 + r20, r21 + r12, square[2], r10 - r01),
        (r21 - r12, r02 - r20, r10 - r01, square[3]),
    )[largest]
    length = math.copysign(math.sqrt(qx * qx + qy * qy + qz * qz + qw * qw), qw)
    qx, qy, qz, qw = qx / length, qy / length, qz / length, qw / length
    sine = math.sqrt(qx * qx + qy * qy + qz * qz)
    scale = 2.0 if sine < 1e-9 else 2.0 * math.atan2(sine, qw) / sine
    x, y, z = scale * qx, scale * qy, scale * qz
    angle2 = x * x + y * y + z * z
    angle = math.sqrt(angle2)
    if angle < 1e-4:
        k = 1.0 / 12.0 + angle2 / 720.0
    else:
        half = math.sin(0.5 * angle)
        k = (1.0 - math.sin(angle) / angle * angle2 / (4.0 * half * half)) / angle2
    # (1 - W / 2 + k W^2) t with W t = w x t
    ux, uy, uz = y * tz - z * ty, z * tx - x * tz, x * ty - y * tx
    vx, vy, vz = y * uz - z * uy, z * ux - x * uz, x * uy - y * ux
    return [tx - 0.5 * ux + k * vx, ty - 0.5 * uy + k * vy, tz - 0.5 * uz + k * vz, x, y, z]


def rotation_vector(R: np.ndarray) -> np.ndarray:
    """(..., 3, 3) rotations to (..., 3) axis times angle, through the unit quaternion."""
    d = np.einsum("...ii->...i", R)
    trace = d.sum(-1)[..., None]
    # not `quaternion`, whose rounding differs: trajectories with a loop stay identical to the last bit
    q = _by_largest(R, np.concatenate([1 + 2 * d - trace, 1 + trace], axis=-1))
    sine = np.linalg.norm(q[..., :3], axis=-1)
    angle = 2.0 * np.arctan2(sine, q[..., 3])
    small = sine < 1e-9
    return q[..., :3] * np.where(small, 2.0, angle / np.where(small, 1.0, sine))[..., None]


def quaternion(R: np.ndarray) -> np.ndarray:
    """(..., 3, 3) rotations to (..., 4) unit quaternions x y z w with w >= 0."""
    xx, yy, zz = R[..., 0, 0], R[..., 1, 1], R[..., 2, 2]
    return _by_largest(R, np.stack([1 + xx - yy - zz, 1 - xx + yy - zz, 1 - xx - yy + zz, 1 + xx + yy + zz], axis=-1))


def _by_largest(R: np.ndarray, square: np.ndarray) -> np.ndarray:
    """Unit quaternions from four times their squared components (..., 4).

    Divides by the largest component (Shepperd 1978).
    """
    s = (R[..., 2, 1] + R[..., 1, 2], R[..., 0, 2] + R[..., 2, 0], R[..., 1, 0] + R[..., 0, 1])
    m = (R[..., 2, 1] - R[..., 1, 2], R[..., 0, 2] - R[..., 2, 0], R[..., 1, 0] - R[..., 0, 1])
    rows = np.stack(
        [
            np.stack([square[..., 0], s[2], s[1], m[0]], axis=-1),
            np.stack([s[2], square[..., 1], s[0], m[1]], axis=-1),
            np.stack([s[1], s[0], square[..., 2], m[2]], axis=-1),
            np.stack([m[0], m[1], m[2], square[..., 3]], axis=-1),
        ],
        axis=-2,
    )
    largest = np.argmax(square, axis=-1)[..., None, None]
    q = np.take_along_axis(rows, largest, axis=-2)[..., 0, :]
    q = q / np.linalg.norm(q, axis=-1, keepdims=True)
    return np.where(q[..., 3:] < 0, -q, q)


def rotation(quaternion: np.ndarray) -> np.ndarray:
    """(..., 4) quaternions x y z w of any nonzero length to (..., 3, 3) rotations."""
    q = quaternion / np.linalg.norm(quaternion, axis=-1, keepdims=True)
    x, y, z, w = q[..., 0], q[..., 1], q[..., 2], q[..., 3]
    return np.stack(
        [
            np.stack([1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)], axis=-1),
            np.stack([2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)], axis=-1),
            np.stack([2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)], axis=-1),
        ],
        axis=-2,
    )


def adjoint(T: np.ndarray) -> np.ndarray:
    """(..., 6, 6) of (..., 4, 4): `T exp(xi) = exp(adjoint(T) xi) T`."""
    if T.ndim == 2:
        return np.array(_adjoint_one(T.tolist()))
    out = np.zeros(T.shape[:-2] + (6, 6))
    R = T[..., :3, :3]
    out[..., :3, :3] = out[..., 3:, 3:] = R
    out[..., :3, 3:] = hat(T[..., :3, 3]) @ R
    return out


def _adjoint_one(T: list[list[float]]) -> list[list[float]]:
    """`adjoint` of one transform."""
    (a, b, c, x), (d, e, f, y), (g, h, i, z), _ = T
    return [
        [a, b, c, y * g - z * d, y * h - z * e, y * i - z * f],
        [d, e, f, z * a - x * g, z * b - x * h, z * c - x * i],
        [g, h, i, x * d - y * a, x * e - y * b, x * f - y * c],
        [0.0, 0.0, 0.0, a, b, c],
        [0.0, 0.0, 0.0, d, e, f],
        [0.0, 0.0, 0.0, g, h, i],
    ]


def inverse(T: np.ndarray) -> np.ndarray:
    """(..., 4, 4) inverse of a rigid motion."""
    if T.ndim == 2:
        (a, b, c, x), (d, e, f, y), (g, h, i, z), _ = T.tolist()
        return np.array(
            [
                [a, d, g, -(a * x + d * y + g * z)],
                [b, e, h, -(b * x + e * y + h * z)],
                [c, f, i, -(c * x + f * y + i * z)],
                [0.0, 0.0, 0.0, 1.0],
            ]
        )
    out = np.zeros_like(T)
    Rt = np.swapaxes(T[..., :3, :3], -1, -2)
    out[..., :3, :3] = Rt
    out[..., :3, 3] = -(Rt @ T[..., :3, 3, None])[..., 0]
    out[..., 3, 3] = 1.0
    return out


def orthonormal(T: np.ndarray) -> np.ndarray:
    """(..., 4, 4) with the nearest true rotations.

    `inverse` transposes, so that rounding errors of a rotation double with every composition
    `A @ inverse(B) @ B`: a chain of frames must be projected onto SO(3) from time to time.
    """
    U, _, Vt = np.linalg.svd(T[..., :3, :3])
    out = T.copy()
    out[..., :3, :3] = U @ Vt
    return out


def apply(T: np.ndarray, xyz: np.ndarray) -> np.ndarray:
    """Moves (N, 3) points by one (4, 4) transform."""
    return xyz @ T[:3, :3].T + T[:3, 3]
