# SPDX-License-Identifier: Apache-2.0
"""Finds the pose of a view in the map: read `Localiser.follow` first."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from drp_slam.config import SlamConfig
from drp_slam.slam.consensus import AMBIGUOUS, SETTLED, Consensus, agreeing, choose
from drp_slam.slam.mapping import Mapping
from drp_slam.slam.matching import Prior
from drp_slam.slam.optimize import CHI2_PIXEL, PoseFit, ransac_pose
from drp_slam.slam.view import View
from drp_slam.slam.votes import gathered
from drp_slam.slam.work import SEARCH_CALLS

DROP = 0.8
"""Search for other groups of matches when the pose's share of the votes falls below DROP times its recent mean."""
SEARCHED_FIRST, SEARCHED_EVERY = 10, 10
"""Search also in the first frames, when no point is known to be static yet, and then at least every so many frames: an
object that fills most of the image pulls the pose along without a drop."""
RECENT = 0.1
"""Weight of the newest frame in that mean."""
CANDIDATES = 5
"""Keyframes that relocalisation tries."""
SURE_SHARE, SURE_CELLS = 0.125, 6
"""Accept a pose without a prediction only when this ratio of the view's features are inliers, in at least
this many of the image's 4 x 4 cells: an object that occurs twice in a room explains less of a view."""
FAR_OFF = 0.2
"""Match again from the pose found when the prediction was off by more than this ratio of the gate."""


@dataclass(frozen=True)
class Found:
    """A pose with the inlying pairs of `features` and map `points`.

    `visible` are the points that were searched for, `matched` those of all pairs that it was fitted to,
    `offset_px` the median distance of the inliers from where the pose before the fit expected them,
    `root` the keyframe it was found from.
    """

    consensus: Consensus
    features: np.ndarray
    points: np.ndarray
    visible: np.ndarray
    matched: np.ndarray
    offset_px: float
    root: int
    relocalised: bool = False

    @property
    def fit(self) -> PoseFit:
        """The pose with the errors of all pairs."""
        return self.consensus.fit

    @property
    def support(self) -> float:
        """Share, in 0 to 1, of the points in view that were matched and speak for the pose."""
        return self.consensus.share * len(self.matched) / max(len(self.visible), 1)

    @property
    def matches(self) -> int:
        """Number of pairs."""
        return len(self.matched)


class Localiser:
    """Finds the poses of views in the map of `mapping`, which it does not change.

    `in_doubt`: the last pose accepted has a rival that may be right. Such frames must not change the map.
    """

    def __init__(self, mapping: Mapping) -> None:
        self._mapping = mapping
        self._share = 1.0
        self._rival: np.ndarray | None = None
        self._frames = self._last_search = 0
        self.in_doubt = False

    @property
    def _config(self) -> SlamConfig:
        return self._mapping.config

    def accept(self, found: Found) -> None:
        """Accepts the pose: its share of the votes enters the recent mean, and its rival is tried in the next frame."""
        self.in_doubt = found.consensus.rival_share > (SETTLED if self.in_doubt else AMBIGUOUS)
        self._rival = found.consensus.rival if self.in_doubt else None
        self._frames += 1
        if found.consensus.searched:
            self._last_search = self._frames
        if not self.in_doubt:
            self._share += RECENT * (found.consensus.share - self._share)

    def follow(
        self, view: View, T: np.ndarray, root: int, T_last: np.ndarray | None = None, gate: float = 1.0
    ) -> Found | None:
        """Pose from the local map around a predicted pose, in the part that is linked with `root`.

        `T_last` is the pose if the camera does not move.
        """
        gate_px = gate * self._config.gate_px
        due = self._frames < SEARCHED_FIRST or self._frames - self._last_search >= SEARCHED_EVERY
        doubt = DROP * self._share if self._rival is None and not due else 1.0
        others = [pose for pose in (T_last, self._rival) if pose is not None]
        near = self._mapping.near(T, root)
        found = fit_view(self._mapping, view, T, near, gate_px, self._config.min_inliers, root, doubt, others)
        if found is not None and gate == 1.0 and found.offset_px > FAR_OFF * gate_px:
            return self.follow(view, found.fit.T_camera_world, root, None, 0.5) or found
        return found

    def relocalise(self, view: View) -> Found | None:
        """Pose from the keyframes most similar to the view."""
        candidates, counters = self._mapping.places.query(view, self._config.min_cosine, CANDIDATES)
        self._mapping.work.add_all(counters)
        for candidate in candidates:
            found = self.recognise(view, candidate)
            if found is not None:
                return dataclasses.replace(found, relocalised=True)
        return None

    def sure(self, view: View, found: Found) -> bool:
        """Whether enough of the view agrees with the pose to rule out a similar object elsewhere."""
        share = len(found.features) / max(len(view), 1)
        return share >= SURE_SHARE and occupied_cells(self._mapping, view, found) >= SURE_CELLS

    def recognise(self, view: View, keyframe: int) -> Found | None:
        """Pose without a prediction from a keyframe's points, then from the map around it; None unless `sure`."""
        _, points = self._mapping.map.observed(keyframe)
        pose = pose_without_prediction(self._mapping, view, slice(None), points)
        found = None if pose is None else self.follow(view, pose, keyframe)
        return found if found is not None and self.sure(view, found) else None


