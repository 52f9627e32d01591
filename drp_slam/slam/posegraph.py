# SPDX-License-Identifier: Apache-2.0
"""Pose graph: keyframe poses from measured relative poses, by Levenberg-Marquardt on SE(3).

The normal equations are sparse, so time and memory grow linearly with the number of edges: a map is long
and thin. It runs only where a loop is closed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from drp_slam import geometry

if TYPE_CHECKING:
    from scipy.sparse import csc_array

AT_ONCE = 2048
"""Edges whose derivatives are held at a time."""
SMALL = 1e-6
"""Stop when the cost falls by a smaller ratio."""


@dataclass(frozen=True)
class Graph:
    """`poses` (K, 4, 4) `T_camera_world`; one row an edge: `a`, `b` (m,) numbers of poses, `T_b_a`
    (m, 4, 4) measured, `information` (m, 6, 6) of its left perturbation (translation, rotation).
    """

    poses: np.ndarray
    a: np.ndarray
    b: np.ndarray
    T_b_a: np.ndarray
    information: np.ndarray


@dataclass(frozen=True)
class Optimised:
    """`poses` (K, 4, 4); `residual` (m, 6) of the edges with these; `cost`; work in flops."""

    poses: np.ndarray
    residual: np.ndarray
    cost: float
    flops: float


def residuals(graph: Graph, poses: np.ndarray) -> np.ndarray:
    """(m, 6) `log(T_b T_a^-1 T_b_a^-1)`: the error of each edge, in the frame of `b`."""
    moved = poses[graph.b] @ geometry.inverse(poses[graph.a])
    return geometry.log(moved @ geometry.inverse(graph.T_b_a))


def optimise(graph: Graph, iterations: int = 20) -> Optimised:
    """Minimise the weighted residuals of the edges; the first pose is fixed."""
    poses = geometry.orthonormal(graph.poses)
    r = residuals(graph, poses)
    cost, damping, flops = _cost(graph, r), 1e-8, 0.0
    system = None
    for _ in range(iterations):
        system = system or _normal_equations(graph, poses, r)
        step, nonzeros = _solved(*system, damping)
        flops += _flops(nonzeros, step.size)
        new = poses.copy()
        new[1:] = geometry.exp(step) @ poses[1:]
        new_r = residuals(graph, new)
        new_cost = _cost(graph, new_r)
        if not new_cost < cost:  # also when not finite
            if np.abs(step).max() < 1e-9:
                break
            damping *= 10.0
            continue
        done = cost - new_cost < SMALL * cost
        poses, r, cost, system = new, new_r, new_cost, None
        damping = max(0.1 * damping, 1e-12)
        if done:
            break
    return Optimised(poses, r, cost, flops)


def _solved(H: csc_array, g: np.ndarray, diagonal: np.ndarray, damping: float) -> tuple[np.ndarray, int]:
    """Step (K, 6) of the damped equations, and the non-zero elements of the factors."""
    from scipy.sparse.linalg import splu

    H.setdiag(diagonal + (damping * diagonal + 1e-12))
    factors = splu(H, "MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True})
    return factors.solve(-g).reshape(-1, 6), factors.nnz


def _cost(graph: Graph, r: np.ndarray) -> float:
    return float(np.einsum("mi,mij,mj->", r, graph.information, r))


def _flops(nonzeros: int, size: int) -> float:
    """Flops of a factorisation into two triangles with so many elements, as if all columns were equally long."""
    return 2.0 * size * (0.5 * nonzeros / max(size, 1)) ** 2


def _normal_equations(graph: Graph, poses: np.ndarray, r: np.ndarray) -> tuple[csc_array, np.ndarray, np.ndarray]:
    """The matrix (6 (K - 1), 6 (K - 1)) of the poses but the first, its gradient and its diagonal."""
    count, m = len(poses), len(graph.a)
    own, across, g = np.zeros((count, 6, 6)), np.empty((m, 6, 6)), np.zeros((count, 6))
    for first in range(0, m, AT_ONCE):
        some = slice(first, first + AT_ONCE)
        a, b, information = graph.a[some], graph.b[some], graph.information[some]
        Jb = _inverse_left_jacobian(r[some])
        Ja = -Jb @ geometry.adjoint(poses[b] @ geometry.inverse(poses[a]))
        for end, J in ((a, Ja), (b, Jb)):
            weighted = np.swapaxes(J, 1, 2) @ information
            np.add.at(g, end, (weighted @ r[some, :, None])[:, :, 0])
            np.add.at(own, end, weighted @ J)
        np.matmul(weighted, Ja, out=across[some])
    H = _symmetric(own[1:], across, graph.a - 1, graph.b - 1)
    return H, g[1:].ravel(), H.diagonal()


def _symmetric(own: np.ndarray, across: np.ndarray, a: np.ndarray, b: np.ndarray) -> csc_array:
    """The symmetric matrix of the blocks `own` (K, 6, 6) on its diagonal and `across` (m, 6, 6) at rows `b` and columns
    `a`; those at row or column -1 are left out, and those at the same place added up."""
    from scipy.sparse import bsr_array, csc_array

    count, free = len(own), np.flatnonzero((a >= 0) & (b >= 0))
    each, a, b = np.arange(count), a[free], b[free]
    row, column = np.r_[each, b, a], np.r_[each, a, b]
    place = np.empty(len(row), dtype=np.intp)
    order = np.lexsort((column, row))
    place[order] = np.arange(len(row))
    blocks = np.empty((len(row), 6, 6))
    blocks[place[:count]] = own
    blocks[place[count : count + len(free)]] = across[free]
    blocks[place[count + len(free) :]] = across[free].swapaxes(1, 2)
    start = np.r_[0, np.cumsum(np.bincount(row, minlength=count))]
    H = bsr_array((blocks, column[order].astype(np.int32), start.astype(np.int32)), shape=(6 * count, 6 * count))
    H.sum_duplicates()
    rows = H.tocsr()
    return csc_array((rows.data, rows.indices, rows.indptr), shape=rows.shape)


def _inverse_left_jacobian(xi: np.ndarray) -> np.ndarray:
    """(m, 6, 6) of (m, 6) tangents, by Bernoulli's series: exact to 1e-6 below one radian."""
    ad = np.zeros((len(xi), 6, 6))
    ad[:, :3, :3] = ad[:, 3:, 3:] = geometry.hat(xi[:, 3:])
    ad[:, :3, 3:] = geometry.hat(xi[:, :3])
    square = ad @ ad
    fourth = square @ square
    return np.eye(6) - 0.5 * ad + square / 12.0 - fourth / 720.0 + fourth @ square / 30240.0
