# SPDX-License-Identifier: Apache-2.0
"""Object detection beside SLAM: a detector on the accelerator that also runs the feature network."""

from __future__ import annotations

from drp_slam.config import Config
from drp_slam.datatypes import Detections, Frame
from drp_slam.device import Device, StageRun, stage_run
from drp_slam.drpai3.detect import Detector, Due, open_detector
from drp_slam.drpai3.perceive import open_accelerator
from drp_slam.frontend.front_end import Stage

DETECT = Stage("detect", "drpai3")
"""Stage that runs in parallel with feature extraction and tracking; the pose does not wait for it."""


class Recogniser:
    """`recognise(frame) -> (detections or None, runs)`: detects on every n-th frame, or at its own rate.

    The choice of frames depends only on their stamps and order, so runs are repeatable.
    """

    def __init__(self, detector: Detector, due: Due) -> None:
        self._detector, self._due = detector, due

    def __call__(self, frame: Frame) -> tuple[Detections | None, tuple[StageRun, ...]]:
        """Boxes in pixels of the frame's image; None for a frame without detection."""
        if frame.image is None or not self._due(frame.stamp_ns):
            return None, ()
        found, run = self._detector(frame.image)
        return found, (stage_run(DETECT.name, DETECT.unit, [run]),)


def open_recogniser(config: Config, accelerator: Device | None) -> Recogniser | None:
    """The detector of `drpai3.detector`, on the front end's accelerator or, without one, on its own.

    None without a detector. Raises as `open_detector` does.
    """
    if not config.drpai3.detector:
        return None
    detector = open_detector(accelerator or open_accelerator(config.drpai3), config.drpai3)
    return None if detector is None else Recogniser(detector, Due.of(config.drpai3))
