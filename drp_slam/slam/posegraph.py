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
    from scipy.sparse import diags_array
    from scipy.sparse.linalg import splu

    poses = geometry.orthonormal(graph.poses)
    r = residuals(graph, poses)
    cost, damping, flops = _cost(graph, r), 1e-8, 0.0
    system = None
    for _ in range(iterations):
        system = system or _normal_equations(graph, poses, r)
        H, g = system
        damped = H + diags_array(damping * H.diagonal() + 1e-12, format="csc")
        factors = splu(damped, "MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True})
        step = factors.solve(-g)
        flops += _flops(factors.nnz, len(g))
        new = poses.copy()
        new[1:] = geometry.exp(step.reshape(-1, 6)) @ poses[1:]
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


def _cost(graph: Graph, r: np.ndarray) -> float:
    return float(np.einsum("mi,mij,mj->", r, graph.information, r))


def _flops(nonzeros: int, size: int) -> float:
    """Flops of a factorisation into two triangles with so many elements, as if all columns were equally long."""
    return 2.0 * size * (0.5 * nonzeros / max(size, 1)) ** 2


def _normal_equations(graph: Graph, poses: np.ndarray, r: np.ndarray) -> tuple[csc_array, np.ndarray]:
    """Matrix and gradient of the poses but the first: (6 (K - 1), 6 (K - 1)) and (6 (K - 1),)."""
    from scipy.sparse import coo_array

    count, m = len(poses), len(graph.a)
    Jb = _inverse_left_jacobian(r)
    Ja = -Jb @ geometry.adjoint(poses[graph.b] @ geometry.inverse(poses[graph.a]))
    blocks, g = np.zeros((count + 2 * m, 6, 6)), np.zeros((count, 6))
    for end, J in ((graph.a, Ja), (graph.b, Jb)):
        weighted = np.swapaxes(J, 1, 2) @ graph.information
        np.add.at(g, end, (weighted @ r[:, :, None])[:, :, 0])
        np.add.at(blocks, end, weighted @ J)
    np.matmul(weighted, Ja, out=blocks[count : count + m])
    blocks[count + m :] = np.swapaxes(blocks[count : count + m], 1, 2)
    # one 6 x 6 block a pose and two an edge; those of the first pose are left out
    each = np.arange(count)
    row, column = np.r_[each, graph.b, graph.a] - 1, np.r_[each, graph.a, graph.b] - 1
    free = (row >= 0) & (column >= 0)
    inner, size = np.arange(6, dtype=np.int32), 6 * (count - 1)
    rows = (6 * row[free, None].astype(np.int32) + inner).repeat(6, axis=1).ravel()
    columns = np.tile(6 * column[free, None].astype(np.int32) + inner, (1, 6)).ravel()
    return coo_array((blocks[free].ravel(), (rows, columns)), shape=(size, size)).tocsc(), g[1:].ravel()


def _inverse_left_jacobian(xi: np.ndarray) -> np.ndarray:
    """(m, 6, 6) of (m, 6) tangents, by Bernoulli's series: exact to 1e-6 below one radian."""
    ad = np.zeros((len(xi), 6, 6))
    ad[:, :3, :3] = ad[:, 3:, 3:] = geometry.hat(xi[:, 3:])
    ad[:, :3, 3:] = geometry.hat(xi[:, :3])
    square = ad @ ad
    fourth = square @ square
    return np.eye(6) - 0.5 * ad + square / 12.0 - fourth / 720.0 + fourth @ square / 30240.0
