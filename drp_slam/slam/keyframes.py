# SPDX-License-Identifier: Apache-2.0
"""When a tracked frame becomes a keyframe."""

from __future__ import annotations

import numpy as np

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
        rotation_deg = np.degrees(np.arccos(np.clip(0.5 * (np.trace(motion[:3, :3]) - 1.0), -1.0, 1.0)))
        return bool(
            fit.count < config.keyframe_ratio * self._most_inliers
            or np.linalg.norm(motion[:3, 3]) > config.keyframe_translation_m
            or rotation_deg > config.keyframe_rotation_deg
        )
