# SPDX-License-Identifier: Apache-2.0
"""Bilinear upsampling in the form that the chip maps: nearest, then a fixed depthwise filter."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F


def upsampled(x: torch.Tensor, factor: int, zero_border: bool = False) -> torch.Tensor:
    """(B, C, factor H, factor W) bilinear. With `zero_border` the image is extended by zeros instead
    of its last pixels, as in a padded convolution: the outermost row is 3/4 of the exact one
    for factor 2; the outermost two are 5/8 and 7/8 for factor 4."""
    if not zero_border:
        return F.interpolate(x, scale_factor=float(factor), mode="bilinear")
    x = F.interpolate(F.pad(x, (1, 1, 1, 1)), scale_factor=float(factor), mode="bilinear")
    return x[..., factor:-factor, factor:-factor]


def smoothing(factor: int) -> np.ndarray:
    """(k, k) float32, k = factor + 1: the filter that makes nearest upsampling bilinear.

    `factor` is even. Every entry is a power of two times 1, 2 or 4, so int8 holds it exactly.
    """
    row = np.array([1.0] + [2.0] * (factor - 1) + [1.0])
    return (np.outer(row, row) / (2 * factor) ** 2).astype(np.float32)
