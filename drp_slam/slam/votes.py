# SPDX-License-Identifier: Apache-2.0
"""The matches of a frame, with what each weighs in a fit and counts in the choice between fits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from drp_slam.slam.compiled import native
from drp_slam.slam.optimize import NEAR_M
from drp_slam.slam.trust import DOUBTED, HALF, IGNORED, UNTRIED, standing, weights
from drp_slam.slam.view import View

CELLS = 12
"""The image's width in cells. All matches in one cell share one vote: the area counts, not the texture."""
FARTHER = 2.0
"""A match counts in proportion to its depth, at most so many times more or less than a match at the median depth."""
_GATHERED = np.array([DOUBTED, HALF, IGNORED, UNTRIED, FARTHER, NEAR_M, CELLS])


@dataclass(frozen=True)
class Pairs:
    """Matches of a frame: map points xyz (N, 3), rays xy (N, 2), inverse_depth (N,), 0 for none.

    `weight` (N,) is the weight in the fit from the prediction, `vote` (N,) in the choice between fits; `far`
    (N,) bool marks the farther half of the matches.
    """

    xyz: np.ndarray
    xy: np.ndarray
    inverse_depth: np.ndarray
    weight: np.ndarray
    vote: np.ndarray
    far: np.ndarray

    def __len__(self) -> int:
        return len(self.xyz)

    def part(self, kept: np.ndarray) -> Pairs:
        """The matches marked or numbered in `kept`."""
        return Pairs(
            self.xyz[kept], self.xy[kept], self.inverse_depth[kept], self.weight[kept], self.vote[kept], self.far[kept]
        )


def votes(standing: np.ndarray, xy: np.ndarray, z_m: np.ndarray, bounds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(N,) votes of matches at rays xy (N, 2) and depths z_m (N,) with points of a `standing` (N,); which are far.

    `bounds` (2, 2) are the smallest and largest ray of the image.
    """
    step = (bounds[1, 0] - bounds[0, 0]) / CELLS
    cell = np.maximum((xy - bounds[0]) / step, 0.0).astype(np.intp)
    cell = cell[:, 0] + (CELLS + 1) * cell[:, 1]
    crowd = np.bincount(cell)[cell]
    far = np.clip(z_m / max(float(np.median(z_m)), NEAR_M), 1.0 / FARTHER, FARTHER)
    order = np.argsort(z_m)
    covered = np.cumsum(1.0 / crowd[order])
    behind = np.zeros(len(z_m), dtype=bool)
    behind[order[np.searchsorted(covered, 0.5 * covered[-1]) :]] = True
    return standing * far / crowd, behind


def gathered(
    xyz: np.ndarray,
    trust: np.ndarray,
    points: np.ndarray,
    view: View,
    features: np.ndarray,
    T_predicted: np.ndarray,
    bounds: np.ndarray,
) -> Pairs:
    """The matches of `points`, rows (N,) of xyz (M, 3) and trust (M,), with `features` (N,) of a view."""
    if native is None:
        xyz, xy, earned = xyz[points], view.xy[features], trust[points]
        vote, far = votes(standing(earned), xy, xyz @ T_predicted[2, :3] + T_predicted[2, 3], bounds)
        return Pairs(xyz, xy, view.inverse_depth[features], weights(earned), vote, far)
    n = len(points)
    each = np.empty((3, n))
    pairs = Pairs(np.empty((n, 3)), np.empty((n, 2)), each[0], each[1], each[2], np.empty(n, dtype=bool))
    into = pairs.xyz, pairs.xy, pairs.inverse_depth, pairs.weight, pairs.vote, pairs.far
    native.gather(points, features, xyz, trust, view.xy, view.inverse_depth, T_predicted, bounds, _GATHERED, *into)
    return pairs
