# SPDX-License-Identifier: Apache-2.0
"""The work of a frame: what the model of the chip's cores prices."""

from __future__ import annotations

from collections.abc import Mapping

FRAME_CALLS, KEYFRAME_CALLS, SEARCH_CALLS = 68.0, 130.0, 72.0
"""Calls into numpy, OpenCV and the compiled kernels that a frame makes, a keyframe more, and a search for groups of
matches (`consensus`) more. Counted by `evaluation.calls` and fitted to freiburg1_xyz; 70, 105 and 91 on kitti_clip."""


class WorkCounter:
    """What all that was given this counter took, since the last `take`: `device.COUNTERS` by name."""

    def __init__(self) -> None:
        self._counters = {"flops": 0.0}

    def add(self, flops: float) -> None:
        """Counts floating-point operations."""
        self._counters["flops"] += flops

    def call(self, calls: float) -> None:
        """Counts calls from Python into libraries."""
        self.add_all({"calls": calls})

    def add_all(self, counters: Mapping[str, float]) -> None:
        """Counts operations of any kind."""
        for name, count in counters.items():
            self._counters[name] = self._counters.get(name, 0.0) + count

    def take(self) -> dict[str, float]:
        """The counters of `Track`; counting starts again from zero."""
        counters, self._counters = self._counters, {"flops": 0.0}
        return counters
