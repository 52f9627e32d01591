# SPDX-License-Identifier: Apache-2.0
"""How a map begins with a camera that has no depth: read `MonocularStart.offer` first."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from drp_slam import geometry
from drp_slam.slam.consensus import Consensus
from drp_slam.slam.descriptors import comparing
from drp_slam.slam.mapping import Mapping
from drp_slam.slam.matching import match
from drp_slam.slam.optimize import PoseFit, refine_pose
from drp_slam.slam.trust import FIRST
from drp_slam.slam.two_view import LEAST_MATCHES, Start, start
from drp_slam.slam.view import View


@dataclass(frozen=True)
class Begun:
    """The two keyframes of a new map, and the second one's pose with its matches (`features`, `points`)."""

    keyframes: tuple[int, int]
    fit: PoseFit
    features: np.ndarray
    points: np.ndarray

    @property
    def consensus(self) -> Consensus:
        """The pose as tracking states it."""
        return Consensus(self.fit, 1.0)


class MonocularStart:
    """Keeps a reference view until another one has moved far enough from it."""

    def __init__(self, mapping: Mapping) -> None:
        self._mapping = mapping
        self._reference: View | None = None

    def forget(self) -> None:
        """The next view is the reference."""
        self._reference = None

    def offer(self, view: View) -> tuple[View, Start] | None:
        """The reference and how `view` has moved from it, None while that is not clear.

        A view that has lost sight of what the reference shows is the next reference.
        """
        mapping, reference = self._mapping, self._reference
        if reference is None:
            self._reference = view
            return None
        spec, geometry = mapping.map.spec, mapping.geometry
        matches = match(reference.descriptor, view.descriptor, mapping.config.min_cosine, None, spec)
        mapping.work.add_all(comparing(spec, matches.compared))
        if len(matches) < LEAST_MATCHES:
            self._reference = view
            return None
        found, flops = start(matches, reference.xy, view.xy, geometry.bounds, geometry.noise)
        mapping.work.add(flops)
        return None if found is None else (reference, found)

    def begin(self, view: View, reference: View, found: Start, T_camera_world: np.ndarray) -> Begun:
        """Makes a part of the map of two views; `T_camera_world` is where its first camera stands."""
        self.forget()
        mapping, none = self._mapping, np.zeros(0, dtype=np.intp)
        first = mapping.insert(reference, T_camera_world, none, none)
        xyz = geometry.apply(geometry.inverse(T_camera_world), found.xyz)
        rgb = None if reference.rgb is None else reference.rgb[found.a]
        points = mapping.map.points.add(xyz, reference.descriptor[found.a], rgb, first)
        mapping.map.observe(first, found.a, points)
        mapping.map.points.trust[points] = FIRST
        second = mapping.insert(view, found.T_b_a @ T_camera_world, found.b, points, first)
        features, points = mapping.map.observed(second)
        old = mapping.map.points.reference[points] == first
        features, points = features[old], points[old]
        pose, depth = mapping.map.T_camera_world[second], np.zeros(len(features))
        fit = refine_pose(pose, mapping.map.points.xyz[points], view.xy[features], depth, mapping.geometry.noise)
        return Begun((first, second), fit, features, points)
