# SPDX-License-Identifier: Apache-2.0
"""Samples a map of cells at pixels, exactly as PyTorch does for XFeat.

`grid_sample(align_corners=False, padding_mode="zeros")` on coordinates normalised by W - 1 and
H - 1: pixel x of W reads the map of w cells at `x / (W - 1) * w - 0.5`. Keypoints are whole
pixels, so taps and weights of every column and row are tables, computed once per size.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np


def inverse_length(vectors: np.ndarray) -> np.ndarray:
    """1 / max(length of the last axis, 1e-12), as PyTorch's `F.normalize`."""
    length = np.sqrt(np.einsum("...c,...c->...", vectors, vectors))
    return 1.0 / np.maximum(length, np.float32(1e-12))


@lru_cache(maxsize=16)
def linear_taps(size: int, cells: int) -> tuple[np.ndarray, np.ndarray]:
    """For each of `size` pixels: first of 2 taps in a map of `cells` with a border of one zero,
    and the weights (size, 2) float32.
    """
    first, t = _positions(size, cells)
    return first + 1, np.stack((1.0 - t, t), 1).astype(np.float32)


@lru_cache(maxsize=16)
def cubic_taps(size: int, cells: int) -> tuple[np.ndarray, np.ndarray]:
    """For each of `size` pixels: first of 4 taps in a map of `cells` with a border of two zeros,
    and the weights (size, 4) float32: cubic convolution with A = -0.75 (PyTorch, OpenCV).
    """
    first, t = _positions(size, cells)
    a = -0.75

    def near(d: np.ndarray) -> np.ndarray:
        return ((a + 2) * d - (a + 3)) * d * d + 1

    def far(d: np.ndarray) -> np.ndarray:
        return ((d - 5) * d + 8) * d * a - 4 * a

    weights = np.stack((far(t + 1), near(t), near(1 - t), far(2 - t)), 1)
    return first + 1, weights.astype(np.float32)


def _positions(size: int, cells: int) -> tuple[np.ndarray, np.ndarray]:
    """Cell left of each pixel (-1 is possible) and the fraction beyond it."""
    position = np.arange(size) / (size - 1) * cells - 0.5
    first = np.floor(position)
    return first.astype(np.int64), position - first
