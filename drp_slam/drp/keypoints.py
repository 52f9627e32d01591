# SPDX-License-Identifier: Apache-2.0
"""Kernels that turn the network's heads into keypoints and descriptors.

The definition is XFeat's `detectAndCompute` (Potje et al., CVPR 2024; Apache-2.0): softmax over
the 65 logits of an 8 x 8 cell, non-maximum suppression in the heatmap, score = heatmap x
reliability (bilinear), descriptors sampled bicubically from the map of unit vectors.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import cv2
import numpy as np

from drp_slam.card import Card, Head
from drp_slam.datatypes import FEATURE_DIM
from drp_slam.drp.kernels import Arrays, Kernel
from drp_slam.drp.sampling import cubic_taps, inverse_length, linear_taps

CELL_PX = 8
LOGITS = CELL_PX * CELL_PX + 1
PART = 128
"""Features sampled per block, so that their 16 x 64 neighbours (0.5 MB) stay in the cache."""


def dequantise(heads: np.ndarray, head: Head) -> np.ndarray:
    """Channels of one head as float32 (h, w, channels)."""
    part = heads[..., head.first : head.last]
    if heads.dtype == np.float32:
        return part
    value = part.astype(np.float32)
    if head.quantisation.zero_point:
        value -= np.float32(head.quantisation.zero_point)
    value *= np.float32(head.quantisation.scale)
    return value


class Heatmap(Kernel):
    """(h, w, C) heads -> (8h, 8w) float32: probability that a pixel is a keypoint.

    Softmax over the 65 logits of a cell; the last ("none") is then dropped. The logits are laid out
    as an image first, so that later steps run along rows. int8: the cell's peak minus the logit is
    0..255, so exp is a table of 256 entries and never overflows. PreRuntime has a Softmax.
    """

    name, place, kind = "heatmap", "preruntime", "point"

    def __init__(self, card: Card) -> None:
        self._head = card.heads["keypoints"]
        steps = np.arange(256, dtype=np.float64) * -self._head.quantisation.scale
        self._exp = np.exp(steps).astype(np.float32)

    def compute(self, *inputs: np.ndarray) -> Arrays:
        heads = inputs[0]
        h, w = heads.shape[:2]
        none = np.ascontiguousarray(heads[..., self._head.last - 1])
        image = self._as_image(heads)
        peak = np.maximum(image.max(axis=1).reshape(h, w, CELL_PX).max(axis=2), none)
        heat = self._power(_spread(peak), image)
        total = heat.sum(axis=1).reshape(h, w, CELL_PX).sum(axis=2)
        total += self._power(peak, none)
        heat *= _spread(1.0 / total)
        return (heat.reshape(h * CELL_PX, w * CELL_PX),)

    def _as_image(self, heads: np.ndarray) -> np.ndarray:
        """The 64 logits of each cell as (h, 8, 8w): row `8 y + r` of the image is [y, r]."""
        h, w = heads.shape[:2]
        cells = np.ascontiguousarray(heads[..., self._head.first : self._head.last - 1])
        # the 8 pixels of a cell's row move as one item
        row = cells.view(np.dtype((np.void, CELL_PX * heads.dtype.itemsize)))
        if heads.dtype == np.int8:
            row = cells.view(np.uint64)
        rows = np.ascontiguousarray(row.transpose(0, 2, 1))
        return rows.view(heads.dtype).reshape(h, CELL_PX, w * CELL_PX)

    def _power(self, peak: np.ndarray, logits: np.ndarray) -> np.ndarray:
        """exp(logits - peak), float32."""
        if logits.dtype == np.int8:
            # the difference is at most 255 and wraps into uint8
            below = np.subtract(peak, logits).view(np.uint8)
            return cv2.LUT(below.reshape(len(below), -1), self._exp).reshape(logits.shape)
        return np.exp(logits - peak)

    def empty(self, *inputs: np.ndarray) -> Arrays:
        h, w = inputs[0].shape[:2]
        return (np.zeros((h * CELL_PX, w * CELL_PX), np.float32),)

    def counters(self, *inputs: np.ndarray) -> Mapping[str, float]:
        logits = inputs[0].shape[0] * inputs[0].shape[1] * LOGITS
        moved = logits * (inputs[0].dtype.itemsize + 4)
        return {"pixels": logits, "ops": 3 * logits, "flops": 3 * logits, "bytes": moved}


class Suppress(Kernel):
    """(H, W) float32 heatmap -> (N,) int64 flat indices of local maxima, in raster order.

    A pixel is kept where it equals the maximum of its window and exceeds the threshold. Custom:
    OpenCVA's dilate is 8 bit, which would turn neighbours into ties.
    """

    name, place, kind = "suppress", "custom", "stencil"

    def __init__(self, window_px: int, threshold: float) -> None:
        self._window = np.ones((window_px, window_px), np.uint8)
        self._threshold = np.float32(threshold)
        self._largest = np.zeros((0, 0), np.float32)

    def compute(self, *inputs: np.ndarray) -> Arrays:
        heat = inputs[0]
        if self._largest.shape != heat.shape:
            self._largest = np.empty_like(heat)
        cv2.dilate(heat, self._window, dst=self._largest)
        keep = heat == self._largest
        keep &= heat > self._threshold
        # few pixels are kept: test 8 at a time first
        eights = keep.reshape(-1, CELL_PX)
        found = np.flatnonzero(eights.view(np.uint64))
        row, column = np.nonzero(eights[found])
        return (found[row] * CELL_PX + column,)

    def empty(self, *inputs: np.ndarray) -> Arrays:
        return (np.zeros(0, np.int64),)

    def counters(self, *inputs: np.ndarray) -> Mapping[str, float]:
        # a separable maximum: two passes of the window, then two comparisons
        each = 2 * len(self._window) + 2
        pixels = inputs[0].size
        return {"pixels": pixels, "ops": 4 * each * pixels, "bytes": 8 * pixels}


class Select(Kernel):
    """Heatmap, heads, candidates -> (n, 2) int64 pixels x y, (n,) float32 score, best first.

    Score = heatmap x sigmoid(reliability), bilinear; ties keep raster order. Runs on the CPU: it sorts
    a few thousand candidates.
    """

    name, place, kind = "select", "cpu", "gather"

    def __init__(self, card: Card, top_k: int) -> None:
        self._head, self._top_k = card.heads["reliability"], top_k

    def compute(self, *inputs: np.ndarray) -> Arrays:
        heat, heads, candidates = inputs
        (h, w), (height, width) = heads.shape[:2], heat.shape
        reliability = np.zeros((h + 2, w + 2), np.float32)
        reliability[1:-1, 1:-1] = sigmoid(dequantise(heads, self._head)[..., 0])
        y, x = np.divmod(candidates, width)
        rows, row_weights = linear_taps(height, h)
        columns, column_weights = linear_taps(width, w)
        flat, at = reliability.ravel(), rows[y] * (w + 2) + columns[x]
        left, right = column_weights[x].T
        top, bottom = row_weights[y].T
        upper = flat[at] * left + flat[at + 1] * right
        lower = flat[at + w + 2] * left + flat[at + w + 3] * right
        score = heat.ravel()[candidates] * (upper * top + lower * bottom)
        best = best_first(score)[: self._top_k]
        return np.stack((x[best], y[best]), 1), score[best]

    def empty(self, *inputs: np.ndarray) -> Arrays:
        return np.zeros((0, 2), np.int64), np.zeros(0, np.float32)

    def counters(self, *inputs: np.ndarray) -> Mapping[str, float]:
        cells, n = inputs[1].shape[0] * inputs[1].shape[1], len(inputs[2])
        compares = n * math.log2(max(n, 2))
        return {"pixels": n, "flops": 4 * cells + 10 * n, "ops": 8 * compares, "bytes": 40 * n}


class Refine(Kernel):
    """Heatmap, (n, 2) pixels x y -> (n, 2) float32 x y: centre of mass of the window.

    Not part of XFeat. Keypoints whose window leaves the image are unchanged.
    """

    name, place, kind = "refine", "cpu", "gather"

    def __init__(self, window_px: int) -> None:
        self._radius = window_px // 2
        steps = np.arange(-self._radius, self._radius + 1)
        self._dx, self._dy = np.meshgrid(steps, steps)
        self._moments = np.stack((self._dx, self._dy, np.ones_like(self._dx)), -1)
        self._moments = self._moments.reshape(-1, 3).astype(np.float32)

    def compute(self, *inputs: np.ndarray) -> Arrays:
        heat, pixels = inputs
        height, width = heat.shape
        uv = pixels.astype(np.float32)
        low, high = self._radius, np.array([width, height]) - 1 - self._radius
        inside = np.all((pixels >= low) & (pixels <= high), axis=1)
        x, y = pixels[inside].T
        window = (self._dy * width + self._dx).ravel()
        sums = heat.ravel()[(y * width + x)[:, None] + window] @ self._moments
        uv[inside] += sums[:, :2] / sums[:, 2:]
        return (uv,)

    def empty(self, *inputs: np.ndarray) -> Arrays:
        return (np.zeros(inputs[1].shape, np.float32),)

    def counters(self, *inputs: np.ndarray) -> Mapping[str, float]:
        read = len(inputs[1]) * len(self._moments)
        return {"pixels": read, "flops": 6 * read, "ops": 4 * read, "bytes": 4 * read}


class Describe(Kernel):
    """Heads, (n, 2) pixels x y -> (n, 64) float32 unit descriptors, sampled bicubically. Custom."""

    name, place, kind = "describe", "custom", "gather"

    def __init__(self, card: Card) -> None:
        self._head = card.heads["descriptors"]
        self._map = np.zeros((0, 0, FEATURE_DIM), np.float32)
        self._cells = np.empty((PART, 16, FEATURE_DIM), np.float32)

    def compute(self, *inputs: np.ndarray) -> Arrays:
        heads, pixels = inputs
        h, w = heads.shape[:2]
        if self._map.shape[:2] != (h + 4, w + 4):
            # a border of two zeros is grid_sample's padding; only the inside is ever written
            self._map = np.zeros((h + 4, w + 4, FEATURE_DIM), np.float32)
        # unit vectors do not depend on the scale, so only the zero point is subtracted
        raw = heads[..., self._head.first : self._head.last].astype(np.float32)
        if self._head.quantisation.zero_point:
            raw -= np.float32(self._head.quantisation.zero_point)
        np.multiply(raw, inverse_length(raw)[..., None], out=self._map[2:-2, 2:-2])
        columns, column_weights = cubic_taps(w * CELL_PX, w)
        rows, row_weights = cubic_taps(h * CELL_PX, h)
        x, y = pixels.T
        weights = row_weights[y][:, :, None] * column_weights[x][:, None, :]
        corner = rows[y] * (w + 4) + columns[x]
        window = (np.arange(4)[:, None] * (w + 4) + np.arange(4)).ravel()
        taps, weights = corner[:, None] + window, weights.reshape(-1, 1, 16)
        dense = self._map.reshape(-1, FEATURE_DIM)
        sampled = np.empty((len(pixels), 1, FEATURE_DIM), np.float32)
        for part in _parts(len(pixels)):
            cells = self._cells[: part.stop - part.start]
            # all taps lie in the padded map; `clip` avoids the copy of the bounds check
            np.take(dense, taps[part], axis=0, out=cells, mode="clip")
            np.matmul(weights[part], cells, out=sampled[part])
        sampled = sampled[:, 0]
        return (sampled * inverse_length(sampled)[:, None],)

    def empty(self, *inputs: np.ndarray) -> Arrays:
        return (np.zeros((len(inputs[1]), FEATURE_DIM), np.float32),)

    def counters(self, *inputs: np.ndarray) -> Mapping[str, float]:
        dense = inputs[0].shape[0] * inputs[0].shape[1] * FEATURE_DIM
        gathered = len(inputs[1]) * 16 * FEATURE_DIM
        moved = (dense + gathered) * inputs[0].dtype.itemsize
        # 16 bytes a beat, one read at random for each of the 16 cells; the CPU moves the same bytes, then multiplies
        reads, flops = 16 * len(inputs[1]), 4 * dense + 2 * gathered
        return {"pixels": moved / 16, "reads": reads, "ops": moved, "flops": flops, "bytes": moved}


def sigmoid(logit: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-logit)), bounded where exp would overflow."""
    return 1.0 / (1.0 + np.exp(np.minimum(-logit, np.float32(80.0))))


def best_first(score: np.ndarray) -> np.ndarray:
    """Indices of positive float32 scores, largest first; ties keep their order.

    The bits of positive floats sort like integers, and sorting integers that carry their index
    is several times faster than a stable argsort.
    """
    last = np.uint64(0xFFFFFFFF)
    keys = score.view(np.uint32).astype(np.uint64) << np.uint64(32)
    keys |= last - np.arange(len(score), dtype=np.uint64)
    keys.sort()
    return (last - (keys[::-1] & last)).astype(np.int64)


def _parts(count: int) -> list[slice]:
    return [slice(i, min(i + PART, count)) for i in range(0, count, PART)]


def _spread(cells: np.ndarray) -> np.ndarray:
    """(h, w) values of cells as (h, 1, 8w), one for each pixel of a row."""
    return np.repeat(cells, CELL_PX, axis=1)[:, None]
