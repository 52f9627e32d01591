# SPDX-License-Identifier: Apache-2.0
"""Place recognition: which keyframes show what this view shows.

Every keyframe keeps its best descriptors; one matrix product compares a view with all of them,
and each of the view's descriptors votes for the keyframes that hold something like it.
"""

from __future__ import annotations

import numpy as np

from drp_slam.datatypes import FEATURE_DIM
from drp_slam.slam.view import View

KEPT = 128
"""Descriptors kept of each keyframe."""
ASKED = 256
"""Descriptors of a view that vote where it is lost."""


class Places:
    """All keyframes by appearance."""

    def __init__(self) -> None:
        self._descriptors = np.zeros((16, KEPT, FEATURE_DIM), dtype=np.float32)
        self.count = 0

    def add(self, view: View) -> None:
        """The next keyframe; features are best first, so the first are kept."""
        if self.count == len(self._descriptors):
            self._descriptors = np.concatenate([self._descriptors, np.zeros_like(self._descriptors)])
        kept = view.descriptor[:KEPT]
        self._descriptors[self.count, : len(kept)] = kept
        self.count += 1

    def votes(self, view: View, min_cosine: float, asked: int = ASKED) -> tuple[np.ndarray, float]:
        """(K,) how many of the view's `asked` best descriptors each keyframe holds; flops."""
        descriptors = view.descriptor[:asked]
        if not self.count or not len(descriptors):
            return np.zeros(self.count, dtype=np.intp), 0.0
        stored = self._descriptors[: self.count].reshape(-1, FEATURE_DIM)
        best = (descriptors @ stored.T).reshape(len(descriptors), self.count, KEPT).max(axis=2)
        return (best >= min_cosine).sum(axis=0), 2.0 * FEATURE_DIM * len(descriptors) * len(stored)

    def query(self, view: View, min_cosine: float, limit: int) -> tuple[list[int], float]:
        """Numbers of the keyframes with most votes, best first, and the work in flops."""
        votes, flops = self.votes(view, min_cosine)
        order = np.argsort(-votes, kind="stable")[:limit]
        return [int(k) for k in order if votes[k] > 0], flops
