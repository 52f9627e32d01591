# SPDX-License-Identifier: Apache-2.0
"""Loop closure: a new keyframe that sees an old part of the map joins the two.

Read `Loops.close` first. A wrong loop is far worse than a missed one, so that a place must look
alike, fit in geometry, lie where drift can have led, have no rival, and be found twice.
"""

from __future__ import annotations

import numpy as np

from drp_slam import geometry
from drp_slam.config import SlamConfig
from drp_slam.slam.camera import Geometry
from drp_slam.slam.join import Loop, join
from drp_slam.slam.mapping import Mapping
from drp_slam.slam.matching import Prior, match
from drp_slam.slam.optimize import CHI2_PIXEL, ransac_pose, refine_pose

ASKED = 64
"""Descriptors of a keyframe that vote for places."""
LEAST_VOTES, VOTES_SHARE = 8, 0.5
"""A place has as many votes, and this share of those of the best keyframe linked already."""
RIVALS = 3
"""Places that are tried: two that fit and contradict each other are both refused."""
MATCHED = 512
"""Features of the keyframe, best first, that are compared with a place's points."""
GROUP = 5
"""Keyframes whose points make a place."""
GUIDED_PX = 12.0
"""Gate of the matching that follows the first pose."""
INLIERS_SHARE, CELLS = 0.6, 6
"""Of the guided matches; and of the image's 4 x 4 cells, those with inliers."""
DRIFT_M, DRIFT_PER_M = 0.2, 0.1
"""What drift may amount to: at least this, and this part of the way since."""
DRIFT_RAD, DRIFT_RAD_PER_M = 0.15, 0.05
"""The same in rotation."""
AGREE_M, AGREE_RAD = 0.1, 0.05
"""Corrections that differ by less are the same."""
REMEMBERED = 3
"""A loop found at one keyframe must be found again within so many."""


class Loops:
    """Finds and closes loops in the map of `mapping`."""

    def __init__(self, mapping: Mapping, config: SlamConfig, geometry: Geometry) -> None:
        self._mapping, self._config, self._geometry = mapping, config, geometry
        self._pending: list[Loop] = []
        self.closed: list[tuple[int, int]] = []
        self.flops = 0.0

    def close(self, number: int) -> np.ndarray | None:
        """Closes the loop that keyframe `number`, the newest, finishes, if it does.

        Returns (4, 4) `T_after_before` of the keyframe's surroundings: poses `T_world_camera` from
        before the closure are right after it when multiplied from the left. None: no loop.
        """
        self.flops = 0.0
        loop = self._search(number)
        self._pending = [p for p in self._pending if number - p.new < REMEMBERED]
        if loop is None:
            return None
        known = any(_agree(p.T_correction, loop.T_correction, loop.T_new_world) for p in self._pending)
        self._pending.append(loop)
        if not known:
            return None
        before = self._mapping.map.keyframes[number].T_camera_world
        joined, flops = join(self._mapping, self._geometry, self._config, loop)
        self.flops += flops
        if not joined:
            return None
        self.closed.append((loop.old, number))
        self._pending = []
        return geometry.inverse(self._mapping.map.keyframes[number].T_camera_world) @ before

    def _search(self, number: int) -> Loop | None:
        """The one place that fits, or None where there is none or where two contradict."""
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
        """Keyframes that look like this one though no chain of two links leads to them."""
        chart = self._mapping.map
        own = chart.reach(number, 2)
        if own.all():
            return []
        view = chart.keyframes[number].view
        votes, flops = self._mapping.places.votes(view, self._config.min_cosine, ASKED)
        self.flops += flops
        linked = own.copy()
        linked[number] = False
        bar = max(LEAST_VOTES, VOTES_SHARE * votes[linked].max(initial=0))
        places: list[int] = []
        for k in np.argsort(-votes, kind="stable").tolist():
            if votes[k] < bar or len(places) == RIVALS:
                break
            if not own[k]:
                places.append(k)
                own |= chart.reach(k, 1)
        return places

    def _verify(self, number: int, place: int) -> Loop | None:
        """Pose of the keyframe from the points of a place; None unless much speaks for it."""
        chart, config = self._mapping.map, self._config
        view, seen = chart.keyframes[number].view, np.zeros(chart.size, dtype=bool)
        group = np.array([place, *chart.covisible(place, GROUP - 1)])
        for k in group:
            seen[chart.keyframes[k].observed()[1]] = True
        points = np.flatnonzero(seen & chart.alive)
        pairs = match(view.descriptor[:MATCHED], chart.descriptor[points], config.min_cosine)
        self.flops += pairs.flops
        found = ransac_pose(
            chart.xyz[points[pairs.b]], view.xy[pairs.a], np.sqrt(CHI2_PIXEL) * 2.0 / self._geometry.noise.fx
        )
        if found is None or found[1].sum() < config.min_inliers // 2:
            return None
        guided = self._guided(number, found[0], group)
        if guided is None or not self._plausible(place, number, guided[0]):
            return None
        T, inliers = guided
        correction = geometry.inverse(T) @ chart.keyframes[number].T_camera_world
        return Loop(place, number, T, correction, chart.xyz[inliers])

    def _guided(self, number: int, T: np.ndarray, group: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
        """Matches around a pose, refined: the pose and the inlying points, or None."""
        chart, view = self._mapping.map, self._mapping.map.keyframes[number].view
        points, px = self._mapping.visible(T, group)
        pairs = match(
            view.descriptor,
            chart.descriptor[points],
            self._config.min_cosine,
            Prior(view.xy * self._geometry.focal_px, px, GUIDED_PX),
        )
        self.flops += pairs.flops
        features, points = pairs.a, points[pairs.b]
        bar = 2 * self._config.min_inliers
        if len(features) < bar:
            return None
        depth = view.inverse_depth[features]
        fit = refine_pose(T, chart.xyz[points], view.xy[features], depth, self._geometry.noise)
        self.flops += fit.flops
        good = fit.inliers & (fit.depth_inliers | (depth <= 0))
        cell = np.minimum(view.uv[features[good]] * 4.0 / self._geometry.size_px, 3.0).astype(np.intp)
        cells = np.bincount(4 * cell[:, 1] + cell[:, 0], minlength=16)
        if good.sum() < max(bar, INLIERS_SHARE * len(features)) or (cells >= 2).sum() < CELLS:
            return None
        return fit.T_camera_world, points[good]

    def _plausible(self, old: int, new: int, T_new_world: np.ndarray) -> bool:
        """Whether drift on the way between the keyframes can have led so far off."""
        keyframes = self._mapping.map.keyframes
        first, last = min(old, new), max(old, new)
        stands = geometry.inverse(np.stack([k.T_camera_world for k in keyframes[first : last + 1]]))
        way_m = np.linalg.norm(np.diff(stands[:, :3, 3], axis=0), axis=1).sum()
        off = geometry.log(T_new_world @ geometry.inverse(keyframes[new].T_camera_world))
        return bool(
            np.linalg.norm(off[:3]) < DRIFT_M + DRIFT_PER_M * way_m
            and np.linalg.norm(off[3:]) < DRIFT_RAD + DRIFT_RAD_PER_M * way_m
        )


def _agree(A: np.ndarray, B: np.ndarray, T_camera_world: np.ndarray, slack: float = 1.0) -> bool:
    """Whether two corrections of the world put a camera at the same place."""
    T = geometry.inverse(T_camera_world)
    apart = geometry.log(geometry.inverse(A @ T) @ (B @ T))
    return bool(np.linalg.norm(apart[:3]) < slack * AGREE_M and np.linalg.norm(apart[3:]) < slack * AGREE_RAD)
