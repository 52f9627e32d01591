# SPDX-License-Identifier: Apache-2.0
"""Loop closure: a new keyframe that sees an old part of the map, or another map, connects the two.

Read `Loops.close` and `Loops.step` first. A wrong loop is far worse than a missed one, so a place must look
similar, pass a geometric check, lie within the expected drift, have no rival, and be found twice.
"""

from __future__ import annotations

import numpy as np

from drp_slam import geometry
from drp_slam.config import SlamConfig
from drp_slam.slam.edges import Edges
from drp_slam.slam.join import Join, Loop
from drp_slam.slam.localise import Found, fit_view, occupied_cells, pose_without_prediction
from drp_slam.slam.mapping import Mapping
from drp_slam.slam.view import View

ASKED = 64
"""Descriptors of a keyframe that vote for places."""
LEAST_VOTES, VOTES_SHARE = 8, 0.5
"""A place needs this many votes, and this ratio of the votes of the best keyframe already linked."""
RIVALS = 3
"""Try this many places: two that pass and contradict each other are both rejected."""
MATCHED = 512
"""Features of the keyframe, best first, that are compared with a place's points."""
GROUP = 5
"""Number of keyframes whose points form a place."""
GUIDED_PX = 12.0
"""Gate of the matching that follows the first pose."""
INLIERS_SHARE, CELLS = 0.6, 6
"""Least inlier ratio of the guided matches, and least number of the image's 4 x 4 cells with inliers."""
ANOTHER_MAP_SHARE = 0.25
"""Two maps are joined only by views of which this ratio of all features are inliers."""
DRIFT_M, DRIFT_PER_M = 0.2, 0.1
"""Allow drift of at least this, plus this ratio of the path since."""
DRIFT_RAD, DRIFT_RAD_PER_M = 0.15, 0.05
"""The same in rotation."""
AGREE_M, AGREE_RAD = 0.1, 0.05
"""Corrections that differ by less are equal."""
REMEMBERED = 3
"""A loop found at one keyframe must be confirmed within this many."""


