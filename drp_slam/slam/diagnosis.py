# SPDX-License-Identifier: Apache-2.0
"""Why a frame was not tracked: read `why_lost` first."""

from __future__ import annotations

import numpy as np

from drp_slam.datatypes import Frame, Reason
from drp_slam.slam.view import View

DARK, BRIGHT = 16.0, 245.0
"""Mean grey levels below and above which an image shows nothing."""
BLURRED = 0.4
"""An image with less than this part of the usual sharpness is blurred."""
GAP_NS = 1_000_000_000
"""After a longer time without a frame the camera may be anywhere."""
RECENT = 0.2
"""Weight of the newest keyframe in the usual sharpness."""
MANY = 4
"""With this many times the matches needed, a missing pose is not due to too few matches."""
ROWS = 8
"""Only every n-th row of an image is examined."""


class Diagnosis:
    """Knows how sharp images usually are."""

    def __init__(self, unmapped: Reason = Reason.NO_DEPTH) -> None:
        """`unmapped` is why a map does not begin with a frame that is good and has features."""
        self._usual: float | None = None
        self._unmapped = unmapped

    def learn(self, frame: Frame) -> None:
        """A frame that has become a keyframe."""
        sharpness = _grey_and_sharpness(frame.image)[1]
        if sharpness is not None:
            self._usual = sharpness if self._usual is None else self._usual + RECENT * (sharpness - self._usual)

    def why_lost(self, frame: Frame, view: View, least: int, first: bool, gap_ns: int, matches: int) -> Reason:
        """The first that applies.

        `least` features, or first features with depth, are needed; `first`: nothing is mapped yet;
        `gap_ns` since the frame before; `matches` is the most that any attempt to find a pose had.
        """
        grey, sharpness = _grey_and_sharpness(frame.image)
        blurred = sharpness is not None and self._usual is not None and sharpness < BLURRED * self._usual
        if grey is not None and grey < DARK:
            return Reason.TOO_DARK
        if grey is not None and grey > BRIGHT:
            return Reason.TOO_BRIGHT
        if len(view) < least:
            return Reason.BLURRED if blurred else Reason.FEW_FEATURES
        if first:
            return self._unmapped
        if gap_ns > GAP_NS:
            return Reason.TIME_GAP
        if blurred:
            return Reason.BLURRED
        return Reason.MOVING_THINGS if matches >= MANY * least else Reason.NO_OVERLAP


def _grey_and_sharpness(image: np.ndarray | None) -> tuple[float | None, float | None]:
    """Mean grey level (of green), and mean difference of neighbours in a row; None without an image."""
    if image is None:
        return None, None
    rows = image[ROWS // 2 :: ROWS]
    grey = (rows if rows.ndim == 2 else rows[..., 1]).astype(np.int16)
    return float(grey.mean()), float(np.abs(np.diff(grey, axis=1)).mean())
