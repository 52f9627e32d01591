# SPDX-License-Identifier: Apache-2.0
"""Removes the features on objects that move by themselves."""

from __future__ import annotations

import numpy as np

from drp_slam.datatypes import Features

PERSON = "person"
OLDEST_NS = 1_000_000_000
"""Boxes further than this from a frame are too old to mask it."""


def outside(features: Features, boxes_px: np.ndarray) -> Features:
    """The features that lie in none of the boxes (N, 4): x0 y0 x1 y1 in the same pixels.

    Order and arrays' types stay; without boxes these are the same features.
    """
    if not len(boxes_px):
        return features
    u, v = features.uv[:, :1], features.uv[:, 1:]
    x0, y0, x1, y1 = np.asarray(boxes_px, np.float64).T
    keep = ~((u >= x0) & (u <= x1) & (v >= y0) & (v <= y1)).any(axis=1)
    depth_m = None if features.depth_m is None else features.depth_m[keep]
    return Features(features.uv[keep], features.score[keep], features.descriptor[keep], depth_m)


class Masked:
    """Masks features with the newest boxes, for at most a second."""

    def __init__(self) -> None:
        self._boxes_px, self._stamp_ns = np.zeros((0, 4)), 0

    def update(self, boxes_px: np.ndarray, stamp_ns: int) -> None:
        """The newest boxes (N, 4), of a frame with that stamp."""
        self._boxes_px, self._stamp_ns = boxes_px, stamp_ns

    def visible(self, features: Features, stamp_ns: int) -> Features:
        """The features that lie in no box."""
        return features if abs(stamp_ns - self._stamp_ns) > OLDEST_NS else outside(features, self._boxes_px)
