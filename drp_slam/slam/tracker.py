# SPDX-License-Identifier: Apache-2.0
"""RGB-D tracking against the map: read `Tracker.track` first."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from drp_slam.config import SlamConfig
from drp_slam.datatypes import Camera, Features, MapCloud, Track, Trajectory
from drp_slam.errors import SlamError
from drp_slam.slam import se3
from drp_slam.slam.camera import check_camera, plane_bounds
from drp_slam.slam.features import View, observe
from drp_slam.slam.loop import Loops
from drp_slam.slam.map import Keyframe, Map
from drp_slam.slam.mapping import Mapping
from drp_slam.slam.matching import Prior, match
from drp_slam.slam.optimize import CHI2_PIXEL, Noise, PoseFit, ransac_pose, refine_pose
from drp_slam.slam.path import Path, trajectory

MIN_FIRST_POINTS = 50
"""Features with depth that the first frame must have."""
DOUBT, DROP = 0.72, 0.9
"""A smaller share of inliers than this among the matches, that is also a drop to this part of what
is usual of late, asks for a RANSAC."""
CONSENSUS = 250
"""Matches that a RANSAC gets at most: the refinement after it uses all."""
SHORT_LOSS_NS = 500_000_000
"""After a shorter loss the camera is looked for where it was lost."""
CANDIDATES = 5
"""Keyframes that relocalisation tries."""


@dataclass(frozen=True)
class _Found:
    """A pose with the inlying pairs of features and map points."""

    fit: PoseFit
    features: np.ndarray
    points: np.ndarray
    matches: int
    root: int
    relocalised: bool = False


class Tracker:
    """Poses of a stream of frames and the map they make. Same input, same result, bit for bit."""

    def __init__(self, camera: Camera, config: SlamConfig | None = None) -> None:
        check_camera(camera)
        self._camera, self._config = camera, config or SlamConfig()
        focal = np.array([camera.fx, camera.fy])
        sigma = self._config.pixel_sigma_px
        self._noise = Noise(
            camera.fx / sigma, camera.fy / sigma, 1.0 / self._config.inverse_depth_sigma
        )
        self._focal = focal
        self._mapping = Mapping(self._config, self._noise, plane_bounds(camera), focal)
        self._loops = Loops(
            self._mapping, self._config, self._noise, np.array([camera.width, camera.height])
        )
        self._path = Path()
        self._lost, self._share = True, 1.0
        self._root = 0
        self._peak, self._since = 0, 0
        self._last: tuple[View, _Found] | None = None
        self._flops = 0.0

    def track(self, index: int, stamp_ns: int, features: Features, depth: np.ndarray | None,
              depth_unit_m: float, image: np.ndarray | None = None) -> Track:  # fmt: skip
        """Pose of the next frame. Raises SlamError for arrays that do not fit each other."""
        if len(self._path) and stamp_ns <= self._path.last.stamp_ns:
            last = self._path.last.stamp_ns
            raise SlamError(f"frame {index} has stamp {stamp_ns} ns, but {last} ns came before "
                            "it; sort the frames")  # fmt: skip
        self._flops = self._mapping.flops = self._loops.flops = 0.0
        view = observe(
            self._camera, self._config, index, stamp_ns, features, depth, depth_unit_m, image
        )
        if not self._mapping.map.keyframes:
            return self._begin(view)
        # pose against the local map, from where motion leads; else against all keyframes
        goes_on = not self._lost or stamp_ns - self._path.last.stamp_ns <= SHORT_LOSS_NS
        found = self._follow(view, self._path.predict(stamp_ns), self._root) if goes_on else None
        if found is None and goes_on:
            found = self._recover(view)
        found = found or self._relocalise(view)
        self._lost = found is None
        if found is None:
            return self._report(view, None, False)
        # the map grows where it must
        self.map.found[found.points] += 1
        self._share += 0.1 * (found.fit.count / found.matches - self._share)
        pose, correction = found.fit.T_camera_world, None
        reference = self.map.keyframes[int(self._mapping.near(pose, found.root)[0])]
        keyframe = self._wants_keyframe(found, reference)
        if keyframe:
            reference = self._mapping.insert(
                view, pose, found.features, found.points, reference.number
            )
            correction = self._loops.close(reference.number) if self._config.close_loops else None
            pose, self._peak, self._since = reference.T_camera_world, 0, 0
        else:
            self._peak, self._since = max(self._peak, found.fit.count), self._since + 1
        self._root = reference.number
        self._path.add(stamp_ns, reference, pose)
        self._last = None if keyframe else (view, found)
        return self._report(view, found, keyframe, correction)

    def finish(self) -> None:
        """Nothing is pending: all work is done at the frame that asks for it."""

    @property
    def loops(self) -> list[tuple[int, int]]:
        """Numbers of the keyframes, old and new, of the loops closed so far."""
        return self._loops.closed

    @property
    def map(self) -> Map:
        return self._mapping.map

    def trajectory(self) -> Trajectory:
        """All tracked frames, each relative to its reference keyframe as it stands now."""
        return self._path.trajectory()

    def keyframe_poses(self) -> Trajectory:
        """The keyframes as they stand now."""
        return trajectory([(k.view.stamp_ns, k.T_camera_world) for k in self.map.keyframes])

    def cloud(self) -> MapCloud:
        """The map's points, coloured where images were given."""
        alive = self.map.alive
        return MapCloud(self.map.xyz[alive], self.map.rgb[alive] if self.map.coloured else None)

    def _begin(self, view: View) -> Track:
        if int((view.inverse_depth > 0).sum()) < MIN_FIRST_POINTS:
            return self._report(view, None, False)
        none = np.zeros(0, dtype=np.intp)
        keyframe = self._mapping.insert(view, np.eye(4), none, none)
        self._path.add(view.stamp_ns, keyframe, np.eye(4))
        self._lost = False
        points = keyframe.observed()[1]
        fit = PoseFit(np.eye(4), np.ones(len(points), bool), np.ones(len(points), bool),
                      np.zeros((6, 6)), 0.0)  # fmt: skip
        return self._report(view, _Found(fit, points, points, 0, 0), True)

    def _follow(self, view: View, T: np.ndarray, root: int, gate: float = 1.0) -> _Found | None:
        """Pose from the local map around a predicted pose, as far as it is linked with `root`."""
        keyframes = self._mapping.near(T, root)
        points, px = self._mapping.visible(T, keyframes)
        seen_px, gate_px = view.xy * self._focal, gate * self._config.gate_px
        pairs = match(
            view.descriptor,
            self.map.descriptor[points],
            self._config.min_cosine,
            Prior(seen_px, px, gate_px),
        )
        self._flops += pairs.flops
        found = self._solve(view, T, pairs.a, points[pairs.b], root)
        if found is None or gate < 1.0:
            return found
        # Where the prediction was far off, its prior misled the matching: once more, from here.
        offset = np.linalg.norm(seen_px[pairs.a] - px[pairs.b], axis=1)[found.fit.inliers]
        if np.median(offset) > 0.2 * gate_px:
            return self._follow(view, found.fit.T_camera_world, root, 0.5) or found
        return found

    def _recover(self, view: View) -> _Found | None:
        """Pose of a frame that lost the map, from the frame before: that becomes a keyframe."""
        if len(view) < self._config.min_inliers:
            return None
        if self._last is not None:
            last, found = self._last
            pose = self._path.last.T_camera_world()
            keyframe = self._mapping.insert(last, pose, found.features, found.points, self._root)
            self._path.last_is(keyframe)
            self._last, self._root, self._peak, self._since = None, keyframe.number, 0, 0
            follow = self._follow(view, self._path.predict(view.stamp_ns), self._root)
            if follow is not None:
                return follow
        return self._recognise(view, self._root)

    def _relocalise(self, view: View) -> _Found | None:
        """Pose from the keyframes that look like the view."""
        candidates, flops = self._mapping.places.query(view, self._config.min_cosine, CANDIDATES)
        self._flops += flops
        for candidate in candidates:
            found = self._recognise(view, candidate)
            if found is not None:
                return dataclasses.replace(found, relocalised=True)
        return None

    def _recognise(self, view: View, keyframe: int) -> _Found | None:
        """Pose from a keyframe's points, wherever the view is, then from the map around it."""
        _, points = self.map.keyframes[keyframe].observed()
        pairs = match(view.descriptor, self.map.descriptor[points], self._config.min_cosine)
        self._flops += pairs.flops
        points = points[pairs.b]
        threshold = np.sqrt(CHI2_PIXEL) * 2.0 / self._noise.fx
        pose = ransac_pose(self.map.xyz[points], view.xy[pairs.a], threshold)
        if pose is None or pose[1].sum() < self._config.min_inliers // 2:
            return None
        return self._follow(view, pose[0], keyframe)

    def _solve(self, view: View, T: np.ndarray, features: np.ndarray,
               points: np.ndarray, root: int) -> _Found | None:  # fmt: skip
        if len(features) < self._config.min_inliers:
            return None
        xyz, xy, depth = self.map.xyz[points], view.xy[features], view.inverse_depth[features]
        fit = refine_pose(T, xyz, xy, depth, self._noise)
        self._flops += fit.flops
        if fit.count < min(DOUBT, DROP * self._share) * len(features):
            # The prediction may have led into a local minimum: see what a consensus says.
            some = slice(None, None, -(-len(features) // CONSENSUS))
            pose = ransac_pose(xyz[some], xy[some], np.sqrt(CHI2_PIXEL) / self._noise.fx)
            other = None if pose is None else refine_pose(pose[0], xyz, xy, depth, self._noise)
            if other is not None:
                self._flops += other.flops
                fit = max(fit, other, key=lambda f: f.count)
        if fit.count < self._config.min_inliers:
            return None
        good = fit.inliers & (fit.depth_inliers | (depth <= 0))
        return _Found(fit, features[good], points[good], len(features), root)

    def _wants_keyframe(self, found: _Found, nearest: Keyframe) -> bool:
        config, pose = self._config, found.fit.T_camera_world
        if self._since < 1:
            return False
        motion = pose @ se3.inverse(nearest.T_camera_world)
        turn = np.degrees(np.arccos(np.clip(0.5 * (np.trace(motion[:3, :3]) - 1.0), -1.0, 1.0)))
        return bool(
            found.fit.count < config.keyframe_ratio * self._peak
            or np.linalg.norm(motion[:3, 3]) > config.keyframe_translation_m
            or turn > config.keyframe_rotation_deg
        )

    def _report(self, view: View, found: _Found | None, keyframe: bool,
                correction: np.ndarray | None = None) -> Track:  # fmt: skip
        counters = {"flops": self._flops + self._mapping.flops + self._loops.flops}
        if found is None:
            return Track(view.index, view.stamp_ns, "lost", None, counters=counters)
        pose = se3.inverse(self._path.last.T_camera_world())
        return Track(view.index, view.stamp_ns, "tracked", pose, found.matches, found.fit.count,
                     keyframe, found.relocalised, counters, correction)  # fmt: skip
