# SPDX-License-Identifier: Apache-2.0
"""Where a view stands in the map: read `Localiser.follow` first."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from drp_slam.config import SlamConfig
from drp_slam.slam.camera import Geometry
from drp_slam.slam.mapping import Mapping
from drp_slam.slam.matching import Prior, match
from drp_slam.slam.optimize import CHI2_PIXEL, PoseFit, ransac_pose, refine_pose
from drp_slam.slam.view import View

DOUBT, DROP = 0.72, 0.9
"""A smaller share of inliers than this among the matches, that is also a drop to this part of what
is usual of late, asks for a RANSAC."""
CONSENSUS = 250
"""Matches that a RANSAC gets at most: the refinement after it uses all."""
CANDIDATES = 5
"""Keyframes that relocalisation tries."""


@dataclass(frozen=True)
class Found:
    """A pose with the inlying pairs of features and map points."""

    fit: PoseFit
    features: np.ndarray
    points: np.ndarray
    matches: int
    root: int
    relocalised: bool = False


class Localiser:
    """Finds the poses of views in the map of `mapping`, which it does not change."""

    def __init__(self, mapping: Mapping, config: SlamConfig, geometry: Geometry) -> None:
        self._mapping, self._config, self._geometry = mapping, config, geometry
        self._share = 1.0
        self.flops = 0.0

    def accept(self, found: Found) -> None:
        """The pose is used: its share of inliers counts for what is usual of late."""
        self._share += 0.1 * (found.fit.count / found.matches - self._share)

    def follow(self, view: View, T: np.ndarray, root: int, gate: float = 1.0) -> Found | None:
        """Pose from the local map around a predicted pose, as far as it is linked with `root`."""
        keyframes = self._mapping.near(T, root)
        points, px = self._mapping.visible(T, keyframes)
        seen_px, gate_px = view.xy * self._geometry.focal_px, gate * self._config.gate_px
        pairs = match(
            view.descriptor, self._mapping.map.descriptor[points], self._config.min_cosine, Prior(seen_px, px, gate_px)
        )
        self.flops += pairs.flops
        found = self._solve(view, T, pairs.a, points[pairs.b], root)
        if found is None or gate < 1.0:
            return found
        # Where the prediction was far off, its prior misled the matching: once more, from here.
        offset = np.linalg.norm(seen_px[pairs.a] - px[pairs.b], axis=1)[found.fit.inliers]
        if np.median(offset) > 0.2 * gate_px:
            return self.follow(view, found.fit.T_camera_world, root, 0.5) or found
        return found

    def relocalise(self, view: View) -> Found | None:
        """Pose from the keyframes that look like the view."""
        candidates, flops = self._mapping.places.query(view, self._config.min_cosine, CANDIDATES)
        self.flops += flops
        for candidate in candidates:
            found = self.recognise(view, candidate)
            if found is not None:
                return dataclasses.replace(found, relocalised=True)
        return None

    def recognise(self, view: View, keyframe: int) -> Found | None:
        """Pose from a keyframe's points, wherever the view is, then from the map around it."""
        chart = self._mapping.map
        _, points = chart.keyframes[keyframe].observed()
        pairs = match(view.descriptor, chart.descriptor[points], self._config.min_cosine)
        self.flops += pairs.flops
        points = points[pairs.b]
        threshold = np.sqrt(CHI2_PIXEL) * 2.0 / self._geometry.noise.fx
        pose = ransac_pose(chart.xyz[points], view.xy[pairs.a], threshold)
        if pose is None or pose[1].sum() < self._config.min_inliers // 2:
            return None
        return self.follow(view, pose[0], keyframe)

    def _solve(self, view: View, T: np.ndarray, features: np.ndarray, points: np.ndarray, root: int) -> Found | None:
        if len(features) < self._config.min_inliers:
            return None
        xyz = self._mapping.map.xyz[points]
        xy, depth = view.xy[features], view.inverse_depth[features]
        fit = refine_pose(T, xyz, xy, depth, self._geometry.noise)
        self.flops += fit.flops
        if fit.count < min(DOUBT, DROP * self._share) * len(features):
            # The prediction may have led into a local minimum: see what a consensus says.
            some = slice(None, None, -(-len(features) // CONSENSUS))
            pose = ransac_pose(xyz[some], xy[some], np.sqrt(CHI2_PIXEL) / self._geometry.noise.fx)
            other = None if pose is None else refine_pose(pose[0], xyz, xy, depth, self._geometry.noise)
            if other is not None:
                self.flops += other.flops
                fit = max(fit, other, key=lambda f: f.count)
        if fit.count < self._config.min_inliers:
            return None
        good = fit.inliers & (fit.depth_inliers | (depth <= 0))
        return Found(fit, features[good], points[good], len(features), root)
