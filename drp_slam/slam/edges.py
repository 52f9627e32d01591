# SPDX-License-Identifier: Apache-2.0
"""Edges of the pose graph, computed keyframe by keyframe, so that they are ready when a loop is found."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from drp_slam import geometry
from drp_slam.slam.compiled import native
from drp_slam.slam.map import Map
from drp_slam.slam.optimize import Noise, pose_jacobian
from drp_slam.slam.points import grow
from drp_slam.slam.posegraph import Graph

EDGE_POINTS, EDGES = 30, 12
"""Keyframes that share as many points are joined by an edge; each has at most so many, to those with most of them."""
AT_ONCE = 8
"""Keyframes of a loaded map that are added per frame."""
GROWTH = 1024
"""Full arrays grow by so many edges: the zeros of the new rows are written within one frame."""
UPPER = np.triu_indices(6)
"""The elements of a symmetric matrix that are kept."""
SQUARE = np.zeros((6, 6), dtype=np.intp)
"""Where each element of the matrix is among these."""
SQUARE[UPPER] = SQUARE.T[UPPER] = np.arange(len(UPPER[0]))


@dataclass(frozen=True)
class Snapshot:
    """What a pose graph is made of, at one moment: later changes of the map leave it as it is.

    Edges by their `ends` (m, 2) and `upper` (m, 21), the upper triangles of their information; `alias` (K,) the
    keyframe that the pose of each one follows, itself unless it was culled; `poses` (K, 4, 4) `T_camera_world`.
    """

    ends: np.ndarray
    upper: np.ndarray
    alias: np.ndarray
    poses: np.ndarray

    def graph(self, a: int, b: int, T_b_a: np.ndarray, information: np.ndarray) -> tuple[np.ndarray, Graph]:
        """The keyframes connected with a new edge from `a` to `b`, and their graph with the current poses.

        A keyframe's information is divided among its edges to earlier ones: each of its features counts once,
        as it does in the new edge. Edges that culled keyframes leave between the same two are added up.
        """
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components

        count = len(self.poses)
        ends = np.sort(self.alias[self.ends].T, axis=0)
        share = np.bincount(ends[1], minlength=count)[ends[1], None]
        adjacent = coo_array((np.ones(len(share)), (ends[0], ends[1])), shape=(count, count))
        part = connected_components(adjacent, directed=False)[1]
        joined = (part == part[a]) | (part == part[b])
        keyframes = np.flatnonzero(joined)
        inside = np.flatnonzero(joined[ends[0]] & (ends[0] != ends[1]))
        pairs, pair = np.unique(count * ends[0, inside] + ends[1, inside], return_inverse=True)
        upper = np.zeros((len(pairs), self.upper.shape[1]))
        np.add.at(upper, pair, self.upper[inside] / share[inside])
        first, second = pairs // count, pairs % count
        measured = np.concatenate([self.poses[second] @ geometry.inverse(self.poses[first]), [T_b_a]])
        weighted = np.concatenate([upper[:, SQUARE], [information]])
        rows = np.searchsorted(keyframes, np.stack([np.append(first, a), np.append(second, b)]))
        return keyframes, Graph(self.poses[keyframes], rows[0], rows[1], measured, weighted)


class Edges:
    """Pairs of keyframes `a` < `b` with the information matrix from the points that they share."""

    def __init__(self, slam_map: Map) -> None:
        # imported here: it takes a quarter of a second, which no frame should wait for
        import scipy.sparse.csgraph
        import scipy.sparse.linalg  # noqa: F401

        self._map = slam_map
        self._rows: dict[str, np.ndarray] = {
            "ends": np.zeros((GROWTH, 2), dtype=np.int32),
            "upper": np.zeros((GROWTH, len(UPPER[0]))),
        }
        self._size = self._count = 0

    @property
    def complete(self) -> bool:
        """All keyframes have their edges."""
        return self._count == len(self._map)

    def update(self, noise: Noise) -> None:
        """Adds the edges of up to `AT_ONCE` new keyframes."""
        for k in range(self._count, min(len(self._map), self._count + AT_ONCE)):
            self.connect(k, noise)
            self._count = k + 1

    def connect(self, number: int, noise: Noise) -> None:
        """Adds the edges of a keyframe to earlier ones; known edges are kept."""
        links = {j: shared for j, shared in self._map.covisibility.shared[number].items() if j < number}
        best = sorted(links, key=lambda j: (-links[j], j))[:EDGES]
        ends = self._rows["ends"][: self._size]
        known = set(ends[ends[:, 1] == number, 0].tolist())
        earlier = [j for j in best if links[j] >= EDGE_POINTS] or best[:1]
        new = [j for j in earlier if j not in known]
        T, points, found = self._map.T_camera_world[number], self._map.points, np.empty((len(new), 6, 6))
        with points.marked(self._map.observed(number)[1]) as mine:
            if native is not None:
                native.information([self._map.point[j] for j in new], mine, points.xyz, T, noise.row, found)
            else:
                for row, j in enumerate(new):
                    shared = self._map.observed(j)[1]
                    found[row] = information(T, points.xyz[shared[mine[shared]]], noise)
        end = self._size + len(new)
        if end > len(self._rows["ends"]):
            grow(self._rows, self._size + GROWTH)
        rows = slice(self._size, end)
        self._rows["ends"][rows, 0], self._rows["ends"][rows, 1] = new, number
        self._rows["upper"][rows], self._size = found[:, UPPER[0], UPPER[1]], end

    def snapshot(self) -> Snapshot:
        """The edges known so far, with the current poses."""
        alias = np.arange(len(self._map))
        alias[list(self._map.anchors)] = [anchor for anchor, _ in self._map.anchors.values()]
        while (alias[alias] != alias).any():
            alias = alias[alias]
        ends, upper = (rows[: self._size] for rows in self._rows.values())
        return Snapshot(ends, upper, alias, self._map.T_camera_world.copy())


def information(T_camera_world: np.ndarray, xyz: np.ndarray, noise: Noise) -> np.ndarray:
    """(6, 6) of a camera's pose that sees (N, 3) points with depth."""
    p = geometry.apply(T_camera_world, xyz).T
    J = pose_jacobian(p, np.ones(p.shape[1]), noise).reshape(6, -1)
    return J @ J.T + np.eye(6)
