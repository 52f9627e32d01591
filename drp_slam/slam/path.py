# SPDX-License-Identifier: Apache-2.0
"""The way of the camera: every tracked frame relative to its reference keyframe."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from drp_slam import geometry
from drp_slam.datatypes import Trajectory
from drp_slam.slam.map import Keyframe

LONGEST_GAP = 3.0
"""Motion is predicted over at most so many of the intervals it was seen in."""


@dataclass(frozen=True)
class Stop:
    """One tracked frame. It moves with its keyframe."""

    stamp_ns: int
    reference: Keyframe
    T_camera_reference: np.ndarray

    def T_camera_world(self) -> np.ndarray:
        return self.T_camera_reference @ self.reference.T_camera_world


class Path:
    """Tracked frames in order."""

    def __init__(self) -> None:
        self._stops: list[Stop] = []

    def __len__(self) -> int:
        return len(self._stops)

    @property
    def last(self) -> Stop:
        return self._stops[-1]

    def add(self, stamp_ns: int, reference: Keyframe, T_camera_world: np.ndarray) -> None:
        """The next frame, by its pose in the world as the map stands now."""
        relative = T_camera_world @ geometry.inverse(reference.T_camera_world)
        self._stops.append(Stop(stamp_ns, reference, relative))

    def last_is(self, keyframe: Keyframe) -> None:
        """The last frame has become a keyframe itself."""
        self._stops[-1] = Stop(self.last.stamp_ns, keyframe, np.eye(4))

    def predict(self, stamp_ns: int) -> np.ndarray:
        """`T_camera_world` if the last motion goes on."""
        last = self._stops[-1]
        T = last.T_camera_world()
        if len(self._stops) < 2:
            return T
        before = self._stops[-2]
        rate = (stamp_ns - last.stamp_ns) / max(last.stamp_ns - before.stamp_ns, 1)
        if not 0.0 < rate <= LONGEST_GAP:
            return T
        motion = T @ geometry.inverse(before.T_camera_world())
        scaled = np.eye(4)
        scaled[:3, :3] = cv2.Rodrigues(rate * cv2.Rodrigues(motion[:3, :3])[0])[0]
        scaled[:3, 3] = rate * motion[:3, 3]
        return scaled @ T

    def trajectory(self) -> Trajectory:
        """All frames by stamp, each relative to its reference keyframe as it stands now.

        Of frames with one stamp (a recording in a loop) the last one counts.
        """
        return trajectory([(s.stamp_ns, s.T_camera_world()) for s in self._stops])


def trajectory(poses: list[tuple[int, np.ndarray]]) -> Trajectory:
    """Of stamps and `T_camera_world`, in any order; of one stamp's poses the last."""
    inverse = Trajectory.of(poses)
    return Trajectory(inverse.stamps_ns, geometry.inverse(inverse.T_world_camera))
