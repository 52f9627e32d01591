# SPDX-License-Identifier: Apache-2.0
"""Features without those on things that move by themselves."""

from __future__ import annotations

import numpy as np

from drp_slam.datatypes import Features


def outside(features: Features, boxes_px: np.ndarray) -> Features:
    """The features that lie in none of the boxes (N, 4): x0 y0 x1 y1 in the same pixels.

    Order and arrays' types stay; without boxes these are the same features.
    """
    if not len(boxes_px):
        return features
    u, v = features.uv[:, :1], features.uv[:, 1:]
    x0, y0, x1, y1 = np.asarray(boxes_px, np.float64).T
    keep = ~((u >= x0) & (u <= x1) & (v >= y0) & (v <= y1)).any(axis=1)
    return Features(features.uv[keep], features.score[keep], features.descriptor[keep])
