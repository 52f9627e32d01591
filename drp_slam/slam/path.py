# SPDX-License-Identifier: Apache-2.0
"""The camera's path: every tracked frame relative to its reference keyframe."""

from __future__ import annotations

from array import array
from dataclasses import dataclass

import cv2
import numpy as np

from drp_slam import geometry
from drp_slam.datatypes import Trajectory
from drp_slam.slam.map import Map
from drp_slam.slam.points import GROWTH, grown

LONGEST_GAP = 3.0
"""Motion is predicted over at most this many times the interval over which it was observed."""


@dataclass(frozen=True)
class TrackedFrame:
    """The pose of one frame relative to keyframe number `keyframe`, whose corrections move it too."""

    stamp_ns: int
    keyframe: int
    T_camera_keyframe: np.ndarray


class Path:
    """Tracked frames of one session in order, in the map that they were tracked in: 144 bytes a frame."""

    def __init__(self, slam_map: Map) -> None:
        self._map = slam_map
        self._stamps_ns, self._keyframes = array("q"), array("q")
        self._T_camera_keyframe = np.zeros((1024, 4, 4))

    def __len__(self) -> int:
        return len(self._stamps_ns)

    @property
    def last_stamp_ns(self) -> int:
        """Stamp of the last frame; IndexError while there is none."""
        return self._stamps_ns[-1]

    @property
    def last_T_camera_world(self) -> np.ndarray:
        """(4, 4) current pose of the last frame; IndexError while there is none."""
        return self._pose(self._frame(len(self) - 1))

    def add(self, stamp_ns: int, keyframe: int, T_camera_world: np.ndarray) -> None:
        """Append a frame by its current pose in the world."""
        number = len(self)
        if number == len(self._T_camera_keyframe):
            self._T_camera_keyframe = grown(self._T_camera_keyframe, number + number // GROWTH)
        self._stamps_ns.append(stamp_ns)
        self._keyframes.append(keyframe)
        self._T_camera_keyframe[number] = T_camera_world @ geometry.inverse(self._map.pose(keyframe))

    def last_is(self, keyframe: int) -> None:
        """The last frame has become a keyframe itself."""
        self._keyframes[-1] = keyframe
        self._T_camera_keyframe[len(self) - 1] = np.eye(4)

    def _frame(self, number: int) -> TrackedFrame:
        return TrackedFrame(self._stamps_ns[number], self._keyframes[number], self._T_camera_keyframe[number])

    def predict(self, stamp_ns: int) -> np.ndarray:
        """`T_camera_world` if the last motion continues."""
        T = self.last_T_camera_world
        if len(self) < 2:
            return T
        before, last = self._frame(len(self) - 2), self._frame(len(self) - 1)
        rate = (stamp_ns - last.stamp_ns) / max(last.stamp_ns - before.stamp_ns, 1)
        if not 0.0 < rate <= LONGEST_GAP:
            return T
        motion = T @ geometry.inverse(self._pose(before))
        scaled = np.eye(4)
        scaled[:3, :3] = cv2.Rodrigues(rate * cv2.Rodrigues(motion[:3, :3])[0])[0]
        scaled[:3, 3] = rate * motion[:3, 3]
        return scaled @ T

    def trajectories(self) -> list[Trajectory]:
        """All frames by stamp, each from the current pose of its reference keyframe: one trajectory per part of the
        map, longest first.

        Of frames with one stamp (a recording in a loop) the last one counts.
        """
        frames: dict[int, list[TrackedFrame]] = {}
        for frame in map(self._frame, range(len(self))):
            frames.setdefault(self._map.part[frame.keyframe], []).append(frame)
        longest = sorted(frames, key=lambda part: (-len(frames[part]), part))
        inverse = [Trajectory.of((f.stamp_ns, self._pose(f)) for f in frames[part]) for part in longest]
        return [Trajectory(t.stamps_ns, geometry.inverse(t.T_world_camera)) for t in inverse]

    def _pose(self, frame: TrackedFrame) -> np.ndarray:
        return frame.T_camera_keyframe @ self._map.pose(frame.keyframe)
