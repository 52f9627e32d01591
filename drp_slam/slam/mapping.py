# SPDX-License-Identifier: Apache-2.0
"""Grows the map: new keyframes, their points, and the adjustment of what they see."""

from __future__ import annotations

import numpy as np

from drp_slam import geometry
from drp_slam.config import SlamConfig
from drp_slam.slam import bundle
from drp_slam.slam.camera import Geometry
from drp_slam.slam.map import Keyframe, Map
from drp_slam.slam.matching import Prior, match
from drp_slam.slam.optimize import CHI2_PIXEL, DEPTH_GATE2
from drp_slam.slam.places import Places
from drp_slam.slam.view import View

FUSE_PX = 4.0
"""A feature this near to the projection of a map point, and like it, is that point."""
HOPS = 2
"""Links that lead from the keyframe last seen to those a frame is matched with."""
YOUNG_KEYFRAMES, LEAST_FOUND = 5, 3
"""A point that one keyframe made, and only it and fewer frames have seen when so many keyframes
came after it, dies."""
FIXED_KEYFRAMES = 10
"""Keyframes that hold a local adjustment in place."""


class Mapping:
    """Owns the map; `tracker` reads it."""

    def __init__(self, config: SlamConfig, geometry: Geometry) -> None:
        self.map, self.places = Map(), Places()
        self._config, self._geometry = config, geometry
        self._local: tuple[tuple[int, ...], np.ndarray] = ((), np.zeros(0, dtype=np.intp))
        self._reach: tuple[int, np.ndarray] = (-1, np.zeros(0, dtype=np.intp))
        self._gaze: np.ndarray | None = None
        self.flops = 0.0

    def near(self, T_camera_world: np.ndarray, root: int) -> np.ndarray:
        """Numbers of the local keyframes: those that stand and look like this pose, best first.

        Only such as are linked with the keyframe `root`: what stands near, but was reached on
        another way, lies in a part of the map that has drifted apart until a loop is closed.
        """
        if self._reach[0] != root:
            self._reach = (root, np.flatnonzero(self.map.reach(root, HOPS)))
        linked = self._reach[1]
        if self._gaze is None:
            self._gaze = _stand_and_gaze(np.stack([k.T_camera_world for k in self.map.keyframes]))
        apart = self._gaze[linked] - _stand_and_gaze(T_camera_world[None])
        distance = np.sqrt((apart * apart).sum(axis=2)).sum(axis=1)
        return linked[np.argsort(distance, kind="stable")[: self._config.local_keyframes]]

    def visible(self, T_camera_world: np.ndarray, keyframes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Points of the keyframes that the pose sees: numbers and (M, 2) undistorted pixels."""
        key = tuple(sorted(int(k) for k in keyframes))
        if self._local[0] != key:
            seen = np.zeros(self.map.size, dtype=bool)
            for k in key:
                seen[self.map.keyframes[k].observed()[1]] = True
            self._local = (key, np.flatnonzero(seen))
        points = self._local[1]
        points = points[self.map.alive[points]]
        p = geometry.apply(T_camera_world, self.map.xyz[points])
        xy = p[:, :2] / np.maximum(p[:, 2:], 1e-3)
        low, high = self._geometry.bounds
        inside = (p[:, 2] > 0.1) & (xy > low).all(axis=1) & (xy < high).all(axis=1)
        points, xy = points[inside], xy[inside]
        limit = self._config.local_points
        if len(points) > limit:
            # most seen first, of equals the newest: old points seen once were not worth it
            rank = np.lexsort((-self.map.reference[points], -self.map.observations[points]))
            best = np.sort(rank[:limit])
            points, xy = points[best], xy[best]
        return points, xy * self._geometry.focal_px

    def insert(
        self, view: View, T_camera_world: np.ndarray, features: np.ndarray, points: np.ndarray, root: int = -1
    ) -> Keyframe:
        """Adds a keyframe whose `features` see the map's `points`, then adjusts around it.

        `root` is the keyframe that it was tracked from, -1 for the first of all.
        """
        keyframe = Keyframe(view, T_camera_world, np.full(len(view), -1, dtype=np.intp))
        self.map.observe(keyframe, features, points)
        near = self.near(T_camera_world, root) if root >= 0 else np.zeros(0, dtype=np.intp)
        if root >= 0:
            self._fuse(keyframe, near)
        self.map.add_keyframe(keyframe)
        self._create(keyframe)
        self.places.add(view)
        if root >= 0:
            others = (self.map.links[near] > 0).any(axis=0)
            others[near] = True
            self.map.link(keyframe, np.flatnonzero(others), root)
        self.changed()
        if self._config.adjust_iterations and root >= 0:
            self._adjust(keyframe)
        if keyframe.number >= YOUNG_KEYFRAMES:
            self.map.cull(self.map.keyframes[keyframe.number - YOUNG_KEYFRAMES], LEAST_FOUND)
        return keyframe

    def changed(self) -> None:
        """Keyframes have moved, or see other points: forgets what was derived from them."""
        self._local = ((), self._local[1])
        self._reach = (-1, self._reach[1])
        self._gaze = None

    def _fuse(self, keyframe: Keyframe, near: np.ndarray) -> None:
        """Finds known points again that tracking missed, from the refined pose."""
        points, px = self.visible(keyframe.T_camera_world, near)
        taken = np.zeros(self.map.size, dtype=bool)
        taken[keyframe.observed()[1]] = True
        free = ~taken[points]
        points, px = points[free], px[free]
        features = np.flatnonzero(keyframe.point < 0)
        prior = Prior(keyframe.view.xy[features] * self._geometry.focal_px, px, FUSE_PX)
        found = match(
            keyframe.view.descriptor[features], self.map.descriptor[points], self._config.min_cosine - 0.1, prior
        )
        self.flops += found.flops
        a, b = features[found.a], points[found.b]
        depth = keyframe.view.inverse_depth[a]
        z = geometry.apply(keyframe.T_camera_world, self.map.xyz[b])[:, 2]
        agrees = (depth <= 0) | ((self._geometry.noise.fd * (1.0 / z - depth)) ** 2 < DEPTH_GATE2)
        self.map.observe(keyframe, a[agrees], b[agrees])

    def _create(self, keyframe: Keyframe) -> None:
        view = keyframe.view
        new = np.flatnonzero((keyframe.point < 0) & (view.inverse_depth > 0))
        xyz = geometry.apply(geometry.inverse(keyframe.T_camera_world), view.xyz()[new])
        rgb = None if view.rgb is None else view.rgb[new]
        points = self.map.add_points(xyz, view.descriptor[new], rgb, keyframe.number)
        self.map.observe(keyframe, new, points)

    def _adjust(self, keyframe: Keyframe) -> None:
        """Local bundle adjustment of the keyframe and of those that share its points."""
        window = [keyframe.number]
        window += self.map.covisible(keyframe.number, self._config.adjusted_keyframes - 1)
        window = [k for k in window if k > 0]
        self.adjust(window, FIXED_KEYFRAMES, self._config.adjust_iterations)

    def adjust(self, window: list[int], fixed_limit: int, iterations: int) -> None:
        """Bundle adjustment of the keyframes `window`; others that share points stand still."""
        keyframes = self.map.keyframes
        inside = np.zeros(self.map.size, dtype=bool)
        for k in window:
            inside[keyframes[k].observed()[1]] = True
        inside &= self.map.observations >= 2
        linked = np.flatnonzero((self.map.links[window] > 0).any(axis=0)).tolist()
        shared = {k: int(inside[keyframes[k].observed()[1]].sum()) for k in linked if k not in window}
        fixed = sorted((k for k in shared if shared[k]), key=lambda k: (-shared[k], k))[:fixed_limit]
        order = window + fixed
        problem, features, points = self._problem(order, inside, len(window))
        if len(problem.point) < 10 or not fixed:
            return
        solution = bundle.adjust(problem, self._geometry.noise, iterations)
        self.flops += solution.flops
        for k, pose in zip(window, solution.poses):
            # points that only this keyframe has seen are not adjusted: they go with it
            lone = keyframes[k].observed()[1]
            lone = lone[self.map.observations[lone] == 1]
            moved = geometry.inverse(pose) @ keyframes[k].T_camera_world
            self.map.xyz[lone] = geometry.apply(moved, self.map.xyz[lone])
            keyframes[k].T_camera_world = pose
        self._gaze = None
        self.map.xyz[points] = solution.points
        bad = (solution.error2_px > 2.0 * CHI2_PIXEL) | (solution.error2_depth > DEPTH_GATE2)
        for row, k in enumerate(order):
            self.map.forget(keyframes[k], features[bad & (problem.camera == row)])

    def _problem(
        self, order: list[int], inside: np.ndarray, free: int
    ) -> tuple[bundle.Problem, np.ndarray, np.ndarray]:
        """The adjustment, the feature of each observation, and the number of each point."""
        camera, feature, number, xy, depth = [], [], [], [], []
        for row, k in enumerate(order):
            keyframe = self.map.keyframes[k]
            features, points = keyframe.observed()
            keep = inside[points]
            features = features[keep]
            camera.append(np.full(len(features), row))
            feature.append(features)
            number.append(points[keep])
            xy.append(keyframe.view.xy[features])
            depth.append(keyframe.view.inverse_depth[features])
        points, point = np.unique(np.concatenate(number), return_inverse=True)
        poses = np.stack([self.map.keyframes[k].T_camera_world for k in order])
        problem = bundle.Problem(
            poses, self.map.xyz[points], np.concatenate(camera), point, np.concatenate(xy), np.concatenate(depth), free
        )
        return problem, np.concatenate(feature), points


def _stand_and_gaze(T_camera_world: np.ndarray) -> np.ndarray:
    """(K, 2, 3): where cameras stand, and the points 1.5 m before them."""
    T = geometry.inverse(T_camera_world)
    stand = T[:, :3, 3]
    return np.stack([stand, stand + 1.5 * T[:, :3, 2]], axis=1)
