# SPDX-License-Identifier: Apache-2.0
"""Place recognition: which keyframes show what a view shows.

Every keyframe keeps its best descriptors; one matrix product compares a view with all of them,
and each of the view's descriptors votes for the keyframes that hold something like it.
"""

from __future__ import annotations

import numpy as np

from drp_slam.slam.descriptors import comparing, unit, width
from drp_slam.slam.map import Map
from drp_slam.slam.view import View

KEPT = 128
"""Descriptors kept of each keyframe."""
ASKED = 256
"""Descriptors of a view that vote where it is lost."""


class Places:
    """The keyframes of a map by appearance: derived from the map, and nothing but a faster form of it."""

    def __init__(self, slam_map: Map) -> None:
        self._map = slam_map
        self._descriptors = np.zeros((16, KEPT, width(slam_map.spec)), dtype=np.float32)
        self._count = 0
        self.update()

    def update(self) -> None:
        """Takes in the keyframes that are new; features are best first, so the first are kept."""
        for view in self._map.views[self._count :]:
            if self._count == len(self._descriptors):
                self._descriptors = np.concatenate([self._descriptors, np.zeros_like(self._descriptors)])
            kept = unit(self._map.spec, view.descriptor[:KEPT])
            self._descriptors[self._count, : len(kept)] = kept
            self._count += 1

    def votes(self, view: View, min_cosine: float, asked: int = ASKED) -> tuple[np.ndarray, dict[str, float]]:
        """(K,) how many of the view's `asked` best descriptors each keyframe holds, and the work by counter."""
        asking = unit(self._map.spec, view.descriptor[:asked])
        if not self._count or not len(asking):
            return np.zeros(self._count, dtype=np.intp), {}
        stored = self._descriptors[: self._count].reshape(-1, self._descriptors.shape[2])
        best = (asking @ stored.T).reshape(len(asking), self._count, KEPT).max(axis=2)
        return (best >= min_cosine).sum(axis=0), comparing(self._map.spec, float(len(stored) * len(asking)))

    def query(self, view: View, min_cosine: float, limit: int) -> tuple[list[int], dict[str, float]]:
        """Numbers of the keyframes with most votes, best first, and the work by counter."""
        votes, counters = self.votes(view, min_cosine)
        order = np.argsort(-votes, kind="stable")[:limit]
        return [int(k) for k in order if votes[k] > 0], counters
