# SPDX-License-Identifier: Apache-2.0
"""The work of a frame: what the model of the chip's cores prices."""

from __future__ import annotations


class WorkCounter:
    """Floating-point operations of all that was given this counter, since the last `take`."""

    def __init__(self) -> None:
        self._flops = 0.0

    def add(self, flops: float) -> None:
        """Counts operations."""
        self._flops += flops

    def take(self) -> dict[str, float]:
        """The counters of `Track`; counting starts again from zero."""
        flops, self._flops = self._flops, 0.0
        return {"flops": flops}