class Loops:
    """Finds and closes loops in the map of `mapping`."""

    def __init__(self, mapping: Mapping) -> None:
        self._mapping = mapping
        self._edges = Edges(mapping.map)
        self._join: Join | None = None
        self._pending: list[Loop] = []
        self._due: int | None = None
        self._owed = False
        self.closed: list[tuple[int, int]] = []

    @property
    def _config(self) -> SlamConfig:
        return self._mapping.config

    def close(self, number: int) -> np.ndarray | None:
        """Keyframe `number`, the newest, may end a loop: it is searched for in the frame after, as `step` does.

        A keyframe has work enough of its own. Only where the frame before was one too, the share of that one is
        done first. Returns (4, 4) `T_after_before` of the keyframe's surroundings if the map has moved: poses
        `T_world_camera` from before are multiplied by it from the left. None if it has not.
        """
        correction = self._work(number) if self._owed else None
        self._due, self._owed = number, True
        return correction

    def step(self, reference: int, T_camera_world: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Does one frame's share of the work: the search for a loop that ends at the last keyframe, or a part of the
        work for a loop that is being closed.

        Returns the frame's pose afterwards, and `T_after_before` as `close` does. `reference` is its keyframe, which
        stays in the map.
        """
        self._owed = False
        if self._join is None and self._due is None:
            return T_camera_world, None
        poses = self._mapping.map.T_camera_world
        relative = T_camera_world @ geometry.inverse(poses[reference])
        correction = self._work(reference)
        return relative @ poses[reference], correction

    def _work(self, reference: int) -> np.ndarray | None:
        number, self._due = self._due, None
        self._edges.update(self._mapping.geometry.noise)
        join = self._join
        if number is not None:
            ends = () if join is None else (join.loop.old, join.loop.new)
            self._mapping.drop_redundant(number, {reference, *ends})
        if join is not None:
            return self._continue(join)
        if number is not None:
            self._begin(number)
        return None

    def _begin(self, number: int) -> None:
        """Searches for a loop that ends at a keyframe, and begins to close the one that is confirmed."""
        loop = self._search(number)
        self._pending = [p for p in self._pending if number - p.new < REMEMBERED]
        if loop is not None:
            known = any(_agree(p.T_correction, loop.T_correction, loop.T_new_world) for p in self._pending)
            self._pending.append(loop)
            if known:
                self._join = Join(self._mapping, self._edges, loop)

    def _continue(self, join: Join) -> np.ndarray | None:
        correction = join.step()
        if correction is not None:
            self.closed.append((join.loop.old, join.loop.new))
            self._pending = []
        if join.done:
            self._join = None
        return correction

    def _search(self, number: int) -> Loop | None:
        """The place that passes all checks; None when there is none or two contradict each other."""
        fitting: list[Loop] = []
        for place in self._places(number):
            loop = self._verify(number, place)
            if loop is None:
                continue
            if any(not _agree(f.T_correction, loop.T_correction, loop.T_new_world, 2.0) for f in fitting):
                return None
            fitting.append(loop)
        return fitting[0] if fitting else None

    def _places(self, number: int) -> list[int]:
        """Keyframes similar to this one that are not within two links of it."""
        slam_map = self._mapping.map
        own = slam_map.covisibility.reach(number, 2)
        if len(own) == len(slam_map):
            return []
        votes, counters = self._mapping.places.votes(slam_map.views[number], self._config.min_cosine, ASKED)
        self._mapping.work.add_all(counters)
        bar = max(LEAST_VOTES, VOTES_SHARE * votes[sorted(own - {number})].max(initial=0))
        places: list[int] = []
        for k in np.argsort(-votes, kind="stable").tolist():
            if votes[k] < bar or len(places) == RIVALS:
                break
            if k not in own:
                places.append(k)
                own |= slam_map.covisibility.reach(k, 1)
        return places

    def _verify(self, number: int, place: int) -> Loop | None:
        """Pose of the keyframe from the points of a place; None unless it passes every check."""
        slam_map = self._mapping.map
        view, group = slam_map.views[number], np.array([place, *slam_map.covisibility.best(place, GROUP - 1)])
        points = slam_map.seen_by(group)
        pose = pose_without_prediction(self._mapping, view, slice(MATCHED), points)
        if pose is None:
            return None
        least = 2 * self._config.min_inliers
        found = fit_view(self._mapping, view, pose, group, GUIDED_PX, least, place)
        if found is None or not self._plentiful(view, found):
            return None
        T = found.fit.T_camera_world
        if slam_map.part[place] != slam_map.part[number]:
            # maps without a common frame: the view is the only evidence
            if len(found.features) < ANOTHER_MAP_SHARE * len(view):
                return None
        elif not self._plausible(place, number, T):
            return None
        correction = geometry.inverse(T) @ slam_map.T_camera_world[number]
        return Loop(place, number, T, correction, slam_map.points.xyz[found.points])

    def _plentiful(self, view: View, found: Found) -> bool:
        """Whether enough matches, spread over the image, agree with the pose."""
        least = max(2 * self._config.min_inliers, INLIERS_SHARE * found.matches)
        return len(found.features) >= least and occupied_cells(self._mapping, view, found) >= CELLS

    def _plausible(self, old: int, new: int, T_new_world: np.ndarray) -> bool:
        """Whether drift along the path between the keyframes explains the correction."""
        poses, live = self._mapping.map.T_camera_world, self._mapping.map.live
        between = live[(live >= min(old, new)) & (live <= max(old, new))]
        positions_m = geometry.inverse(poses[between])[:, :3, 3]
        path_m = np.linalg.norm(np.diff(positions_m, axis=0), axis=1).sum()
        off = geometry.log(T_new_world @ geometry.inverse(poses[new]))
        return bool(
            np.linalg.norm(off[:3]) < DRIFT_M + DRIFT_PER_M * path_m
            and np.linalg.norm(off[3:]) < DRIFT_RAD + DRIFT_RAD_PER_M * path_m
        )


def _agree(A: np.ndarray, B: np.ndarray, T_camera_world: np.ndarray, slack: float = 1.0) -> bool:
    """Whether two corrections of the world put a camera at the same place."""
    T = geometry.inverse(T_camera_world)
    apart = geometry.log(geometry.inverse(A @ T) @ (B @ T))
    return bool(np.linalg.norm(apart[:3]) < slack * AGREE_M and np.linalg.norm(apart[3:]) < slack * AGREE_RAD)
