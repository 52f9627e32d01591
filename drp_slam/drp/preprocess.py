# SPDX-License-Identifier: Apache-2.0
"""First stage: turns a camera image into the network's input tensor."""

from __future__ import annotations

import numpy as np

from drp_slam.card import INPUT_MULTIPLE, Card
from drp_slam.config import DrpConfig
from drp_slam.device import Device, Run
from drp_slam.drp.kernels import Grey, Normalise, Statistics
from drp_slam.drp.opencva import OpenCva
from drp_slam.errors import DrpError


class Preprocess:
    """Grey, resize to multiples of 32, instance normalisation, quantisation.

    Deterministic; the same image gives the same tensor, bit for bit.
    """

    def __init__(self, device: Device, card: Card, config: DrpConfig) -> None:
        self._device, self._config = device, config
        self._grey, self._statistics = Grey(), Statistics()
        self._normalise = Normalise(card.dtype, card.input)

    def __call__(self, image: np.ndarray) -> tuple[np.ndarray, tuple[Run, ...]]:
        """(H, W, 3) BGR or (H, W) grey, uint8 -> (H32, W32) int8 or float32 (`card.dtype`).

        H32 and W32 are the next lower multiples of 32. Raises DrpError for another dtype or
        shape, or an image below 32 x 32.
        """
        check_image(image)
        runs: list[Run] = []

        def run(kernel: object, *inputs: np.ndarray) -> np.ndarray:
            runs.append(self._device.run(kernel, *inputs))
            return runs[-1].outputs[0]

        grey = run(self._grey, image) if image.ndim == 3 else image
        height, width = network_shape(image.shape[0], image.shape[1])
        if grey.shape != (height, width):
            grey = run(OpenCva("resize", dsize=(width, height)), grey)
        # one table per image: mean and deviation map each grey value
        tensor = run(self._normalise, grey, run(self._statistics, grey))
        return tensor, tuple(runs)


def network_shape(height: int, width: int) -> tuple[int, int]:
    """The next lower multiples of 32."""
    return height // INPUT_MULTIPLE * INPUT_MULTIPLE, width // INPUT_MULTIPLE * INPUT_MULTIPLE


def check_image(image: np.ndarray) -> None:
    """Raises DrpError unless it is (H, W) or (H, W, 3) uint8, at least 32 x 32."""
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or image.shape[2:] not in ((), (3,)):
        raise DrpError(
            f"image is {image.dtype} {image.shape}, expected uint8 (H, W) grey or (H, W, 3) BGR; convert it first"
        )
    if min(image.shape[:2]) < INPUT_MULTIPLE:
        raise DrpError(
            f"image is {image.shape[1]} x {image.shape[0]}, the network needs at least {INPUT_MULTIPLE} pixels each way"
        )
