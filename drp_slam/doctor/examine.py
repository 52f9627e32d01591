# SPDX-License-Identifier: Apache-2.0
"""Examines the frames of a camera, recorded or live: measures single images, then checks all measurements."""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

import cv2
import numpy as np

from drp_slam.datatypes import Camera, Frame
from drp_slam.doctor.depths import DepthLook, check_depths, look_at_depth
from drp_slam.doctor.findings import Finding, worst_first
from drp_slam.doctor.intrinsics import check_correction, check_pair, matched_rows
from drp_slam.doctor.motion import Tracks, correction, tracks
from drp_slam.doctor.pictures import Look, check_looks, look_at

GAP_S = 0.25
"""Interval between images for measuring motion: long enough for motion, short enough for tracking."""
STALE_S = 0.6
"""An image that is held longer than this is no longer matched."""
KEPT = 40
"""Number of last measurements that count for a live camera; for recordings all count."""


@dataclass
class Examiner:
    """Takes samples of frames. `topics` names `image`, `depth`, `right` and `camera_info` in findings."""

    topics: Mapping[str, str]
    kept: int = KEPT
    looks: deque[Look] = field(init=False)
    depths: deque[DepthLook] = field(init=False)
    motions: deque[Tracks] = field(init=False)
    rows: deque[np.ndarray] = field(init=False)
    _camera: Camera | None = None
    _held: Frame | None = None

    def __post_init__(self) -> None:
        for name in ("looks", "depths", "motions", "rows"):
            setattr(self, name, deque(maxlen=self.kept))

    def sample(self, frame: Frame) -> None:
        """Measures one frame: about 30 ms for VGA."""
        assert frame.image is not None
        self._camera = frame.camera
        self.looks.append(look_at(frame.image))
        if frame.depth is not None:
            self.depths.append(look_at_depth(frame.depth, frame.depth_unit_m, frame.image))
        if frame.right is not None and frame.camera.right is None and frame.right.shape == frame.image.shape:
            self.rows.append(matched_rows(_grey(frame.image), _grey(frame.right)))
        if self._held is None and frame.depth is not None and frame.camera.fx > 0:
            self._held = dataclasses.replace(frame, image=_grey(frame.image))

    def follow(self, frame: Frame) -> None:
        """Call this with every frame: measures the motion since the last sample once that is `GAP_S` old."""
        held = self._held
        if held is None or frame.image is None:
            return
        age_s = (frame.stamp_ns - held.stamp_ns) * 1e-9
        if 0 <= age_s < GAP_S:
            return
        self._held = None
        if not 0 < age_s < STALE_S or held.depth is None or held.depth.shape[:2] != frame.image.shape[:2]:
            return
        assert held.image is not None
        moved = tracks(held.image, _grey(frame.image), held.depth, held.depth_unit_m, held.camera)
        if moved is not None:
            self.motions.append(moved)

    def findings(self, motion: bool = True) -> list[Finding]:
        """Findings so far; `motion` also checks the calibration, which takes a second for 40 pairs."""
        where = self.topics
        out = check_looks(self.looks, where["image"])
        if self.depths:
            out += check_depths(self.depths, where["depth"])
        if self.rows:
            out += check_pair(np.concatenate(list(self.rows)), where["right"])
        if motion and self.motions and self._camera is not None:
            out += check_correction(correction(self.motions, self._camera), self._camera, where["camera_info"])
        return worst_first(out)


def _grey(image: np.ndarray) -> np.ndarray:
    return image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
