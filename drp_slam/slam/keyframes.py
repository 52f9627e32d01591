# SPDX-License-Identifier: Apache-2.0
"""When a tracked frame becomes a keyframe."""

from __future__ import annotations

import math

from drp_slam import geometry
from drp_slam.slam.mapping import Mapping
from drp_slam.slam.optimize import PoseFit


class KeyframePolicy:
    """Compares each frame with the frames since the last keyframe."""

    def __init__(self, mapping: Mapping) -> None:
        self._mapping = mapping
        self._most_inliers = self._frames = 0

    def restart(self) -> None:
        """A keyframe was inserted."""
        self._most_inliers = self._frames = 0

    def count(self, fit: PoseFit) -> None:
        """A frame was tracked that did not become a keyframe."""
        self._most_inliers, self._frames = max(self._most_inliers, fit.count), self._frames + 1

    def wants(self, fit: PoseFit, nearest: int) -> bool:
        """Whether inliers were lost since the last keyframe, or the camera is far from keyframe `nearest`."""
        config, slam_map = self._mapping.config, self._mapping.map
        if self._frames < 1:
            return False
        motion = fit.T_camera_world @ geometry.inverse(slam_map.T_camera_world[nearest])
        (a, _, _, x), (_, b, _, y), (_, _, c, z), _ = motion.tolist()
        rotation_deg = math.degrees(math.acos(min(max(0.5 * (a + b + c - 1.0), -1.0), 1.0)))
        return (
            fit.count < config.keyframe_ratio * self._most_inliers
            or math.sqrt(x * x + y * y + z * z) > config.keyframe_translation_m
            or rotation_deg > config.keyframe_rotation_deg
        )
