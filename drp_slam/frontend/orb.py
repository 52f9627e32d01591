# SPDX-License-Identifier: Apache-2.0
"""ORB on the DRP, without a network: pyramid, FAST and descriptors run on the DRP, the selection on the CPU."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np

from drp_slam.config import Config
from drp_slam.datatypes import DescriptorSpec, Features
from drp_slam.device import Run, StageRun, open_device, stage_run
from drp_slam.drp.kernels import Grey
from drp_slam.drp.orb_kernels import Blur, Describe, Fast, Shrink, Spread, level_shapes
from drp_slam.drp.preprocess import check_image
from drp_slam.frontend.front_end import UNITS, FrontEnd, Stage

LEVELS, SCALE = 8, 1.2


class Orb(FrontEnd):
    """At most `drp.top_k` keypoints on 8 levels of scale 1.2, with descriptors of 256 bits.

    Partitioned like the public SLAM on this chip: resize, Gaussian, FAST (20, then 7) in cells, orientation and
    descriptor run on the DRP, whose intermediate images stay in its memory. Raises DrpError for an image that is too
    small, DeviceError for a backend that cannot run the DRP.
    """

    stages = (Stage("orb", "drp"),)
    descriptor = DescriptorSpec(32, "uint8", "hamming", 0.5)

    def __init__(self, config: Config, units: Collection[str] = UNITS) -> None:
        if "drp" not in units:
            return
        self._device = open_device(config.drp.backend, "drp")
        shares = SCALE ** -np.arange(LEVELS)
        self._quota = np.rint(config.drp.top_k * shares / shares.sum()).astype(int).tolist()
        self._grey, self._blur, self._fast, self._describe = Grey(), Blur(), Fast(), Describe()

    def step(self, stage: str, data: Any, shape_hw: tuple[int, int]) -> tuple[Any, StageRun]:
        check_image(data)
        runs: list[Run] = []

        def run(kernel: Any, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
            runs.append(self._device.run(kernel, *inputs))
            return runs[-1].outputs

        level = run(self._grey, data)[0] if data.ndim == 3 else data
        found = []
        for shape, quota in zip(level_shapes(level.shape, LEVELS, SCALE), self._quota):
            if shape != level.shape:
                (level,) = run(Shrink(shape), level)
            pixels, response = run(self._fast, level)
            (chosen,) = run(Spread(quota), pixels, response)
            pixels, response = pixels[chosen], response[chosen]
            (blurred,) = run(self._blur, level)
            descriptor, _ = run(self._describe, level, blurred, pixels)
            # pixel centres map to pixel centres, as in the sampling of the levels
            ratio = np.array([shape_hw[1] / shape[1], shape_hw[0] / shape[0]])
            found.append(((pixels + 0.5) * ratio - 0.5, response, descriptor))
        uv, response, descriptor = (np.concatenate(parts) for parts in zip(*found))
        best = np.argsort(-response.astype(np.int16), kind="stable")
        score = response[best] / np.float32(255)
        return Features(uv[best].astype(np.float32), score, descriptor[best]), stage_run(stage, "drp", runs)
