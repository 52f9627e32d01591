# SPDX-License-Identifier: Apache-2.0
"""Tracking against the map: read `Tracker.track` first."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from drp_slam import geometry
from drp_slam.config import SlamConfig
from drp_slam.datatypes import Camera, Features, Frame, MapCloud, Reason, Track, Trajectory
from drp_slam.errors import SlamError
from drp_slam.slam.camera import Geometry
from drp_slam.slam.consensus import Consensus
from drp_slam.slam.diagnosis import Diagnosis
from drp_slam.slam.labels import Labels
from drp_slam.slam.localise import Found, Localiser
from drp_slam.slam.loop import Loops
from drp_slam.slam.map import Map
from drp_slam.slam.mapping import Mapping
from drp_slam.slam.monocular import MonocularStart
from drp_slam.slam.optimize import NEAR_M, PoseFit
from drp_slam.slam.path import Path
from drp_slam.slam.prior import Prior
from drp_slam.slam.reckoning import Reckoning, angle_apart
from drp_slam.slam.trust import FIRST
from drp_slam.slam.uncertainty import Uncertainty, of_unknown_scale
from drp_slam.slam.view import View, observe
from drp_slam.slam.work import FRAME_CALLS

MIN_FIRST_POINTS = 50
"""Features with depth that the first frame must have."""
SHORT_LOSS_NS = 500_000_000
"""After a shorter loss, search first where tracking was lost."""

UNKNOWN_PLACE = (Reason.NO_OVERLAP, Reason.MOVING_THINGS, Reason.TIME_GAP)
"""Why a frame is lost whose image is good: in an unknown place, things may look alike and not agree."""
NEW_MAP_POINTS = 150
"""Features with depth that the first frame of another map must have."""
APART = np.diag([25.0] * 3 + [1.0] * 3)
"""Covariance (m², rad²) of poses in a map that is not joined with the first: where it lies is not known."""
EXPECTED_AMONG = 5
"""Keyframes nearest to an expected pose from which the camera is looked for."""


class Tracker:
    """Poses of a stream of frames and the map they make. Same input, same result, bit for bit."""

    def __init__(
        self, camera: Camera, config: SlamConfig | None = None, slam_map: Map | None = None, prior: Prior | None = None
    ) -> None:
        """Begins a map at the first frame; with a `slam_map`, finds itself in it and continues it in place.

        An empty `Map(spec)` says which descriptors to expect. A `prior` predicts the motion; whoever has it may
        add samples between frames. Raises SlamError for a camera with which nothing can be projected.
        """
        self.map = Map() if slam_map is None else slam_map
        self._config = self._completed(config or SlamConfig())
        self._mapping = Mapping(self.map, Geometry.of(camera, self._config), self._config)
        self._localiser = Localiser(self._mapping)
        self._loops = Loops(self._mapping)
        self._path = Path(self.map)
        self.reckoning = Reckoning(prior or Prior())
        self._bridged: np.ndarray | None = None
        mono = self._mapping.geometry.mono
        self._uncertainty = Uncertainty(self.map)
        self._diagnosis = Diagnosis(Reason.INITIALISING if mono else Reason.NO_DEPTH)
        self._two_views = MonocularStart(self._mapping) if mono else None
        with_depth = any((view.inverse_depth > 0).any() for view in self.map.views)
        if len(self.map) and not mono and not with_depth:
            raise SlamError(
                "the map was made without depth, so its scale is not known; give --sensor mono, or another map"
            )
        self.up_to_scale = mono and not with_depth
        """A unit of the map may be any number of metres."""
        self.labels = Labels(self.map, camera.fx)
        self._lost = True
        self._epoch_ns: int | None = None
        self._lost_since_ns: int | None = None
        self._root = 0
        self._peak, self._since = 0, 0
        self._last: tuple[View, Found] | None = None
        self._expected: np.ndarray | None = None
        self.localise = self._config.localise
        """Only find the pose; never change the map."""
        self.seen = np.zeros(0, dtype=np.intp)
        """Numbers of the last frame's features that are points of the map and agree with its pose."""

    def track(self, frame: Frame, features: Features) -> Track:
        """Pose of the next frame.

        Raises SlamError for arrays that do not fit each other, or a stamp that is not after the one
        before, unless a new epoch has begun.
        """
        stamp_ns = frame.stamp_ns
        if self._epoch_ns is not None and stamp_ns <= self._epoch_ns:
            raise SlamError(
                f"frame {frame.index} has stamp {stamp_ns} ns, but {self._epoch_ns} ns came before it; sort the frames"
            )
        self._mapping.work.call(FRAME_CALLS)
        view = observe(self._mapping.geometry, self._config, frame, features, self.map.spec)
        gap_ns = 0 if self._epoch_ns is None else stamp_ns - self._epoch_ns
        self._epoch_ns, self._mapping.most_matches = stamp_ns, 0
        localise = self.localise
        if not len(self.map) and not localise:
            return self._begin(frame, view)
        # pose against the local map, from where motion leads; else against all keyframes
        found = self._search_expected(view)
        reckoned = self._reckoned(stamp_ns)
        if found is None and len(self._path):
            found = self._follow(view, reckoned)
        if localise and found is not None and not self._localiser.sure(view, found):
            found = None
        found = found or self._localiser.relocalise(view)
        self._lost = found is None
        if found is None:
            lost = self._report_lost(frame, view, self._config.min_inliers, False, gap_ns)
            return self._begin(frame, view) if self._unknown_place(view, lost) else self._bridge(lost, reckoned)
        self._lost_since_ns = None
        if self._two_views:
            self._two_views.forget()
        self._localiser.accept(found)
        if not localise and not self._localiser.in_doubt:
            self._mapping.judge(view, found.fit, found.matched, found.visible)
        pose, correction = found.fit.T_camera_world, None
        if found.relocalised:
            self._uncertainty.jumped()
            self.reckoning.jumped()
        covariance = self._uncertainty.pose(stamp_ns, geometry.inverse(pose), found.consensus, found.points)
        reference = int(self._mapping.near(pose, found.root)[0])
        # the map grows where it must
        if not localise:
            self.map.points.found[found.points] += 1
        keyframe = not localise and self._wants_keyframe(found, reference)
        if keyframe:
            reference = self._mapping.insert(view, pose, found.features, found.points, reference)
            self._uncertainty.keyframe(reference)
            self._diagnosis.learn(frame)
            correction = self._loops.close(reference) if self._config.close_loops else None
            pose, self._peak, self._since = self.map.T_camera_world[reference], 0, 0
        else:
            self._peak, self._since = max(self._peak, found.fit.count), self._since + 1
            if not localise:
                pose, correction = self._loops.step(reference, pose)
        if correction is not None:
            self._uncertainty.moved(correction)
            self.reckoning.moved(correction)
        if self._bridged is not None and reckoned is not None and not found.relocalised:
            # what was published without vision may be off; that is corrected, it is no motion
            correction = geometry.inverse(pose) @ reckoned
        self._bridged = None
        if self.up_to_scale:
            covariance = covariance + self._of_scale(geometry.inverse(pose), reference)
        if self.map.part[reference]:
            covariance = covariance + APART
        self._root = reference
        self._path.add(stamp_ns, reference, pose)
        if self.reckoning.prior and not self._localiser.in_doubt:
            self.reckoning.learn(stamp_ns, geometry.inverse(pose), self._depth_m(found))
        self._last = None if keyframe or localise else (view, found)
        reason = Reason.MOVING_THINGS if self._localiser.in_doubt else Reason.OK
        return self._report(view, found, keyframe, reason, covariance, correction)

    def configure(self, config: SlamConfig) -> None:
        """Other thresholds, from the next frame on; map, mode and path stay."""
        camera = self._mapping.geometry.camera
        self._config = self._mapping.config = self._completed(config)
        self._mapping.geometry = Geometry.of(camera, self._config)

    def _completed(self, config: SlamConfig) -> SlamConfig:
        return config if config.min_cosine else replace(config, min_cosine=self.map.spec.min_cosine)

    def begin_epoch(self) -> None:
        """Stamps restart: the next frame may have any stamp and is searched in the whole map."""
        self._epoch_ns, self._last, self._lost, self._lost_since_ns = None, None, True, None
        self._bridged = None
        self._uncertainty.jumped()
        self.reckoning.jumped()

    def expect(self, T_world_camera: np.ndarray) -> None:
        """Somebody says where the camera is: the next frame is looked for from there first."""
        self._expected = geometry.inverse(T_world_camera)

    def _search_expected(self, view: View) -> Found | None:
        """Pose around the expected one, or from the keyframes nearest to it."""
        T, self._expected = self._expected, None
        if T is None or not len(self.map):
            return None
        live = self.map.live
        centres = geometry.inverse(self.map.T_camera_world[live])[:, :3, 3]
        away_m = np.linalg.norm(centres - geometry.inverse(T)[:3, 3], axis=1)
        nearest = live[np.argsort(away_m, kind="stable")[:EXPECTED_AMONG]].tolist()
        found = self._localiser.follow(view, T, nearest[0])
        for keyframe in nearest:
            found = found or self._localiser.recognise(view, keyframe)
        return None if found is None else replace(found, relocalised=True)

    @property
    def loops(self) -> list[tuple[int, int]]:
        """Numbers of the keyframes, old and new, of the loops closed so far."""
        return self._loops.closed

    def trajectory(self) -> Trajectory:
        """The frames of the longest of `trajectories`."""
        return next(iter(self.trajectories()), Trajectory.of([]))

    def trajectories(self) -> list[Trajectory]:
        """All tracked frames, each from the current pose of its reference keyframe: one of each map.

        Maps that have not been joined have worlds of their own. The longest comes first.
        """
        return self._path.trajectories()

    def cloud(self) -> MapCloud:
        """The map's points, coloured where images were given, labelled where a detector ran."""
        alive = self.map.points.alive
        rgb, labelled = self.map.points.rgb[alive] if self.map.coloured else None, self.labels.columns()
        if labelled is None:
            return MapCloud(self.map.points.xyz[alive], rgb)
        label, votes = (column[alive] for column in labelled)
        return MapCloud(self.map.points.xyz[alive], rgb, label, votes, tuple(self.labels.names))

    def _of_scale(self, T_world_camera: np.ndarray, keyframe: int) -> np.ndarray:
        origin = self.map.part.index(self.map.part[keyframe])
        return of_unknown_scale(T_world_camera, geometry.inverse(self.map.T_camera_world[origin]))

    def _begin_by_motion(self, frame: Frame, view: View, two_views: MonocularStart) -> Track:
        """A map of two views, once the camera has moved far enough."""
        moved = two_views.offer(view)
        if moved is None:
            return self._report_lost(frame, view, MIN_FIRST_POINTS, True, 0)
        reference, start = moved
        pose = self._path.last_T_camera_world if len(self._path) else np.eye(4)
        begun = two_views.begin(view, reference, start, pose)
        first, second = begun.keyframes
        self._path.add(reference.stamp_ns, first, pose)
        self._path.add(view.stamp_ns, second, begun.fit.T_camera_world)
        self._uncertainty.begin(first)
        own = self._uncertainty.pose(
            view.stamp_ns, geometry.inverse(begun.fit.T_camera_world), begun.consensus, begun.points
        )
        self._uncertainty.keyframe(second)
        self._last, self._peak, self._since, self._lost_since_ns = None, 0, 0, None
        self._diagnosis.learn(frame)
        self._lost, self._root = False, second
        none = np.zeros(0, dtype=np.intp)
        found = Found(begun.consensus, begun.features, begun.points, begun.points, none, 0.0, second)
        own = own + self._of_scale(geometry.inverse(begun.fit.T_camera_world), second)
        return self._report(view, found, True, Reason.STARTING, own)

    def _begin(self, frame: Frame, view: View) -> Track:
        if self._two_views:
            return self._begin_by_motion(frame, view, self._two_views)
        if int((view.inverse_depth > 0).sum()) < MIN_FIRST_POINTS:
            return self._report_lost(frame, view, MIN_FIRST_POINTS, True, 0)
        none = np.zeros(0, dtype=np.intp)
        # another map begins where the camera was lost, so that the odometry continues
        pose = self._path.last_T_camera_world if len(self._path) else np.eye(4)
        if self._bridged is not None:
            pose, self._bridged = geometry.inverse(self._bridged), None
        keyframe = self._mapping.insert(view, pose, none, none)
        self._path.add(view.stamp_ns, keyframe, pose)
        self._uncertainty.begin(keyframe)
        self.reckoning.jumped()
        self._last, self._peak, self._since, self._lost_since_ns = None, 0, 0, None
        self._diagnosis.learn(frame)
        self._lost, self._root = False, keyframe
        points = self.map.observed(keyframe)[1]
        self.map.points.trust[points] = FIRST
        fit = PoseFit(pose, np.zeros((6, 6)), np.zeros(len(points)), np.zeros(len(points)), 0.0)
        found = Found(Consensus(fit, 1.0), none, points, points, none, 0.0, keyframe)
        apart = APART if self.map.part[keyframe] else np.zeros((6, 6))
        return self._report(view, found, True, Reason.STARTING, apart)

    def _reckoned(self, stamp_ns: int) -> np.ndarray | None:
        """`T_camera_world` by the prior, as long as that may be followed since the last tracked frame."""
        if not self.reckoning.prior or not len(self._path):
            return None
        last_ns = self._path.last_stamp_ns
        if not 0 < stamp_ns - last_ns <= max(self._config.bridge_s * 1e9, SHORT_LOSS_NS):
            return None
        T = self.reckoning.predict(stamp_ns, last_ns, geometry.inverse(self._path.last_T_camera_world))
        return None if T is None else geometry.inverse(T)

    def _follow(self, view: View, reckoned: np.ndarray | None) -> Found | None:
        """Pose near the last one: from where constant motion leads, or the prior; the better one comes first.

        Where the two differ by more than the gate, the pose that more matches agree with counts.
        """
        stamp_ns, last = view.stamp_ns, self._path.last_T_camera_world
        near = not self._lost or 0 < stamp_ns - self._path.last_stamp_ns <= SHORT_LOSS_NS
        starts = [self._path.predict(stamp_ns)] if near else []
        if reckoned is not None:
            starts.insert(0 if self.reckoning.better else len(starts), reckoned)
        best: Found | None = None
        for k, T in enumerate(starts):
            if k and best is not None and not (reckoned is starts[0] and self._far_apart(*starts)):
                break
            found = self._localiser.follow(view, T, self._root, last)
            if found is not None and (best is None or found.fit.count > best.fit.count):
                best = found
        if not near:  # after a longer time a pose must be as sure as one without a prediction
            return best if best is not None and self._localiser.sure(view, best) else None
        return best or self._recover(view)

    def _far_apart(self, Ta: np.ndarray, Tb: np.ndarray) -> bool:
        """Whether two predictions `T_camera_world` differ by more than the gate, 1 m ahead."""
        gate = self._config.gate_px / self._mapping.geometry.camera.fx
        return angle_apart(geometry.inverse(Ta), geometry.inverse(Tb), 1.0) > gate

    def _bridge(self, lost: Track, reckoned: np.ndarray | None) -> Track:
        """A frame without vision: the pose by the prior, where that has proved itself, else lost."""
        last_ns = self._path.last_stamp_ns if len(self._path) else 0
        if reckoned is None or lost.stamp_ns - last_ns > self._config.bridge_s * 1e9:
            return lost
        T_last = geometry.inverse(self._path.last_T_camera_world)
        bridged = self.reckoning.bridge(lost.stamp_ns, last_ns, T_last, self._uncertainty.last)
        if bridged is None:
            return lost
        self._bridged, covariance = bridged
        part = self.map.part[self._root]
        covariance = covariance + APART if part else covariance
        return replace(lost, state="predicted", T_world_camera=self._bridged, covariance=covariance, map=part)

    def _depth_m(self, found: Found) -> float:
        """Median distance of the points that a frame was tracked by."""
        T = found.fit.T_camera_world
        z = self.map.points.xyz[found.points] @ T[2, :3] + T[2, 3]
        return max(float(np.median(z)), NEAR_M) if len(z) else 1.0

    def _unknown_place(self, view: View, lost: Track) -> bool:
        """Whether the camera is in a place that no map shows, and sees it well enough to begin another."""
        if self.localise or lost.reason not in UNKNOWN_PLACE:
            self._lost_since_ns = None
            return False
        if self._lost_since_ns is None:
            self._lost_since_ns = view.stamp_ns
        patience_s = self._config.new_map_after_s
        waited = 0.0 < patience_s <= (view.stamp_ns - self._lost_since_ns) / 1e9
        usable = len(view) if self._two_views else int((view.inverse_depth > 0).sum())
        return waited and usable >= NEW_MAP_POINTS

    def _recover(self, view: View) -> Found | None:
        """Pose of a frame that lost the map, from the frame before: that becomes a keyframe."""
        if len(view) < self._config.min_inliers:
            return None
        if self._last is not None:
            last, found = self._last
            pose = self._path.last_T_camera_world
            keyframe = self._mapping.insert(last, pose, found.features, found.points, self._root)
            self._path.last_is(keyframe)
            self._uncertainty.keyframe(keyframe)
            self._last, self._root, self._peak, self._since = None, keyframe, 0, 0
            follow = self._localiser.follow(view, self._path.predict(view.stamp_ns), self._root)
            if follow is not None:
                return follow
        return self._localiser.recognise(view, self._root)

    def _wants_keyframe(self, found: Found, nearest: int) -> bool:
        config, pose = self._config, found.fit.T_camera_world
        if self._since < 1 or self._localiser.in_doubt:
            return False
        motion = pose @ geometry.inverse(self.map.T_camera_world[nearest])
        turn = np.degrees(np.arccos(np.clip(0.5 * (np.trace(motion[:3, :3]) - 1.0), -1.0, 1.0)))
        return bool(
            found.fit.count < config.keyframe_ratio * self._peak
            or np.linalg.norm(motion[:3, 3]) > config.keyframe_translation_m
            or turn > config.keyframe_rotation_deg
        )

    def _report_lost(self, frame: Frame, view: View, least: int, first: bool, gap_ns: int) -> Track:
        """`least` features are needed, with depth if nothing is mapped yet."""
        reason = self._diagnosis.why_lost(frame, view, least, first, gap_ns, self._mapping.most_matches)
        counters, self.seen = self._mapping.work.take(), np.zeros(0, dtype=np.intp)
        return Track(view.index, view.stamp_ns, "lost", None, counters=counters, reason=reason)

    def _report(
        self,
        view: View,
        found: Found,
        keyframe: bool,
        reason: Reason,
        covariance: np.ndarray,
        correction: np.ndarray | None = None,
    ) -> Track:
        twist, twist_covariance = self._uncertainty.twist() or (None, None)
        if self.up_to_scale and twist is not None and twist_covariance is not None:
            twist_covariance[:3, :3] += np.outer(twist[:3], twist[:3])
        features, points = self.map.observed(self._root) if keyframe else (found.features, found.points)
        self.labels.seen(view.stamp_ns, view.uv[features], points, self._path.last_T_camera_world)
        self.seen = features
        return Track(
            view.index,
            view.stamp_ns,
            "tracked",
            geometry.inverse(self._path.last_T_camera_world),
            found.matches,
            found.fit.count,
            keyframe,
            found.relocalised,
            self._mapping.work.take(),
            correction,
            covariance,
            twist,
            twist_covariance,
            reason,
            self.map.part[self._root],
        )
