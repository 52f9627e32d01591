# SPDX-License-Identifier: Apache-2.0
"""Grows the map: new keyframes, their points, and the adjustment of what they see. Read `Mapping.insert` first."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from drp_slam import geometry
from drp_slam.config import SlamConfig
from drp_slam.slam.adjustment import adjust
from drp_slam.slam.camera import Geometry
from drp_slam.slam.compiled import native
from drp_slam.slam.culling import drop_redundant, slim
from drp_slam.slam.depth_noise import DepthNoise
from drp_slam.slam.descriptors import comparing
from drp_slam.slam.freespace import seen_through
from drp_slam.slam.map import Map
from drp_slam.slam.matching import Matches, Prior, match, match_rows
from drp_slam.slam.optimize import DEPTH_GATE2, PoseFit
from drp_slam.slam.places import Places
from drp_slam.slam.triangulate import free, triangulated
from drp_slam.slam.trust import REFUTED, judge
from drp_slam.slam.view import View, seen
from drp_slam.slam.work import KEYFRAME_CALLS, WorkCounter

FUSE_PX = 4.0
"""A feature this close to the projection of a map point with a similar descriptor is that point."""
FUSE_COSINE = 0.1
"""Fusion knows the pose, so it accepts a cosine this much below `min_cosine`."""
HOPS = 2
"""Links that lead from the keyframe last seen to those a frame is matched with."""
YOUNG_KEYFRAMES, LEAST_FOUND = 5, 3
"""After so many later keyframes, a point is culled that only its own keyframe and fewer frames have seen."""
OLD_KEYFRAMES = 30
"""After so many later keyframes, a keyframe keeps only what place recognition and its points need."""
FIXED_KEYFRAMES = 10
"""Upper limit of fixed keyframes in a local adjustment."""
PRIOR_FLOPS = 8.0
"""Flops of the distance from the prior, per pair."""
EMPTY_KEYFRAMES = 8
"""Keyframes whose free space a new point is tested against."""
TRIANGULATED = 3
"""Nearest keyframes with which features without depth are triangulated."""
TRIANGULATED_MONO = 12
"""The same where no feature has depth, and a longer baseline gives more points."""
AHEAD_M = 1.5
"""Two cameras have a similar view when they, and the points this far ahead of them, are near each other."""


class Mapping:
    """A map with its caches and the operations that extend it; `tracker`, `localise` and `loop` share one."""

    def __init__(self, slam_map: Map, geometry: Geometry, config: SlamConfig) -> None:
        self.map, self.geometry, self.config = slam_map, geometry, config
        self.places, self.work, self.most_matches = Places(slam_map), WorkCounter(), 0
        self._depth_noise = DepthNoise(geometry.noise, pair=bool(geometry.camera.baseline_m))
        self._local: tuple[tuple[int, ...], np.ndarray] = ((), np.zeros(0, dtype=np.intp))
        self._reach: tuple[int, np.ndarray] = (-1, np.zeros(0, dtype=np.intp))
        self._standing: np.ndarray | None = None
        self._refuted: set[int] = set()

    def near(self, T_camera_world: np.ndarray, root: int) -> np.ndarray:
        """Numbers of the local keyframes, those with the most similar position and viewing direction first.

        Only keyframes linked with `root`: others nearby, reached by another path, belong to a part of
        the map that has drifted apart, until a loop is closed.
        """
        if self._reach[0] != root:
            self._reach = (root, np.array(sorted(self.map.covisibility.reach(root, HOPS))))
            self._standing = None
        linked = self._reach[1]
        if native is not None:
            nearest = np.empty(len(linked), dtype=np.intp)
            native.nearest(self.map.T_camera_world, linked, T_camera_world, AHEAD_M, nearest)
            return nearest[: self.config.local_keyframes]
        if self._standing is None:
            self._standing = _position_and_view_point(self.map.T_camera_world[linked])
        apart = self._standing - _from_where_to_where(T_camera_world)
        distance = np.sqrt(np.einsum("kij,kij->ki", apart, apart)).sum(axis=1)
        return linked[np.argsort(distance, kind="stable")[: self.config.local_keyframes]]

    def visible(self, T_camera_world: np.ndarray, keyframes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Points of the keyframes that the pose sees: numbers and (M, 2) undistorted pixels."""
        key = tuple(sorted(keyframes.tolist()))
        if self._local[0] != key:
            self._local = (key, self.map.seen_by(key))
        points = self._local[1]
        points, px = seen(points, self.map.points.alive, self.map.points.xyz, T_camera_world, self.geometry)
        limit = self.config.local_points
        if len(points) > limit:
            # most observed first, then newest: old points observed once are rarely matched again
            rank = np.lexsort((-self.map.points.reference[points], -self.map.points.observations[points]))
            best = np.sort(rank[:limit])
            points, px = points[best], px[best]
        return points, px

    def match(
        self, view: View, features: slice | np.ndarray, points: np.ndarray, slack: float, prior: Prior | None
    ) -> Matches:
        """Some of a view's features against some of the map's points, at `slack` below `min_cosine`."""
        descriptor = view.descriptor[features]
        if descriptor.dtype != self.map.spec.dtype:
            descriptor = descriptor.astype(self.map.spec.dtype)
        return self._compare(descriptor, points, slack, prior)

    def _compare(self, descriptor: np.ndarray, points: np.ndarray, slack: float, prior: Prior | None) -> Matches:
        least, spec = self.config.min_cosine - slack, self.map.spec
        if prior is None:
            pairs = match(
                descriptor, self.map.points.descriptor[points].astype(spec.dtype, copy=False), least, None, spec
            )
        else:
            pairs = match_rows(descriptor, self.map.points.descriptor, points, least, prior, spec)
        self.work.add_all(comparing(self.map.spec, pairs.compared))
        if prior is not None:
            self.work.add(PRIOR_FLOPS * pairs.compared)
        return pairs

    def judge(self, view: View, fit: PoseFit, matched: np.ndarray, visible: np.ndarray) -> None:
        """Updates the trust of the points that a frame was `matched` with, and of the `visible` ones that it looks
        through."""
        through = None
        if view.nearest_m is not None:
            through = seen_through(view.nearest_m, fit.T_camera_world, self.map.points.xyz, self.geometry, visible)
        refuted = judge(self.map.points.trust, matched, fit.error2_px, fit.error2_depth, visible, through)
        # each point once: in a known room no keyframe, which removes them, comes for hours
        self._refuted.update(refuted)

    def learn_noise(self, fit: PoseFit, matched: np.ndarray) -> None:
        """Learns how well depth is measured from a frame that was `matched` with these points; for keyframes only."""
        known = fit.inliers & (fit.error2_depth > 0) & self.map.points.measured[matched]
        error2 = fit.error2_depth[known] / self.geometry.noise.fd**2
        self._depth_noise.learn(error2, self.map.points.observations[matched[known]])
        self.geometry = replace(self.geometry, noise=self._depth_noise.noise)

    def _remove_refuted(self) -> None:
        """Removes the points that the frames since the last keyframe have refuted."""
        points, self._refuted = np.array(sorted(self._refuted), dtype=np.intp), set()
        points = points[self.map.points.alive[points] & (self.map.points.trust[points] < REFUTED)]
        if len(points):
            self.map.remove(points)

    def insert(
        self, view: View, T_camera_world: np.ndarray, features: np.ndarray, points: np.ndarray, root: int = -1
    ) -> int:
        """Adds a keyframe whose `features` see the map's `points`, adjusts around it, returns its number.

        `root` is the keyframe that it was tracked from, -1 for the first of a part.
        """
        self.work.call(KEYFRAME_CALLS)
        near = self.near(T_camera_world, root) if root >= 0 else np.zeros(0, dtype=np.intp)
        part = self.map.part[root] if root >= 0 else max(self.map.part, default=-1) + 1
        number = self.map.add_keyframe(view, T_camera_world, part)
        self.map.observe(number, features, points)
        if root >= 0:
            # known points that tracking missed
            self.fuse(number, near, (self.map.point[number] < 0).nonzero()[0], FUSE_PX)
        T_world_camera = geometry.inverse(T_camera_world)
        self._create(number, near, T_world_camera)
        for other in near[: TRIANGULATED_MONO if self.geometry.mono else TRIANGULATED].tolist():
            self._triangulate(number, other, T_world_camera)
        self.places.update()
        if root >= 0:
            self.map.link(number, root)
        self.changed()
        if self.config.adjust_iterations and root >= 0:
            window = [number, *self.map.covisibility.best(number, self.config.adjusted_keyframes - 1)]
            self.adjust(window, FIXED_KEYFRAMES, self.config.adjust_iterations)
        self._remove_refuted()
        if number >= YOUNG_KEYFRAMES:
            self.map.cull(number - YOUNG_KEYFRAMES, LEAST_FOUND)
        if number >= OLD_KEYFRAMES:
            slim(self.map, number - OLD_KEYFRAMES)
        return number

    def fuse(self, number: int, keyframes: np.ndarray, features: np.ndarray, gate_px: float) -> None:
        """Finds points of other keyframes among the `features` of keyframe `number`, by projection with its pose.

        Where a feature had a point already, both are merged into the point of `keyframes`.
        """
        view, T_camera_world = self.map.views[number], self.map.T_camera_world[number]
        points, px = self.visible(T_camera_world, keyframes)
        with self.map.points.marked(self.map.observed(number)[1]) as mine:
            free = ~mine[points]
        points, px = points[free], px[free]
        features, descriptor = self.map.feature_descriptors(number, features)
        prior = Prior(view.xy[features] * self.geometry.focal_px, px, gate_px)
        pairs = self._compare(descriptor, points, FUSE_COSINE, prior)
        features, points = features[pairs.a], points[pairs.b]
        depth = view.inverse_depth[features]
        z = geometry.apply(T_camera_world, self.map.points.xyz[points])[:, 2]
        agrees = (depth <= 0) | ((self.geometry.noise.fd * (1.0 / z - depth)) ** 2 < DEPTH_GATE2)
        features, points = features[agrees], points[agrees]
        before = self.map.point[number][features]
        self.map.observe(number, features[before < 0], points[before < 0])
        if (before >= 0).any():
            self.map.merge(before[before >= 0], points[before >= 0])

    def adjust(self, window: list[int], fixed_limit: int, iterations: int) -> None:
        """Bundle adjustment of the keyframes `window` except the first of each part, which fixes its world frame."""
        moving = [k for k in window if k not in self.map.origins]
        flops = adjust(self.map, self.geometry.noise, moving, fixed_limit, iterations)
        self.work.add(flops)
        self._standing = None

    def drop_redundant(self, number: int, kept: Iterable[int] = ()) -> None:
        """Culls redundant keyframes around `number`, but none of `kept`."""
        dropped = drop_redundant(self.map, number, kept)
        for k in dropped:
            self.places.forget(k)
        if dropped:
            self.changed()

    def changed(self) -> None:
        """Drop caches after keyframes have moved or see other points."""
        self._local = ((), self._local[1])
        self._reach = (-1, self._reach[1])
        self._standing = None

    def _create(self, number: int, near: np.ndarray, T_world_camera: np.ndarray) -> None:
        """Points of the features that have depth and no point yet, except in space that `near` keyframes saw empty."""
        view = self.map.views[number]
        new = ((self.map.point[number] < 0) & (view.inverse_depth > 0)).nonzero()[0]
        xyz = geometry.apply(T_world_camera, view.xyz()[new])
        moved_in, all_new = np.zeros(len(new), dtype=bool), np.arange(len(new))
        for k in near[:EMPTY_KEYFRAMES].tolist():
            if self.map.views[k].nearest_m is not None:
                moved_in |= seen_through(
                    self.map.views[k].nearest_m, self.map.T_camera_world[k], xyz, self.geometry, all_new
                )
        new, xyz = new[~moved_in], xyz[~moved_in]
        rgb = None if view.rgb is None else view.rgb[new]
        points = self.map.points.add(xyz, view.descriptor[new], rgb, number)
        self.map.observe(number, new, points)

    def _triangulate(self, number: int, other: int, T_world_camera: np.ndarray) -> None:
        """Points of features without depth that another keyframe sees too."""
        views, point = (self.map.views[number], self.map.views[other]), (self.map.point[number], self.map.point[other])
        mine, theirs = (free(v, p) for v, p in zip(views, point))
        if not len(mine) or not len(theirs):
            return
        spec = self.map.spec
        a, b = (v.descriptor[free].astype(spec.dtype, copy=False) for v, free in zip(views, (mine, theirs)))
        matches = match(a, b, self.config.min_cosine, None, spec)
        self.work.add_all(comparing(self.map.spec, matches.compared))
        if not len(matches):
            return
        T = self.map.T_camera_world[other] @ T_world_camera
        found = triangulated(matches, views[0].xy[mine], views[1].xy[theirs], T, self.geometry.noise)
        mine, theirs = mine[found.a], theirs[found.b]
        xyz = geometry.apply(T_world_camera, found.xyz)
        rgb = None if views[0].rgb is None else views[0].rgb[mine]
        points = self.map.points.add(xyz, views[0].descriptor[mine], rgb, number)
        self.map.observe(number, mine, points)
        self.map.observe(other, theirs, points)


def _from_where_to_where(T_camera_world: np.ndarray) -> np.ndarray:
    """`_position_and_view_point` of one pose, (2, 3)."""
    (a, b, c, x), (d, e, f, y), (g, h, i, z), _ = T_camera_world.tolist()
    u, v, w = -(a * x + d * y + g * z), -(b * x + e * y + h * z), -(c * x + f * y + i * z)
    return np.array([[u, v, w], [u + AHEAD_M * g, v + AHEAD_M * h, w + AHEAD_M * i]])


def _position_and_view_point(T_camera_world: np.ndarray) -> np.ndarray:
    """(K, 2, 3): the cameras' positions, and the points `AHEAD_M` ahead of them."""
    T = geometry.inverse(T_camera_world)
    position = T[:, :3, 3]
    return np.stack([position, position + AHEAD_M * T[:, :3, 2]], axis=1)
