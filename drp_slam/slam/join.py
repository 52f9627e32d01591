# SPDX-License-Identifier: Apache-2.0
"""Joins the two parts of the map that a loop connects: read `Join.step` first.

The pose graph of a large map takes longer than a frame. It is optimised in a thread beside tracking, on a copy of
what it needs, and applied after a number of frames that depends on the size of the map alone: the same
input gives the same result, however fast the machine is.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace

import numpy as np

from drp_slam import geometry
from drp_slam.slam.edges import Edges, Snapshot, information
from drp_slam.slam.mapping import Mapping
from drp_slam.slam.posegraph import Optimised, optimise

STRAIN_M, STRAIN_RAD = 0.15, 0.15
"""A closure that pulls two linked keyframes further apart is refused."""
JOINED = 8
"""Keyframes of each side whose points are fused."""
FUSE_PX = 6.0
"""Points this close to each other in a keyframe, with similar descriptors, are fused."""
WINDOW, FIXED_KEYFRAMES, SWEEPS = 4, 12, 2
"""The keyframes of both sides are adjusted so many per frame, with so many others fixed, in so many passes."""
FUSED_PER_FRAME = 2
"""The points of so many keyframes are fused with those of the other side per frame."""
KEYFRAMES_PER_FRAME = 64
"""The pose graph of so many keyframes is optimised within one frame."""


@dataclass(frozen=True)
class Loop:
    """Keyframe `new` sees what keyframe `old` saw.

    `T_new_world` is its pose in the old part, `T_correction` takes poses `T_world_camera` of the
    new part there; `xyz` (N, 3) are the points that support it.
    """

    old: int
    new: int
    T_new_world: np.ndarray
    T_correction: np.ndarray
    xyz: np.ndarray


@dataclass(frozen=True)
class Solved:
    """A pose graph of some `keyframes` (K,), its `poses` (K, 4, 4) before, and what optimisation made of it."""

    keyframes: np.ndarray
    poses: np.ndarray
    solution: Optimised


class Join:
    """Applies one loop to the map: optimises the pose graph, fuses the points of both sides, adjusts both sides."""

    def __init__(self, mapping: Mapping, edges: Edges, loop: Loop) -> None:
        self._mapping, self._edges, self.loop = mapping, edges, loop
        slam_map = mapping.map
        self._T_b_a = loop.T_new_world @ geometry.inverse(slam_map.T_camera_world[loop.old])
        self._support = information(loop.T_new_world, loop.xyz, mapping.geometry.noise)
        self._rigid = np.zeros((0, 4, 4))
        self._unfused: list[int] = []
        self._other_side: list[int] = []
        self._windows: list[list[int]] = []
        self._solved: Solved | None = None
        self._thread: threading.Thread | None = None
        self._wait: int | None = None
        if edges.complete:
            self._begin()

    def _begin(self) -> None:
        """Begins to optimise the pose graph of the map as it is now."""
        slam_map, loop = self._mapping.map, self.loop
        self._rigid = self._of_another_map()
        both = np.isin(np.array(slam_map.part)[slam_map.live], (slam_map.part[loop.old], slam_map.part[loop.new]))
        self._wait = int(np.count_nonzero(both)) // KEYFRAMES_PER_FRAME
        snapshot = self._edges.snapshot()
        if self._wait:
            self._thread = threading.Thread(target=self._optimise, args=(snapshot,), name="pose graph", daemon=True)
            self._thread.start()
        else:
            self._optimise(snapshot)

    def _optimise(self, snapshot: Snapshot) -> None:
        keyframes, graph = snapshot.graph(self.loop.old, self.loop.new, self._T_b_a, self._support)
        graph = replace(graph, poses=graph.poses @ self._rigid[keyframes])
        self._solved = Solved(keyframes, graph.poses, optimise(graph))

    def _of_another_map(self) -> np.ndarray:
        """(K, 4, 4) that move the younger of two parts into the world of the other, multiplied from the right; else the
        identity."""
        slam_map, loop = self._mapping.map, self.loop
        old, new = slam_map.part[loop.old], slam_map.part[loop.new]
        rigid = np.broadcast_to(np.eye(4), (len(slam_map), 4, 4)).copy()
        if old != new:
            back = geometry.inverse(loop.T_correction) if new > old else loop.T_correction
            rigid[np.array(slam_map.part) == max(old, new)] = back
        return rigid

    @property
    def done(self) -> bool:
        """The loop is closed."""
        return self._wait is not None and self._wait < 0 and not self._unfused and not self._windows

    def step(self) -> np.ndarray | None:
        """Does one frame's share of the work. (4, 4) `T_after_before` of the newest keyframe if the map has moved."""
        if self._wait is None:  # a loaded map whose edges are not all known yet
            self._edges.update(self._mapping.geometry.noise)
            if self._edges.complete:
                self._begin()
            return None
        if self._wait < 0:
            if self._unfused:
                self._fuse()
            elif self._windows:
                window = [k for k in self._windows.pop(0) if k not in self._mapping.map.anchors]
                if window:  # not all culled since
                    self._mapping.adjust(window, FIXED_KEYFRAMES, self._mapping.config.adjust_iterations)
                    self._mapping.changed()
            return None
        self._wait -= 1
        if self._wait >= 0:
            return None
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        return self._apply()

    def _apply(self) -> np.ndarray | None:
        mapping, slam_map, solved = self._mapping, self._mapping.map, self._solved
        assert solved is not None
        mapping.work.add(solved.solution.flops)
        if strained(solved.solution):
            return None
        newest = len(slam_map) - 1
        before = slam_map.T_camera_world[newest].copy()
        new, old = self._sides()
        slam_map.move(self._moved(solved))
        parts = sorted({slam_map.part[self.loop.old], slam_map.part[self.loop.new]})
        if len(parts) == 2:
            slam_map.join(parts[1], parts[0])
        mapping.changed()
        # points that both sides saw are fused; then the measurements decide, by adjustment
        self._unfused, self._other_side = new, old
        each = [k for pair in zip(new + [-1] * len(old), old + [-1] * len(new)) for k in pair if k >= 0]
        self._windows = SWEEPS * [each[i : i + WINDOW] for i in range(0, len(each), WINDOW)]
        return geometry.inverse(slam_map.T_camera_world[newest]) @ before

    def _fuse(self) -> None:
        """Fuses the points of the next keyframes of the new side with those of the old side, and links them."""
        mapping, slam_map = self._mapping, self._mapping.map
        old = [k for k in self._other_side if k not in slam_map.anchors]
        new, self._unfused = self._unfused[:FUSED_PER_FRAME], self._unfused[FUSED_PER_FRAME:]
        for k in new:
            if old and k not in slam_map.anchors:  # culled since
                mapping.fuse(k, np.array(old), np.arange(len(slam_map.views[k])), FUSE_PX)
                slam_map.link(k)
                self._edges.connect(k, mapping.geometry.noise)
        mapping.changed()

    def _sides(self) -> tuple[list[int], list[int]]:
        """The keyframes around both ends of the loop."""
        slam_map, loop = self._mapping.map, self.loop
        new = [loop.new, *slam_map.covisibility.best(loop.new, JOINED - 1)]
        old = [loop.old, *slam_map.covisibility.best(loop.old, JOINED - 1)]
        return new, [k for k in old if k not in new]

    def _moved(self, solved: Solved) -> np.ndarray:
        """(K, 4, 4) poses of all keyframes: the optimised ones, and those added since, which move with the new side.

        The correction is applied on top of local adjustments since then.
        """
        poses, keyframes = self._mapping.map.T_camera_world, solved.keyframes
        correction = np.broadcast_to(np.eye(4), poses.shape).copy()
        correction[: len(self._rigid)] = self._rigid
        correction[keyframes] = self._rigid[keyframes] @ geometry.inverse(solved.poses) @ solved.solution.poses
        correction[self.loop.new + 1 :] = correction[self.loop.new]
        return geometry.orthonormal(poses @ correction)


def strained(solution: Optimised) -> bool:
    """Whether the solution pulls linked keyframes too far apart."""
    pull = np.abs(solution.residual)
    return bool(
        (np.linalg.norm(pull[:, :3], axis=1) > STRAIN_M).any()
        or (np.linalg.norm(pull[:, 3:], axis=1) > STRAIN_RAD).any()
        or not np.isfinite(solution.poses).all()
    )
