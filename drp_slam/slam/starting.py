# SPDX-License-Identifier: Apache-2.0
"""How a map, or another part of it, begins with a camera that measures depth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from drp_slam.slam.consensus import Consensus
from drp_slam.slam.localise import Found
from drp_slam.slam.mapping import Mapping
from drp_slam.slam.optimize import PoseFit
from drp_slam.slam.trust import FIRST
from drp_slam.slam.view import View

MIN_FIRST_POINTS = 50
"""Features with depth that the first frame must have."""


@dataclass(frozen=True)
class Begun:
    """The first `keyframes` of a map with their stamps in ns, and how the last one was tracked."""

    keyframes: dict[int, int]
    found: Found


def begin_with_depth(mapping: Mapping, view: View, T_camera_world: np.ndarray) -> Begun | None:
    """A map of one keyframe at `T_camera_world`; None with too few features with depth."""
    if int((view.inverse_depth > 0).sum()) < MIN_FIRST_POINTS:
        return None
    slam_map, none = mapping.map, np.zeros(0, dtype=np.intp)
    keyframe = mapping.insert(view, T_camera_world, none, none)
    points = slam_map.observed(keyframe)[1]
    slam_map.points.trust[points] = FIRST
    fit = PoseFit(T_camera_world, np.zeros((6, 6)), np.zeros(len(points)), np.zeros(len(points)), 0.0)
    return Begun({keyframe: view.stamp_ns}, Found(Consensus(fit, 1.0), none, points, points, none, 0.0, keyframe))
