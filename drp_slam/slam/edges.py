# SPDX-License-Identifier: Apache-2.0
"""Edges of the pose graph, computed keyframe by keyframe, so that they are ready when a loop is found."""

from __future__ import annotations

import numpy as np

from drp_slam import geometry
from drp_slam.slam.compiled import native
from drp_slam.slam.map import Map
from drp_slam.slam.optimize import Noise, pose_jacobian
from drp_slam.slam.posegraph import Graph

EDGE_POINTS, EDGES = 30, 12
"""Keyframes that share as many points are joined by an edge; each has at most so many, to those with most of them."""
AT_ONCE = 8
"""Keyframes of a loaded map that are added at each new one."""


class Edges:
    """Pairs of keyframes `a` < `b` with the information matrix (6, 6) from the points that they share."""

    def __init__(self, slam_map: Map) -> None:
        # imported here: it takes a quarter of a second, which no frame should wait for
        import scipy.sparse.csgraph
        import scipy.sparse.linalg  # noqa: F401

        self._map = slam_map
        self._number: dict[tuple[int, int], int] = {}
        self._information = np.zeros((64, 6, 6))
        self._count = 0

    def update(self, noise: Noise, limit: int = AT_ONCE) -> None:
        """Adds the edges of up to `limit` new keyframes."""
        for k in range(self._count, min(len(self._map), self._count + limit)):
            self.connect(k, noise)
            self._count = k + 1

    def connect(self, number: int, noise: Noise) -> None:
        """Adds the edges of a keyframe to earlier ones; known edges are kept."""
        links = {j: shared for j, shared in self._map.covisibility.shared[number].items() if j < number}
        best = sorted(links, key=lambda j: (-links[j], j))[:EDGES]
        earlier = [j for j in best if links[j] >= EDGE_POINTS] or best[:1]
        new = [j for j in earlier if (j, number) not in self._number]
        rows = slice(len(self._number), len(self._number) + len(new))
        while rows.stop > len(self._information):
            self._information = np.concatenate([self._information, np.zeros_like(self._information)])
        T, points = self._map.T_camera_world[number], self._map.points
        with points.marked(self._map.observed(number)[1]) as mine:
            if native is not None:
                seen, marks = [self._map.point[j] for j in new], mine
                native.information(seen, marks, points.xyz, T, noise.row, self._information[rows])
            for row, j in enumerate(new, rows.start):
                if native is None:
                    shared = self._map.observed(j)[1]
                    self._information[row] = information(T, points.xyz[shared[mine[shared]]], noise)
                self._number[j, number] = row

    def graph(self, a: int, b: int, T_b_a: np.ndarray, information: np.ndarray) -> tuple[np.ndarray, Graph]:
        """The keyframes connected with a new edge from `a` to `b`, and their graph with the current poses.

        A keyframe's information is divided among its edges to earlier ones: each of its features counts once,
        as it does in the new edge.
        """
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components

        ends = np.array([*self._number, (a, b)]).T
        alias = np.arange(len(self._map))
        for k in sorted(self._map.anchors):
            alias[k] = self._map.anchors[k][0]
        while (alias[alias] != alias).any():
            alias = alias[alias]
        ends = np.sort(alias[ends], axis=0)
        share = np.bincount(ends[1, :-1], minlength=len(self._map)).astype(float)
        weight = np.concatenate([1.0 / share[ends[1, :-1]], [1.0]])[:, None, None]
        weighted = np.concatenate([self._information[: len(self._number)], information[None]]) * weight
        count = len(self._map)
        adjacent = coo_array((np.ones(len(weighted)), (ends[0], ends[1])), shape=(count, count))
        part = connected_components(adjacent, directed=False)[1]
        keyframes = np.flatnonzero(part == part[a])
        inside = (part[ends[0]] == part[a]) & (ends[0] != ends[1])
        poses = self._map.T_camera_world
        measured = poses[ends[1]] @ geometry.inverse(poses[ends[0]])
        measured[-1] = T_b_a
        first, second = np.searchsorted(keyframes, ends[:, inside])
        return keyframes, Graph(poses[keyframes], first, second, measured[inside], weighted[inside])


def information(T_camera_world: np.ndarray, xyz: np.ndarray, noise: Noise) -> np.ndarray:
    """(6, 6) of a camera's pose that sees (N, 3) points with depth."""
    p = geometry.apply(T_camera_world, xyz).T
    J = pose_jacobian(p, np.ones(p.shape[1]), noise).reshape(6, -1)
    return J @ J.T + np.eye(6)