def fit_view(
    mapping: Mapping,
    view: View,
    T: np.ndarray,
    keyframes: np.ndarray,
    gate_px: float,
    least: int,
    root: int,
    doubt: float = 0.0,
    others: list[np.ndarray] | None = None,
) -> Found | None:
    """Matches a view with the points of `keyframes` around pose `T`, and refines the pose.

    With a smaller share of the votes than `doubt`, `T` may be in the basin of a local minimum, or matches
    move: see `consensus.choose`. None with fewer than `least` inliers.
    """
    noise = mapping.geometry.noise
    visible, px = mapping.visible(T, keyframes)
    seen_px = view.xy * mapping.geometry.focal_px
    pairs = mapping.match(view, slice(None), visible, 0.0, Prior(seen_px, px, gate_px))
    features, points = pairs.a, visible[pairs.b]
    mapping.most_matches = max(mapping.most_matches, len(features))
    if len(features) < least:
        return None
    known = mapping.map.points
    matches = gathered(known.xyz, known.trust, points, view, features, T, mapping.geometry.bounds)
    consensus = choose(T, others or [], matches, noise, doubt)
    mapping.work.add(consensus.flops)
    mapping.work.call(SEARCH_CALLS * consensus.searched)
    fit = consensus.fit
    if fit.count < least:
        return None
    good, offset_px = agreeing(fit, seen_px, features, px, pairs.b)
    return Found(consensus, features[good], points[good], visible, points, offset_px, root)


def occupied_cells(mapping: Mapping, view: View, found: Found) -> int:
    """How many of the image's 4 x 4 cells have at least two of the inliers."""
    cell = np.minimum(view.uv[found.features] * 4.0 / mapping.geometry.size_px, 3.0).astype(np.intp)
    return int((np.bincount(4 * cell[:, 1] + cell[:, 0], minlength=16) >= 2).sum())


def pose_without_prediction(mapping: Mapping, view: View, features: slice, points: np.ndarray) -> np.ndarray | None:
    """`T_camera_world` of a view that sees some of the points, by RANSAC, or None."""
    pairs = mapping.match(view, features, points, 0.0, None)
    threshold = np.sqrt(CHI2_PIXEL) * 2.0 / mapping.geometry.noise.fx
    pose = ransac_pose(mapping.map.points.xyz[points[pairs.b]], view.xy[pairs.a], threshold)
    if pose is None or pose[1].sum() < mapping.config.min_inliers // 2:
        return None
    return pose[0]
