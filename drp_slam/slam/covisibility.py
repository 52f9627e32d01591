# SPDX-License-Identifier: Apache-2.0
"""The covisibility graph: which keyframes see the same points, and how many."""

from __future__ import annotations

import numpy as np

NEIGHBOURS = 15
"""Keyframes that share as many points are neighbours (ORB-SLAM, Mur-Artal et al., T-RO 2015)."""


class Covisibility:
    """`shared[k][j]`: points that keyframes k and j shared when the later one was added. Symmetric.

    Every keyframe that sees a point is linked with the one that created it, so that the observers of a
    point are found without a search through all keyframes.
    """

    def __init__(self) -> None:
        self.shared: list[dict[int, int]] = []

    def link(self, one: int, other: int, shared: int) -> None:
        """Sets the number of points that two keyframes share."""
        self.shared[one][other] = self.shared[other][one] = shared

    def link_references(self, number: int, references: np.ndarray) -> None:
        """Links a keyframe with those that created points which it sees, unless linked already."""
        for reference in sorted(set(references.tolist())):
            if reference != number and reference not in self.shared[number]:
                self.link(number, reference, 1)

    def observers(self, references: np.ndarray) -> list[int]:
        """Numbers of all keyframes that may see points created by `references`, ascending."""
        numbers = set(references.tolist())
        return sorted(numbers.union(*(self.shared[k] for k in numbers)))

    def best(self, number: int, limit: int) -> list[int]:
        """Numbers of the keyframes that share most points with one, best first, itself excluded."""
        shared = self.shared[number]
        return sorted(shared, key=lambda k: (-shared[k], k))[:limit]

    def reach(self, number: int, hops: int) -> set[int]:
        """The keyframe and all that at most `hops` steps from neighbour to neighbour lead to."""
        inside = edge = {number}
        for _ in range(hops):
            edge = {k for e in edge for k, shared in self.shared[e].items() if shared >= NEIGHBOURS} - inside
            inside = inside | edge
        return inside

    def remove(self, number: int) -> None:
        """Removes all links of a keyframe."""
        for k in self.shared[number]:
            del self.shared[k][number]
        self.shared[number] = {}

    def rows(self) -> np.ndarray:
        """(L, 3) two keyframes, the smaller number first, and the points they shared; in ascending order."""
        rows = [(k, j, shared) for k, links in enumerate(self.shared) for j, shared in links.items() if k < j]
        return np.array(sorted(rows), dtype=np.int64).reshape(-1, 3)
