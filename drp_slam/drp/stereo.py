# SPDX-License-Identifier: Apache-2.0
"""Kernels that measure depth from a stereo pair: at every pixel, or at keypoints only."""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np

from drp_slam.drp.kernels import Arrays, Kernel

COARSE = 4
"""Factor by which the images of the coarse search are smaller."""
COARSE_RADIUS, FINE_RADIUS = 3, 5
"""Half the sides of the compared patches, in pixels of the coarse and of the full image."""
REFINED = 5
"""Disparities on each side of the coarse one that are compared in the full images."""
UNIQUENESS = 0.85
"""The best coarse difference must be less than this share of the next best one elsewhere."""
MEAN_DIFFERENCE = 24.0
"""Largest mean difference of patches of one point, in grey values, after subtracting their means."""


UNEXPLAINED = 0.7
"""Largest mean difference relative to the mean contrast of the patch. Patches of noise alone reach 1.2 to 1.4, whatever
their disparity; 0.7 is a correlation of 0.75."""


class DisparityDepth(Kernel):
    """(H, W) int16 disparity x 16 -> (H, W) float32 metres, 0 where there is none. Custom."""

    name, place, kind = "disparity_depth", "custom", "point"

    def __init__(self, focal_baseline_px_m: float, least_px: float = 1.0) -> None:
        self._numerator, self._least = np.float32(16.0 * focal_baseline_px_m), round(16 * least_px)

    def compute(self, *inputs: np.ndarray) -> Arrays:
        disparity = inputs[0]
        depth = np.zeros(disparity.shape, np.float32)
        np.divide(self._numerator, disparity, out=depth, where=disparity >= self._least, casting="unsafe")
        return (depth,)

    def empty(self, *inputs: np.ndarray) -> Arrays:
        return (np.zeros(inputs[0].shape, np.float32),)

    def counters(self, *inputs: np.ndarray) -> Mapping[str, float]:
        return {"pixels": inputs[0].size, "flops": inputs[0].size, "bytes": 6 * inputs[0].size}


class MatchRows(Kernel):
    """Left and right (H, W) uint8, (n, 2) float32 keypoints x y of the left -> (n,) float32 disparity in pixels.

    Sums of absolute differences along the row: coarse over all disparities, then in the full images around the
    best, refined by a parabola. 0 where the match is ambiguous, poor, or leaves the image. Runs on the CPU: a
    thousand keypoints with random reads.
    """

    name, place, kind = "match_rows", "cpu", "gather"

    def __init__(self, disparities: int) -> None:
        self._coarse = -(-disparities // COARSE)

    def compute(self, *inputs: np.ndarray) -> Arrays:
        left, right, uv = inputs
        if not len(uv):
            return (np.zeros(0, np.float32),)
        small = (left.shape[1] // COARSE, left.shape[0] // COARSE)
        ratio = np.array(small) / left.shape[::-1]
        xy = np.rint((uv + 0.5) * ratio - 0.5).astype(np.int32)
        one, other = (cv2.resize(image, small, interpolation=cv2.INTER_AREA) for image in (left, right))
        first = np.zeros(len(uv), np.int32)
        cost, _ = differences(one, other, xy, first, self._coarse, COARSE_RADIUS)
        each, best = np.arange(len(uv)), cost.argmin(axis=1)
        found = cost[each, best].copy()
        for step in (-1, 0, 1):  # neighbours of the best do not count as rivals
            cost[each, np.clip(best + step, 0, self._coarse - 1)] = np.inf
        unique = found < UNIQUENESS * cost.min(axis=1)

        xy = np.rint(uv).astype(np.int32)
        first = np.maximum(np.rint(best / ratio[0]).astype(np.int32) - REFINED, 0)
        cost, contrast = differences(left, right, xy, first, 2 * REFINED + 1, FINE_RADIUS)
        best = cost.argmin(axis=1)
        inner = (best > 0) & (best < 2 * REFINED) & (xy[:, 0] - first - best >= 0)
        at = np.clip(best, 1, 2 * REFINED - 1)
        before, middle, after = cost[each, at - 1], cost[each, at], cost[each, at + 1]
        bend = before - 2.0 * middle + after
        disparity = first + at + (before - after) / (2.0 * np.maximum(bend, 1e-6))
        explained = middle < np.minimum(MEAN_DIFFERENCE, UNEXPLAINED * contrast)
        good = unique & inner & (bend > 0) & explained & (disparity > 0)
        return (np.where(good, disparity, 0.0).astype(np.float32),)

    def empty(self, *inputs: np.ndarray) -> Arrays:
        return (np.zeros(len(inputs[2]), np.float32),)

    def counters(self, *inputs: np.ndarray) -> Mapping[str, float]:
        patches = self._coarse * (2 * COARSE_RADIUS + 1) ** 2 + (2 * REFINED + 1) * (2 * FINE_RADIUS + 1) ** 2
        read = len(inputs[2]) * patches
        return {"pixels": read, "ops": 3 * read + 2 * inputs[0].size, "bytes": read + 2 * inputs[0].size}


def differences(
    left: np.ndarray, right: np.ndarray, xy: np.ndarray, first: np.ndarray, count: int, radius: int
) -> tuple[np.ndarray, np.ndarray]:
    """(n, count) float32: mean absolute difference of patches, less their means, at disparities from `first` on;
    (n,) float32: contrast, the same measure of each left patch alone.

    `xy` (n, 2) int32 in the left image. The border pixels are repeated outside the images.
    """
    pad, side = radius + count, 2 * radius + 1
    around = [cv2.copyMakeBorder(i, radius, radius, pad + radius, radius, cv2.BORDER_REPLICATE) for i in (left, right)]
    width = around[0].shape[1]
    window = (np.arange(side)[:, None] * width + np.arange(side)).ravel()
    corner = xy[:, 1] * width + xy[:, 0] + pad
    mine = around[0].ravel()[corner[:, None] + window].astype(np.float32)
    mine -= mine.mean(axis=1, keepdims=True)
    strip = (np.arange(side)[:, None] * width + np.arange(side + count - 1)).ravel()
    reach = np.minimum(first, xy[:, 0])  # no match beyond the border
    start = corner - reach - count + 1
    theirs = around[1].ravel()[start[:, None] + strip].reshape(len(xy), side, side + count - 1).astype(np.float32)
    cost = np.empty((len(xy), count), np.float32)
    for k in range(count):  # one step per disparity, each over all keypoints
        patch = theirs[:, :, count - 1 - k : count - 1 - k + side].reshape(len(xy), -1)
        cost[:, k] = np.abs(patch - patch.mean(axis=1, keepdims=True) - mine).mean(axis=1)
    return cost, np.abs(mine).mean(axis=1)
