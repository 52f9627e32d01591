# SPDX-License-Identifier: Apache-2.0
"""Third stage: turns the network's heads into keypoints with descriptors."""

from __future__ import annotations

import numpy as np

from drp_slam.card import Card
from drp_slam.config import DrpConfig
from drp_slam.datatypes import Features
from drp_slam.device import Device, Run
from drp_slam.drp.keypoints import Describe, Heatmap, Refine, Select, Suppress
from drp_slam.errors import DrpError


class Postprocess:
    """Heatmap, non-maximum suppression, best keypoints, their descriptors.

    Deterministic; ties of score keep raster order.
    """

    def __init__(self, device: Device, card: Card, config: DrpConfig) -> None:
        if config.nms_px % 2 == 0:
            raise DrpError(f"drp.nms_px is {config.nms_px}, expected an odd window")
        self._device, self._card = device, card
        self._heatmap = Heatmap(card)
        self._suppress = Suppress(config.nms_px, config.threshold)
        self._select = Select(card, config.top_k)
        self._describe = Describe(card)
        self._refine = Refine(config.nms_px) if config.subpixel else None

    def __call__(self, heads: np.ndarray, original_shape_hw: tuple[int, int]) -> tuple[Features, tuple[Run, ...]]:
        """(h, w, C) heads, int8 or float32 (`card.dtype`) -> features in original pixels.

        `original_shape_hw` is the (height, width) of the camera's image; h and w are an eighth
        of the network's input. Raises DrpError for heads of another dtype or channel count.
        """
        self._check(heads)
        runs: list[Run] = []

        def run(kernel: object, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
            runs.append(self._device.run(kernel, *inputs))
            return runs[-1].outputs

        (heat,) = run(self._heatmap, heads)
        (candidates,) = run(self._suppress, heat)
        pixels, score = run(self._select, heat, heads, candidates)
        (descriptor,) = run(self._describe, heads, pixels)
        (refined,) = run(self._refine, heat, pixels) if self._refine else (pixels,)
        uv = original_pixels(refined, heat.shape, original_shape_hw)
        return Features(uv, score, descriptor), tuple(runs)

    def _check(self, heads: np.ndarray) -> None:
        card = self._card
        if heads.dtype != np.dtype(card.dtype) or heads.ndim != 3 or heads.shape[2] < card.channels:
            raise DrpError(
                f"heads are {heads.dtype} {heads.shape}, but the card of {card.name!r} "
                f"says {card.dtype} (h, w, {card.channels}); give drp and drpai3 the "
                "same network"
            )


def original_pixels(pixels: np.ndarray, shape: tuple[int, ...], original: tuple[int, int]) -> np.ndarray:
    """(n, 2) pixels of the network's image as (n, 2) float32 pixels of the camera's image.

    Pixel centres map to pixel centres, as `cv2.resize` samples them.
    """
    ratio = np.array([original[1] / shape[1], original[0] / shape[0]])
    return ((pixels + 0.5) * ratio - 0.5).astype(np.float32)
