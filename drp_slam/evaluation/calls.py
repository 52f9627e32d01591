# SPDX-License-Identifier: Apache-2.0
"""Counts the calls from Python into libraries for each frame; on a small core each call costs its dispatch.

It counts calls of compiled functions and methods of numpy, OpenCV, onnxruntime and the tracker's kernels. Python's
profiling hook misses operators on arrays (`a + b`) and ufuncs called by name, so the count is a lower bound.
"""

from __future__ import annotations

import cProfile
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from types import FrameType
from typing import Any

import numpy as np

from drp_slam.config import Config
from drp_slam.data.sequence import Sequence
from drp_slam.frontend.depth_sensor import open_sensor
from drp_slam.frontend.front_end import open_front_end
from drp_slam.pipeline import TRACK
from drp_slam.slam.map import Map
from drp_slam.slam.tracker import Tracker

FRAMES = 20
"""Number of frames counted, from the start of the sequence."""
LIBRARIES = ("numpy", "cv2", "onnxruntime", "drp_slam.slam._native")


class Counter:
    """Calls so far."""

    def __init__(self) -> None:
        self.count = 0

    def hook(self, _: FrameType, event: str, function: Any) -> None:
        """A profile function of the interpreter."""
        if event == "c_call":
            owner = getattr(function, "__self__", None)
            module = getattr(function, "__module__", None) or type(owner).__module__
            self.count += isinstance(owner, np.ndarray) or str(module).startswith(LIBRARIES)


@contextmanager
def counting() -> Iterator[Counter]:
    """Counts the calls made inside the block, in this thread; a profiler that runs already is paused."""
    counter, before = Counter(), sys.getprofile()
    # cProfile is an object that the interpreter calls in C: it cannot be set again like a function
    paused = before if isinstance(before, cProfile.Profile) else None
    if paused:
        paused.disable()
    sys.setprofile(counter.hook)
    try:
        yield counter
    finally:
        sys.setprofile(None if paused else before)
        if paused:
            paused.enable()


def library_calls(sequence: Sequence, config: Config) -> dict[str, float]:
    """Stage -> calls per frame; all stages of a front end are counted as the first one."""
    front, sensor = open_front_end(config), open_sensor(sequence.camera, config.drp)
    tracker = Tracker(sensor.camera, config.slam, Map(front.descriptor))
    totals, frames = {front.stages[0].name: 0.0, TRACK.name: 0.0}, 0
    for frame in islice(iter(sequence), FRAMES):
        frame, _ = sensor.before(frame)
        with counting() as made:
            features, _ = front(frame)
        totals[front.stages[0].name] += made.count
        features, _ = sensor.after(frame, features)
        with counting() as made:
            tracker.track(frame, features)
        totals[TRACK.name] += made.count
        frames += 1
    return {stage: total / max(frames, 1) for stage, total in totals.items()}
