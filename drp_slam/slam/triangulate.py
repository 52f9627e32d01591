# SPDX-License-Identifier: Apache-2.0
"""Points of features without depth (far, shiny, out of range) in two keyframes: read `triangulated` first."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from drp_slam.slam.compiled import native
from drp_slam.slam.matching import Matches
from drp_slam.slam.optimize import CHI2_PIXEL, NEAR_M, Noise
from drp_slam.slam.view import View

LEAST_SIGMAS = 8.0
"""A point must be so many standard deviations from infinity: its depth is known to an eighth then."""


@dataclass(frozen=True)
class Triangulated:
    """Features `a` and `b` of two views, and the points xyz (N, 3) in metres in the frame of the first camera."""

    a: np.ndarray
    b: np.ndarray
    xyz: np.ndarray


def free(view: View, point: np.ndarray) -> np.ndarray:
    """Numbers of the features that have neither a map point nor depth; none in an old keyframe (`culling.slim`)."""
    if len(view.descriptor) < len(view):
        return np.zeros(0, dtype=np.intp)
    return ((point < 0) & (view.inverse_depth <= 0)).nonzero()[0]


def triangulated(matches: Matches, xy_a: np.ndarray, xy_b: np.ndarray, T_b_a: np.ndarray, noise: Noise) -> Triangulated:
    """The matches of rays xy (N, 2) and (M, 2) that meet in front of both cameras, with enough parallax.

    The point is where the rays are nearest each other, seen along the first. It must project within the gate
    (95 %) of the second feature: the error along the epipolar line is absorbed by the depth.
    """
    a, b = matches.a, matches.b
    if native is not None:
        n, pairs, xyz = len(a), np.empty((2, len(a)), dtype=np.intp), np.empty((len(a), 3))
        least = NEAR_M, 2.0 * CHI2_PIXEL, 2.0 * LEAST_SIGMAS**2
        n = native.triangulate(a, b, xy_a, xy_b, T_b_a, noise.row, *least, pairs[0], pairs[1], xyz)
        return Triangulated(pairs[0, :n], pairs[1, :n], xyz[:n])
    first = _homogeneous(xy_a[a])
    turned, second = first @ T_b_a[:3, :3].T, _homogeneous(xy_b[b])
    # z turned + t is parallel to second
    across = np.cross(turned, second)
    square = np.maximum(np.einsum("ij,ij->i", across, across), 1e-18)
    z = -np.einsum("ij,ij->i", np.cross(T_b_a[:3, 3], second), across) / square
    there = z[:, None] * turned + T_b_a[:3, 3]
    front = (z > NEAR_M) & (there[:, 2] > NEAR_M)
    scale = np.array([noise.fx, noise.fy])
    offset = (there[:, :2] / np.maximum(there[:, 2:], NEAR_M) - xy_b[b]) * scale
    # parallax: how far the feature is from where it would be at infinity, in standard deviations
    infinite = turned[:, :2] / np.maximum(turned[:, 2:], NEAR_M)
    parallax = (infinite - xy_b[b]) * scale
    good = front & (np.einsum("ij,ij->i", offset, offset) < 2.0 * CHI2_PIXEL)  # both features have noise
    good &= np.einsum("ij,ij->i", parallax, parallax) > 2.0 * LEAST_SIGMAS**2
    return Triangulated(a[good], b[good], z[good, None] * first[good])


def _homogeneous(xy: np.ndarray) -> np.ndarray:
    return np.concatenate([xy, np.ones((len(xy), 1))], axis=1)
