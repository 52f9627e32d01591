# SPDX-License-Identifier: Apache-2.0
"""Functions of the OpenCV Accelerator as programs, with OpenCV as their arithmetic."""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np

from drp_slam.drp.kernels import Arrays, Kernel


class Resize(Kernel):
    """(H, W) uint8 -> (height, width) uint8, bilinear."""

    name, place, kind = "resize", "opencva", "stencil"

    def __init__(self, dsize: tuple[int, int]) -> None:
        self._dsize = dsize

    def compute(self, *inputs: np.ndarray) -> Arrays:
        return (cv2.resize(inputs[0], self._dsize, interpolation=cv2.INTER_LINEAR),)

    def empty(self, *inputs: np.ndarray) -> Arrays:
        return (np.zeros(self._dsize[::-1], np.uint8),)

    def work(self, *inputs: np.ndarray) -> Mapping[str, float]:
        pixels = self._dsize[0] * self._dsize[1]
        return {"pixels": pixels, "ops": 8 * pixels, "bytes": inputs[0].size + pixels}
