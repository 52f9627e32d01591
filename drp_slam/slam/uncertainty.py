# SPDX-License-Identifier: Apache-2.0
"""Covariances of poses and velocities, for filters.

Covariances (6, 6) are of `d` in `T_world_camera @ exp(d)`: translation in metres and rotation in
radians along the camera's axes. A frame's covariance is the sum of that of its own fit, of the drift of the
map around it, and, where a second group of matches contradicts, of the
squared distance to the pose of that group.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from drp_slam import geometry
from drp_slam.slam.compiled import native
from drp_slam.slam.consensus import AMBIGUOUS, Consensus
from drp_slam.slam.map import Map
from drp_slam.slam.optimize import CHI2_PIXEL, DEPTH_GATE2
from drp_slam.slam.triangulate import LEAST_SIGMAS

CORRELATED = 10.0
"""Number of matches that count as one independent one: errors of the points of one keyframe, of depth and of
calibration are common to many of them (fitted: see docs/slam.md)."""
ANCHORS = 25
"""Number of matches from which a frame has the drift of a keyframe."""
UNSCALED = 1.0 / LEAST_SIGMAS
"""Standard deviation of the scale that each keyframe with too few measured points adds: that of the depth of one
point, since all points of a keyframe share the error of the two poses that they were triangulated from."""
REMEMBERED, CONTRADICTED, GUESSED = 0.9, 1.2, 0.3
"""Decay per frame of the count of frames with a rival; from this count on (a second one within 15 frames), the camera
may have followed a moving object; share of the squared distance to the rival that is then added as covariance."""
STILL_SEEN = 0.25
"""A thing that was possibly followed is out of sight when a smaller part of its points is seen."""
APART = np.diag([25.0] * 3 + [1.0] * 3)
"""Covariance (m², rad²) of the world frame of a part that is not joined with the first."""
UNUSUAL, USUAL = 0.2, 0.1
"""A pose is surprising if its support is smaller than its recent mean by this share; weight of the newest frame in that
mean, which the first frames enter with more."""
HELD_FRAMES = 5
"""For so many frames the motion before a loss of support is compared with: until then a thing that moves is outside the
gate, and contradicts."""
TWIST_FRAMES = 3
"""Number of last frames over which the velocity is averaged."""


_SCALED = np.zeros(4)
"""Row of `Map.unscaled` of a keyframe that sees measured points."""


@dataclass(frozen=True)
class Moment:
    """A tracked frame: its pose and the covariance of its own fit, `own` (6, 6)."""

    stamp_ns: int
    T_world_camera: np.ndarray
    own: np.ndarray


class Uncertainty:
    """Covariances of keyframes, and of the frames of one session, in the map's world."""

    def __init__(self, slam_map: Map) -> None:
        self._map = slam_map
        self._recent: list[Moment] = []
        self._last = np.zeros((6, 6))
        self._unscaled = _SCALED
        self._doubt = np.zeros((6, 6))
        self._contradicted = 0.0
        self._followed: tuple[np.ndarray, np.ndarray] | None = None
        self._usual, self._frames = 1.0, 0
        self._held: tuple[Moment, np.ndarray] | None = None
        self._holds = 0

    def pose(
        self, stamp_ns: int, T_world_camera: np.ndarray, consensus: Consensus, points: np.ndarray, support: float
    ) -> np.ndarray:
        """(6, 6) of the next frame, that was tracked by the map's `points`, with a `support` (`Found.support`)."""
        own = own_covariance(consensus) + self._surprise(stamp_ns, T_world_camera, support)
        moment = Moment(stamp_ns, T_world_camera, own)
        self._recent = [*self._recent[1 - TWIST_FRAMES :], moment]
        self._doubt = self._doubted(consensus)
        self._follow(T_world_camera, consensus, points)
        self._last = own + self._doubt + self._drift(T_world_camera, own, points)
        return self._last

    @property
    def last(self) -> np.ndarray:
        """(6, 6) of the last tracked frame."""
        return self._last

    def keyframe(self, number: int) -> None:
        """The last frame has become keyframe `number`."""
        self._map.covariance[number], self._map.unscaled[number] = self._last, self._unscaled

    def of_part(self, T_world_camera: np.ndarray, keyframe: int, up_to_scale: bool) -> np.ndarray:
        """(6, 6) of what is unknown of the world frame of the keyframe's part: where it lies, and its scale.

        One standard deviation of an unknown scale is the distance from the part's first keyframe.
        """
        part = self._map.part[keyframe]
        covariance = APART.copy() if part else np.zeros((6, 6))
        if up_to_scale:
            origin = geometry.inverse(self._map.T_camera_world[self._map.part.index(part)])
            away = T_world_camera[:3, :3].T @ (T_world_camera[:3, 3] - origin[:3, 3])
            covariance[:3, :3] += np.outer(away, away)
        return covariance

    def begin(self, number: int) -> None:
        """Keyframe `number` is the first of a map: its pose is known by definition."""
        self.jumped()
        self._last, self._unscaled = np.zeros((6, 6)), _SCALED
        self._usual, self._frames = 1.0, 0
        T_world_camera = geometry.inverse(self._map.T_camera_world[number])
        self._recent = [Moment(self._map.views[number].stamp_ns, T_world_camera, np.zeros((6, 6)))]
        self.keyframe(number)

    def jumped(self) -> None:
        """The next pose does not continue the last motion."""
        self._recent, self._doubt, self._contradicted, self._followed = [], np.zeros((6, 6)), 0.0, None
        self._held = None

    def moved(self, T_after_before: np.ndarray) -> None:
        """A closed loop has moved the camera's surroundings; moves the recorded motion with them."""
        self._recent = [replace(m, T_world_camera=T_after_before @ m.T_world_camera) for m in self._recent]
        if self._followed is not None:
            self._followed = T_after_before @ self._followed[0], self._followed[1]
        if self._held is not None:
            held, twist = self._held
            self._held = replace(held, T_world_camera=T_after_before @ held.T_world_camera), twist

    def twist(self) -> tuple[np.ndarray, np.ndarray] | None:
        """(6,) velocity along the camera's axes in m/s and rad/s, and its covariance; None at a start."""
        if len(self._recent) < 2:
            return None
        first, last = self._recent[0], self._recent[-1]
        span_s = (last.stamp_ns - first.stamp_ns) / 1e9
        if native is not None:
            rows = np.empty((7, 6))
            native.twist(first.T_world_camera, last.T_world_camera, first.own, last.own, span_s, rows)
            return rows[0], rows[1:]
        motion = geometry.inverse(first.T_world_camera) @ last.T_world_camera
        carried = geometry.adjoint(geometry.inverse(motion))
        covariance = carried @ first.own @ carried.T + last.own
        return geometry.log(motion) / span_s, covariance / span_s**2

    def _surprise(self, stamp_ns: int, T_world_camera: np.ndarray, support: float) -> np.ndarray:
        """(6, 6) of a pose that loses support at once.

        Either the image is bad, or something large has begun to move and takes the pose along, before its surroundings
        contradict clearly. What is lost may be right that the camera still stands, or moves as it did before.
        """
        missing = 1.0 - support / self._usual
        self._frames += 1
        self._usual += max(USUAL, 1.0 / (1.0 + self._frames)) * (support - self._usual)
        if missing < UNUSUAL or not self._recent:
            self._held = None
            return np.zeros((6, 6))
        self._holds += 1
        if self._held is None or self._holds > HELD_FRAMES:
            moving = self.twist()
            self._holds = HELD_FRAMES if moving is None else 1  # how it moved is known in the next frame
            self._held = self._recent[-1], np.zeros(6) if moving is None else moving[0]
        held, twist = self._held
        moved = geometry.exp(twist * ((stamp_ns - held.stamp_ns) / 1e9))
        back = geometry.inverse(T_world_camera) @ held.T_world_camera
        away = min((geometry.log(back), geometry.log(back @ moved)), key=lambda d: float(d[:3] @ d[:3]))
        return missing * np.outer(away, away)

    def _doubted(self, consensus: Consensus) -> np.ndarray:
        """Covariance that remains after frames in which a moving object could not be told from the background.

        It remains when the rival is gone: the camera may have followed the object.
        """
        if consensus.rival is None:
            return self._doubt
        known = float(np.trace(self._doubt[:3, :3])), float(np.trace(self._doubt[3:, 3:]))
        if not (consensus.ambiguous or known[0] > 0):
            return self._doubt
        apart = geometry.log(consensus.rival @ geometry.inverse(consensus.fit.T_camera_world))
        share = max(consensus.rival_share, AMBIGUOUS)
        return self._wider(apart, share)

    def _wider(self, apart: np.ndarray, share: float) -> np.ndarray:
        """The doubt (6, 6), at least a share of the square of a distance (6,)."""
        least = share * float(apart[:3] @ apart[:3]) / 3.0, share * float(apart[3:] @ apart[3:]) / 3.0
        known = self._doubt[0, 0], self._doubt[3, 3]
        return np.diag([max(known[0], least[0])] * 3 + [max(known[1], least[1])] * 3)

    def _follow(self, T_world_camera: np.ndarray, consensus: Consensus, points: np.ndarray) -> None:
        """Adds the distance moved since an object was possibly followed, while a part of its points is still seen.

        The background is soon outside the gate, so the absence of contradiction is no evidence, nor are points that
        were mapped since.
        """
        self._contradicted = REMEMBERED * self._contradicted + float(consensus.ambiguous)
        if self._followed is None and consensus.rival is not None and self._contradicted >= CONTRADICTED:
            self._followed = geometry.inverse(consensus.rival), points
        if self._followed is None:
            return
        since, chosen = self._followed
        if not consensus.ambiguous and np.isin(chosen, points).mean() < STILL_SEEN:
            self._followed = None
        self._doubt = self._wider(geometry.log(geometry.inverse(since) @ T_world_camera), GUESSED)

    def _drift(self, T_world_camera: np.ndarray, own: np.ndarray, points: np.ndarray) -> np.ndarray:
        """The smallest covariance of the keyframes that created enough of the points.

        Where too few of the points have measured depth, the scale comes from triangulation and drifts: the distance
        that the camera has moved since is as uncertain as the scale.
        """
        if not len(points):
            return own
        if native is not None:
            known, drift = self._map.points, np.empty((6, 6))
            keyframes = self._map.T_camera_world, self._map.covariance
            if native.drift(T_world_camera, *keyframes, known.reference, known.measured, points, own, ANCHORS, drift):
                self._unscaled = _SCALED
                return drift
        made = np.bincount(self._map.points.reference[points], minlength=len(self._map))
        anchors = np.flatnonzero(made >= min(ANCHORS, int(made.max())))
        spread = len(points) / made[anchors] - 1.0
        of_anchors = self._map.covariance[anchors]
        scaled = int(np.count_nonzero(self._map.points.measured[points])) >= min(ANCHORS, len(points))
        T_camera_anchor = geometry.inverse(self._map.T_camera_world[anchors] @ T_world_camera)
        back = geometry.adjoint(T_camera_anchor)
        unscaled = np.zeros((len(anchors), 4))
        if not scaled:
            before = self._map.unscaled[anchors]
            of_anchors = of_anchors - _along(before)
            unscaled[:, 0] = before[:, 0] + UNSCALED**2
            unscaled[:, 1:] = (T_camera_anchor[:, :3, :3] @ before[:, 1:, None])[:, :, 0] + T_camera_anchor[:, :3, 3]
        drifts = back @ of_anchors @ back.transpose(0, 2, 1)
        drifts += own * spread[:, None, None]
        if not scaled:
            drifts += _along(unscaled)
        best = np.argmin(np.einsum("kii->k", drifts[:, :3, :3]))
        self._unscaled = unscaled[best]
        return drifts[best]


