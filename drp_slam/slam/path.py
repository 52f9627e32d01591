# SPDX-License-Identifier: Apache-2.0
"""The camera's path: every tracked frame relative to its reference keyframe."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from drp_slam import geometry
from drp_slam.datatypes import Trajectory
from drp_slam.slam.map import Map

LONGEST_GAP = 3.0
"""Motion is predicted over at most this many times the interval over which it was observed."""


@dataclass(frozen=True)
class TrackedFrame:
    """The pose of one frame relative to keyframe number `keyframe`, whose corrections move it too."""

    stamp_ns: int
    keyframe: int
    T_camera_keyframe: np.ndarray


class Path:
    """Tracked frames of one session in order, in the map that they were tracked in."""

    def __init__(self, slam_map: Map) -> None:
        self._map = slam_map
        self._frames: list[TrackedFrame] = []

    def __len__(self) -> int:
        return len(self._frames)

    @property
    def last_stamp_ns(self) -> int:
        """Stamp of the last frame; IndexError while there is none."""
        return self._frames[-1].stamp_ns

    @property
    def last_T_camera_world(self) -> np.ndarray:
        """(4, 4) current pose of the last frame; IndexError while there is none."""
        return self._pose(self._frames[-1])

    def add(self, stamp_ns: int, keyframe: int, T_camera_world: np.ndarray) -> None:
        """Append a frame by its current pose in the world."""
        relative = T_camera_world @ geometry.inverse(self._map.pose(keyframe))
        self._frames.append(TrackedFrame(stamp_ns, keyframe, relative))

    def last_is(self, keyframe: int) -> None:
        """The last frame has become a keyframe itself."""
        self._frames[-1] = TrackedFrame(self.last_stamp_ns, keyframe, np.eye(4))

    def predict(self, stamp_ns: int) -> np.ndarray:
        """`T_camera_world` if the last motion continues."""
        T = self.last_T_camera_world
        if len(self._frames) < 2:
            return T
        before, last = self._frames[-2:]
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
        for frame in self._frames:
            frames.setdefault(self._map.part[frame.keyframe], []).append(frame)
        longest = sorted(frames, key=lambda part: (-len(frames[part]), part))
        inverse = [Trajectory.of((f.stamp_ns, self._pose(f)) for f in frames[part]) for part in longest]
        return [Trajectory(t.stamps_ns, geometry.inverse(t.T_world_camera)) for t in inverse]

    def _pose(self, frame: TrackedFrame) -> np.ndarray:
        return frame.T_camera_keyframe @ self._map.pose(frame.keyframe)
