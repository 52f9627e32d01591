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
from drp_slam.slam.diagnosis import Diagnosis, UnknownPlace
from drp_slam.slam.keyframes import KeyframePolicy
from drp_slam.slam.labels import Labels
from drp_slam.slam.localise import Found, Localiser
from drp_slam.slam.loop import Loops
from drp_slam.slam.map import Map
from drp_slam.slam.mapping import Mapping
from drp_slam.slam.monocular import MonocularStart
from drp_slam.slam.optimize import NEAR_M
from drp_slam.slam.path import Path
from drp_slam.slam.prior import Prior
from drp_slam.slam.reckoning import Reckoning
from drp_slam.slam.search import SHORT_LOSS_NS, Search
from drp_slam.slam.starting import MIN_FIRST_POINTS, begin_with_depth
from drp_slam.slam.uncertainty import Uncertainty
from drp_slam.slam.view import View, observe
from drp_slam.slam.work import FRAME_CALLS


class Tracker:
    """Poses of a stream of frames and the map they make. Same input, same result, bit for bit."""

    def __init__(
        self, camera: Camera, config: SlamConfig | None = None, slam_map: Map | None = None, prior: Prior | None = None
    ) -> None:
        """Begins a map at the first frame; with a `slam_map`, localises in it and extends it in place.

        An empty `Map(spec)` says which descriptors to expect. A `prior` predicts the motion; its owner may
        add samples between frames. Raises SlamError for a camera whose intrinsics cannot project a point.
        """
        self.map = Map() if slam_map is None else slam_map
        self._config = self._completed(config or SlamConfig())
        self._mapping = Mapping(self.map, Geometry.of(camera, self._config), self._config)
        self._localiser = Localiser(self._mapping)
        self._loops = Loops(self._mapping)
        self._path = Path(self.map)
        self.reckoning = Reckoning(prior or Prior())
        self._search = Search(self._mapping, self._localiser, self._path, self.reckoning)
        self._keyframes = KeyframePolicy(self._mapping)
        self._bridged: np.ndarray | None = None
        mono = self._mapping.geometry.mono
        self._uncertainty = Uncertainty(self.map)
        self._diagnosis = Diagnosis(Reason.INITIALISING if mono else Reason.NO_DEPTH)
        self._unknown_place = UnknownPlace(with_depth=not mono)
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
        self._root = 0
        self._last: tuple[View, Found] | None = None
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
        found = self._search.around_given(view)
        reckoned = self._search.by_prior(stamp_ns)
        if found is None and len(self._path):
            found = self._follow(view, reckoned)
        if localise and found is not None and not self._localiser.sure(view, found):
            found = None
        found = found or self._localiser.relocalise(view)
        self._lost = found is None
        if found is None:
            lost = self._report_lost(frame, view, self._config.min_inliers, False, gap_ns)
            if localise:
                self._unknown_place.leave()
            elif self._unknown_place.stay(view, lost.reason, self._config.new_map_after_s):
                return self._begin(frame, view)
            return self._bridge(lost, reckoned)
        self._unknown_place.leave()
        if self._two_views:
            self._two_views.forget()
        self._localiser.accept(found)
        if not localise and not self._localiser.in_doubt:
            self._mapping.judge(view, found.fit, found.matched, found.visible)
        pose, correction = found.fit.T_camera_world, None
        if found.relocalised:
            self._uncertainty.jumped()
            self.reckoning.jumped()
        covariance = self._uncertainty.pose(
            stamp_ns, found.fit.T_world_camera, found.consensus, found.points, found.support
        )
        reference = int(self._mapping.near(pose, found.root)[0])
        if not localise:
            self.map.points.found[found.points] += 1
        keyframe = not localise and not self._localiser.in_doubt and self._keyframes.wants(found.fit, reference)
        if keyframe:
            self._mapping.learn_noise(found.fit, found.matched)
            reference = self._mapping.insert(view, pose, found.features, found.points, reference)
            self._uncertainty.keyframe(reference)
            self._diagnosis.learn(frame)
            correction = self._loops.close(reference) if self._config.close_loops else None
            pose = self.map.T_camera_world[reference]
            self._keyframes.restart()
        else:
            self._keyframes.count(found.fit)
            if not localise:
                pose, correction = self._loops.step(reference, pose)
        if correction is not None:
            self._uncertainty.moved(correction)
            self.reckoning.moved(correction)
        if self._bridged is not None and reckoned is not None and not found.relocalised:
            # an error of the bridged poses is a correction, not a motion
            correction = geometry.inverse(pose) @ reckoned
        self._bridged = None
        T_world_camera = found.fit.T_world_camera if pose is found.fit.T_camera_world else geometry.inverse(pose)
        covariance = covariance + self._uncertainty.of_part(T_world_camera, reference, self.up_to_scale)
        self._root = reference
        self._path.add(stamp_ns, reference, pose)
        if self.reckoning.prior and not self._localiser.in_doubt:
            depth_m = self.map.points.depth_m(found.points, found.fit.T_camera_world)
            self.reckoning.learn(stamp_ns, T_world_camera, max(float(np.median(depth_m)), NEAR_M))
        self._last = None if keyframe or localise else (view, found)
        reason = Reason.MOVING_THINGS if self._localiser.in_doubt else Reason.OK
        return self._report(view, found, keyframe, reason, covariance, correction)

    def configure(self, config: SlamConfig) -> None:
        """Changes thresholds from the next frame on; map, mode and path stay."""
        camera = self._mapping.geometry.camera
        self._config = self._mapping.config = self._completed(config)
        self._mapping.geometry = replace(Geometry.of(camera, self._config), noise=self._mapping.geometry.noise)

    def _completed(self, config: SlamConfig) -> SlamConfig:
        return config if config.min_cosine else replace(config, min_cosine=self.map.spec.min_cosine)

    def begin_epoch(self) -> None:
        """Stamps restart: the next frame may have any stamp and is searched in the whole map."""
        self._epoch_ns, self._last, self._lost = None, None, True
        self._unknown_place.leave()
        self._bridged = None
        self._uncertainty.jumped()
        self.reckoning.jumped()

    def expect(self, T_world_camera: np.ndarray) -> None:
        """Search the next frame around this pose first."""
        self._search.expect(T_world_camera)

    @property
    def loops(self) -> list[tuple[int, int]]:
        """Numbers of the keyframes, old and new, of the loops closed so far."""
        return self._loops.closed

    def trajectory(self) -> Trajectory:
        """The frames of the longest of `trajectories`."""
        return next(iter(self.trajectories()), Trajectory.of([]))

    def trajectories(self) -> list[Trajectory]:
        """All tracked frames, each from the current pose of its reference keyframe: one trajectory per part of the map.

        Parts that have not been joined have world frames of their own. The longest comes first.
        """
        return self._path.trajectories()

    def cloud(self) -> MapCloud:
        """The map's points, coloured where images were given, labelled where a detector ran."""
        points = self.map.points
        rgb = points.rgb[points.alive] if self.map.coloured else None
        return self.labels.labelled(MapCloud(points.xyz[points.alive], rgb))

    def _begin(self, frame: Frame, view: View) -> Track:
        """Begins a map, or another part of it, where the camera was last, so that the odometry continues."""
        pose = self._path.last_T_camera_world if len(self._path) else np.eye(4)
        if self._bridged is not None:
            pose = geometry.inverse(self._bridged)
        two_views = self._two_views
        begun = two_views.begin(view, pose) if two_views else begin_with_depth(self._mapping, view, pose)
        if begun is None:
            return self._report_lost(frame, view, MIN_FIRST_POINTS, True, 0)
        found, self._last, self._bridged = begun.found, None, None
        self._keyframes.restart()
        self._unknown_place.leave()
        self._diagnosis.learn(frame)
        self.reckoning.jumped()
        self._lost, self._root = False, found.root
        for keyframe, stamp_ns in begun.keyframes.items():
            self._path.add(stamp_ns, keyframe, found.fit.T_camera_world if keyframe == found.root else pose)
        self._uncertainty.begin(min(begun.keyframes))
        T_world_camera = found.fit.T_world_camera
        covariance = self._uncertainty.of_part(T_world_camera, found.root, bool(two_views))
        if two_views:
            covariance += self._uncertainty.pose(
                view.stamp_ns, T_world_camera, found.consensus, found.points, found.support
            )
            self._uncertainty.keyframe(found.root)
        return self._report(view, found, True, Reason.STARTING, covariance)

    def _follow(self, view: View, reckoned: np.ndarray | None) -> Found | None:
        """Pose near the last one; when that was long ago, a pose must be as sure as without a prediction."""
        near = not self._lost or 0 < view.stamp_ns - self._path.last_stamp_ns <= SHORT_LOSS_NS
        found = self._search.around_predicted(view, reckoned, self._root, near)
        if near:
            return found or self._recover(view)
        return found if found is not None and self._localiser.sure(view, found) else None

    def _bridge(self, lost: Track, reckoned: np.ndarray | None) -> Track:
        """A frame without vision: the pose by the prior if that is reliable, else lost."""
        last_ns = self._path.last_stamp_ns if len(self._path) else 0
        if reckoned is None or lost.stamp_ns - last_ns > self._config.bridge_s * 1e9:
            return lost
        T_last = geometry.inverse(self._path.last_T_camera_world)
        bridged = self.reckoning.bridge(lost.stamp_ns, last_ns, T_last, self._uncertainty.last)
        if bridged is None:
            return lost
        self._bridged, covariance = bridged
        covariance = covariance + self._uncertainty.of_part(self._bridged, self._root, self.up_to_scale)
        part = self.map.part[self._root]
        return replace(lost, state="predicted", T_world_camera=self._bridged, covariance=covariance, map=part)

    def _recover(self, view: View) -> Found | None:
        """Pose of a frame that no longer matches the map: the frame before becomes a keyframe to match with."""
        if len(view) < self._config.min_inliers:
            return None
        if self._last is not None:
            last, found = self._last
            pose = self._path.last_T_camera_world
            keyframe = self._mapping.insert(last, pose, found.features, found.points, self._root)
            self._path.last_is(keyframe)
            self._uncertainty.keyframe(keyframe)
            self._last, self._root = None, keyframe
            self._keyframes.restart()
            follow = self._localiser.follow(view, self._path.predict(view.stamp_ns), self._root)
            if follow is not None:
                return follow
        return self._localiser.recognise(view, self._root)

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