def _along(unscaled: np.ndarray) -> np.ndarray:
    """(K, 6, 6) covariances of displacements (K, 3) whose scale has a variance: `Map.unscaled` (K, 4)."""
    out = np.zeros((len(unscaled), 6, 6))
    way = unscaled[:, 1:]
    out[:, :3, :3] = unscaled[:, :1, None] * way[:, :, None] * way[:, None, :]
    return out


def own_covariance(consensus: Consensus) -> np.ndarray:
    """(6, 6) of a fit: its information, its residuals, the pull of what is far, and the pose that contradicts it."""
    fit = consensus.fit
    if native is not None:
        count, square = native.within(fit.error2_px, fit.error2_depth, CHI2_PIXEL, DEPTH_GATE2)
    else:
        inside = fit.inliers & fit.depth_fits
        count, square = int(np.count_nonzero(inside)), float((fit.error2_px[inside] + fit.error2_depth[inside]).sum())
    spread = square / max(3 * count - 6, 1)
    covariance = CORRELATED * max(1.0, spread) / max(consensus.share, 0.05) * fit.covariance
    covariance = covariance + fit.pull[:, None] * fit.pull
    if consensus.rival is not None:
        apart = geometry.log(consensus.rival @ geometry.inverse(fit.T_camera_world))
        covariance = covariance + consensus.rival_share * np.outer(apart, apart)
    return covariance
