# SPDX-License-Identifier: Apache-2.0
"""What the map's points belong to, by vote: a detector's boxes over the frames that tracked the points."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np

from drp_slam.datatypes import Detections
from drp_slam.slam.map import Map

KEPT = 64
"""Frames whose points are remembered: a detector may answer as late as this."""
MOST_VOTES = 30
"""A point seen this often one way needs as many other views to change."""


class Labels:
    """Majority vote of every point's class (Boyer and Moore, 1981), in two numbers a point.

    A searched frame votes for each point that it was tracked by: for the class of the smallest box
    that holds the point's feature, or for no class. A point that goes through no box by mistake, or
    through one by chance, keeps the class of most of its views. `names` are the classes in the
    order in which they were first seen. Labels do not act on the map.
    """

    def __init__(self, slam_map: Map) -> None:
        self._map = slam_map
        self.names: list[str] = []
        self._label, self._votes = np.zeros(0, np.int16), np.zeros(0, np.int16)
        self._reference = np.zeros(0, np.intp)
        self._frames: OrderedDict[int, tuple[np.ndarray, np.ndarray, np.ndarray]] = OrderedDict()
        self._early: OrderedDict[int, Detections] = OrderedDict()
        self._searched = 0

    def seen(self, stamp_ns: int, uv: np.ndarray, points: np.ndarray) -> None:
        """A frame was tracked by `points` (N,), whose features lie at `uv` (N, 2) pixels."""
        self._frames[stamp_ns] = (uv, points, self._map.reference[points])
        if len(self._frames) > KEPT:
            self._frames.popitem(last=False)
        if stamp_ns in self._early:
            self.vote(stamp_ns, self._early.pop(stamp_ns))

    def vote(self, stamp_ns: int, found: Detections) -> int:
        """What was found in that frame; the number of points that voted.

        0 for a frame that is not tracked yet, whose points vote when it is, or that is long gone.
        """
        if stamp_ns not in self._frames:
            self._early[stamp_ns] = found
            if len(self._early) > KEPT:
                self._early.popitem(last=False)
            return 0
        uv, points, reference = self._frames.pop(stamp_ns)
        self._grow()
        self._searched += 1
        # the number of a dead point may have been given again, to a point of another keyframe
        same = self._map.alive[points] & (self._map.reference[points] == reference)
        points, new = points[same], self._labels(uv[same], found)
        label, votes = self._label[points], self._votes[points].astype(int)
        votes += np.where(label == new, 1, -1)
        changed = votes < 0
        self._label[points] = np.where(changed, new, label)
        self._votes[points] = np.minimum(np.where(changed, 1, votes), MOST_VOTES)
        return len(points)

    def columns(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Of all points of the map, (M,) int16 each: index into `names`, -1 for none, and its lead in votes.

        None while no frame was searched.
        """
        if not self._searched:
            return None
        self._grow()
        return self._label, self._votes

    def _labels(self, uv: np.ndarray, found: Detections) -> np.ndarray:
        """(N,) index of the class of the smallest box around each pixel, -1 outside of all."""
        label = np.full(len(uv), -1, np.int16)
        x0, y0, x1, y1 = found.boxes_px.reshape(-1, 4).T
        for k in np.argsort(-(x1 - x0) * (y1 - y0), kind="stable").tolist():
            if found.label[k] not in self.names:
                self.names.append(found.label[k])
            inside = (uv[:, 0] >= x0[k]) & (uv[:, 0] <= x1[k]) & (uv[:, 1] >= y0[k]) & (uv[:, 1] <= y1[k])
            label[inside] = self.names.index(found.label[k])
        return label

    def _grow(self) -> None:
        """Rows for points that are new; a number that was given again starts without votes."""
        more = self._map.size - len(self._label)
        self._label = np.concatenate([self._label, np.full(more, -1, np.int16)])
        self._votes = np.concatenate([self._votes, np.zeros(more, np.int16)])
        self._reference = np.concatenate([self._reference, np.full(more, -1, np.intp)])
        new = self._reference != self._map.reference
        self._label[new], self._votes[new] = -1, 0
        self._reference = self._map.reference.copy()
