# SPDX-License-Identifier: Apache-2.0
"""Why a frame was not tracked: read `why_lost` first."""

from __future__ import annotations

import numpy as np

from drp_slam.datatypes import Frame, Reason
from drp_slam.slam.view import View

DARK, BRIGHT = 16.0, 245.0
"""Mean grey levels below and above which an image is unusable."""
BLURRED = 0.4
"""An image with less than this ratio of the usual sharpness is blurred."""
GAP_NS = 1_000_000_000
"""After a longer time without a frame the camera may be anywhere."""
RECENT = 0.2
"""Weight of the newest keyframe in the usual sharpness."""
MANY = 4
"""With this many times the minimum number of matches, a pose is not missing for lack of matches."""
UNKNOWN_PLACE = (Reason.NO_OVERLAP, Reason.MOVING_THINGS, Reason.TIME_GAP)
"""Why a good frame is lost in an unknown place; things there may look like mapped ones without agreeing."""
NEW_MAP_FEATURES = 150
"""Features, with depth unless the camera has none, that the first frame of another part of the map must have."""
ROWS = 8
"""Only every n-th row of an image is examined."""


class Diagnosis:
    """Compares a lost frame with the usual sharpness of images."""

    def __init__(self, unmapped: Reason = Reason.NO_DEPTH) -> None:
        """`unmapped` is the reason given when a good frame with features cannot begin a map."""
        self._usual: float | None = None
        self._unmapped = unmapped

    def learn(self, frame: Frame) -> None:
        """Updates the usual sharpness from a frame that has become a keyframe."""
        sharpness = _grey_and_sharpness(frame.image)[1]
        if sharpness is not None:
            self._usual = sharpness if self._usual is None else self._usual + RECENT * (sharpness - self._usual)

    def why_lost(self, frame: Frame, view: View, least: int, first: bool, gap_ns: int, matches: int) -> Reason:
        """The first reason that applies.

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


class UnknownPlace:
    """Measures how long the camera has been in a place that the map does not show."""

    def __init__(self, with_depth: bool) -> None:
        self._with_depth = with_depth
        self._since_ns: int | None = None

    def leave(self) -> None:
        """A frame was tracked, or another part of the map was begun."""
        self._since_ns = None

    def stay(self, view: View, reason: Reason, patience_s: float) -> bool:
        """A frame was lost: whether to begin another part of the map with it. Never with a `patience_s` of 0."""
        if reason not in UNKNOWN_PLACE:
            self._since_ns = None
            return False
        if self._since_ns is None:
            self._since_ns = view.stamp_ns
        waited = 0.0 < patience_s <= (view.stamp_ns - self._since_ns) / 1e9
        usable = int((view.inverse_depth > 0).sum()) if self._with_depth else len(view)
        return waited and usable >= NEW_MAP_FEATURES


def _grey_and_sharpness(image: np.ndarray | None) -> tuple[float | None, float | None]:
    """Mean grey level (of green), and mean difference of neighbours in a row; None without an image."""
    if image is None:
        return None, None
    rows = image[ROWS // 2 :: ROWS]
    grey = (rows if rows.ndim == 2 else rows[..., 1]).astype(np.int16)
    step = np.abs(grey[:, 1:] - grey[:, :-1])
    return int(grey.sum()) / max(grey.size, 1), int(step.sum()) / max(step.size, 1)
