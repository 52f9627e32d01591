# SPDX-License-Identifier: Apache-2.0
"""Finds the pose of a view in the map: read `Localiser.follow` first."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from drp_slam.slam.mapping import Mapping
from drp_slam.slam.matching import Prior
from drp_slam.slam.optimize import CHI2_PIXEL, PoseFit, ransac_pose, refine_pose
from drp_slam.slam.view import View

DOUBT, DROP = 0.72, 0.9
"""Run RANSAC when the inlier ratio falls below DOUBT and below DROP times its recent mean."""
RECENT = 0.1
"""Weight of the newest frame in that mean."""
CONSENSUS = 250
"""Matches that a RANSAC gets at most: the refinement after it uses all."""
CANDIDATES = 5
"""Keyframes that relocalisation tries."""
SURE_SHARE, SURE_CELLS = 0.125, 6
"""A pose without a prediction is believed when this share of the view's features agrees with it, in so
many of the image's 4 x 4 cells: one thing that stands twice in a room explains less of a view."""
FAR_OFF = 0.2
"""Match again from the pose found when the prediction was off by this part of the gate: its prior was wrong."""


@dataclass(frozen=True)
class Found:
    """A pose with the inlying pairs of features and map points.

    `matches` is the number of pairs that it was fitted to, `offset_px` the median distance of the
    inliers from where the pose before the fit expected them, `root` the keyframe it was found from.
    """

    fit: PoseFit
    features: np.ndarray
    points: np.ndarray
    matches: int
    offset_px: float
    root: int
    relocalised: bool = False


class Localiser:
    """Finds the poses of views in the map of `mapping`, which it does not change."""

    def __init__(self, mapping: Mapping) -> None:
        self._mapping, self._config = mapping, mapping.config
        self._inlier_ratio = 1.0

    def accept(self, found: Found) -> None:
        """The pose is used: its inlier ratio enters the recent mean."""
        self._inlier_ratio += RECENT * (found.fit.count / found.matches - self._inlier_ratio)

    def follow(self, view: View, T: np.ndarray, root: int, gate: float = 1.0) -> Found | None:
        """Pose from the local map around a predicted pose, as far as it is linked with `root`."""
        gate_px = gate * self._config.gate_px
        doubt = min(DOUBT, DROP * self._inlier_ratio)
        near = self._mapping.near(T, root)
        found = fit_view(self._mapping, view, T, near, gate_px, self._config.min_inliers, root, doubt)
        if found is not None and gate == 1.0 and found.offset_px > FAR_OFF * gate_px:
            return self.follow(view, found.fit.T_camera_world, root, 0.5) or found
        return found

    def relocalise(self, view: View) -> Found | None:
        """Pose from the keyframes that look like the view."""
        candidates, counters = self._mapping.places.query(view, self._config.min_cosine, CANDIDATES)
        self._mapping.work.add_all(counters)
        for candidate in candidates:
            found = self.recognise(view, candidate)
            if found is not None and self.sure(view, found):
                return dataclasses.replace(found, relocalised=True)
        return None

    def sure(self, view: View, found: Found) -> bool:
        """Whether so much of the view agrees with the pose that nothing else can be behind it."""
        share = len(found.features) / max(len(view), 1)
        return share >= SURE_SHARE and occupied_cells(self._mapping, view, found) >= SURE_CELLS

    def recognise(self, view: View, keyframe: int) -> Found | None:
        """Pose from a keyframe's points, wherever the view is, then from the map around it."""
        _, points = self._mapping.map.observed(keyframe)
        pose = pose_without_prediction(self._mapping, view, slice(None), points)
        return None if pose is None else self.follow(view, pose, keyframe)


def fit_view(
    mapping: Mapping,
    view: View,
    T: np.ndarray,
    keyframes: np.ndarray,
    gate_px: float,
    least: int,
    root: int,
    doubt: float = 0.0,
) -> Found | None:
    """Matches a view with the points of `keyframes` around pose `T`, and refines the pose.

    With a smaller inlier ratio than `doubt`, `T` may have led into a local minimum: a RANSAC gives
    a second start, and the pose with more inliers wins. None with fewer than `least` inliers.
    """
    noise = mapping.geometry.noise
    points, px = mapping.visible(T, keyframes)
    seen_px = view.xy * mapping.geometry.focal_px
    pairs = mapping.match(view, slice(None), points, 0.0, Prior(seen_px, px, gate_px))
    features, points = pairs.a, points[pairs.b]
    if len(features) < least:
        return None
    xyz, xy, depth = mapping.map.xyz[points], view.xy[features], view.inverse_depth[features]
    fit = refine_pose(T, xyz, xy, depth, noise)
    mapping.work.add(fit.flops)
    if fit.count < doubt * len(features):
        some = slice(None, None, -(-len(features) // CONSENSUS))
        pose = ransac_pose(xyz[some], xy[some], np.sqrt(CHI2_PIXEL) / noise.fx)
        if pose is not None:
            other = refine_pose(pose[0], xyz, xy, depth, noise)
            mapping.work.add(other.flops)
            fit = max(fit, other, key=lambda f: f.count)
    if fit.count < least:
        return None
    offset_px = np.linalg.norm(seen_px[features] - px[pairs.b], axis=1)[fit.inliers]
    good = fit.inliers & (fit.depth_inliers | (depth <= 0))
    return Found(fit, features[good], points[good], len(features), float(np.median(offset_px)), root)


def occupied_cells(mapping: Mapping, view: View, found: Found) -> int:
    """How many of the image's 4 x 4 cells have at least two of the inliers."""
    cell = np.minimum(view.uv[found.features] * 4.0 / mapping.geometry.size_px, 3.0).astype(np.intp)
    return int((np.bincount(4 * cell[:, 1] + cell[:, 0], minlength=16) >= 2).sum())


def pose_without_prediction(mapping: Mapping, view: View, features: slice, points: np.ndarray) -> np.ndarray | None:
    """`T_camera_world` of a view that sees some of the points, by RANSAC, or None."""
    pairs = mapping.match(view, features, points, 0.0, None)
    threshold = np.sqrt(CHI2_PIXEL) * 2.0 / mapping.geometry.noise.fx
    pose = ransac_pose(mapping.map.xyz[points[pairs.b]], view.xy[pairs.a], threshold)
    if pose is None or pose[1].sum() < mapping.config.min_inliers // 2:
        return None
    return pose[0]
