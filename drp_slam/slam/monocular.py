# SPDX-License-Identifier: Apache-2.0
"""How a map begins with a camera that has no depth: read `MonocularStart.begin` first."""

from __future__ import annotations

import numpy as np

from drp_slam import geometry
from drp_slam.slam import two_view
from drp_slam.slam.consensus import Consensus
from drp_slam.slam.descriptors import comparing
from drp_slam.slam.localise import Found
from drp_slam.slam.mapping import Mapping
from drp_slam.slam.matching import match
from drp_slam.slam.optimize import refine_pose
from drp_slam.slam.starting import Begun
from drp_slam.slam.trust import FIRST
from drp_slam.slam.two_view import LEAST_MATCHES, Start
from drp_slam.slam.view import View


class MonocularStart:
    """Keeps a reference view until the camera has moved far enough from it."""

    def __init__(self, mapping: Mapping) -> None:
        self._mapping = mapping
        self._reference: View | None = None

    def forget(self) -> None:
        """The next view becomes the reference."""
        self._reference = None

    def begin(self, view: View, T_camera_world: np.ndarray) -> Begun | None:
        """A map of two keyframes, the earlier one at `T_camera_world`; None until the camera has moved far enough."""
        moved = self._moved(view)
        if moved is None:
            return None
        self.forget()
        reference, start = moved
        mapping, none = self._mapping, np.zeros(0, dtype=np.intp)
        first = mapping.insert(reference, T_camera_world, none, none)
        xyz = geometry.apply(geometry.inverse(T_camera_world), start.xyz)
        rgb = None if reference.rgb is None else reference.rgb[start.a]
        points = mapping.map.points.add(xyz, reference.descriptor[start.a], rgb, first)
        mapping.map.observe(first, start.a, points)
        mapping.map.points.trust[points] = FIRST
        second = mapping.insert(view, start.T_b_a @ T_camera_world, start.b, points, first)
        features, points = mapping.map.observed(second)
        old = mapping.map.points.reference[points] == first
        features, points = features[old], points[old]
        pose, depth = mapping.map.T_camera_world[second], np.zeros(len(features))
        fit = refine_pose(pose, mapping.map.points.xyz[points], view.xy[features], depth, mapping.geometry.noise)
        found = Found(Consensus(fit, 1.0), features, points, points, none, 0.0, second)
        return Begun({first: reference.stamp_ns, second: view.stamp_ns}, found)

    def _moved(self, view: View) -> tuple[View, Start] | None:
        """The reference view and how far `view` has moved from it, None while that is ambiguous.

        A view that no longer overlaps with the reference replaces it.
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
        found, flops = two_view.start(matches, reference.xy, view.xy, geometry.bounds, geometry.noise)
        mapping.work.add(flops)
        return None if found is None else (reference, found)
