# SPDX-License-Identifier: Apache-2.0
"""XFeat on three pieces of silicon: image kernels on the DRP, the network on DRP-AI3."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from drp_slam.card import load_card
from drp_slam.config import Config
from drp_slam.datatypes import XFEAT_DESCRIPTOR
from drp_slam.device import StageRun, open_device, stage_run
from drp_slam.drp.postprocess import Postprocess
from drp_slam.drp.preprocess import Preprocess
from drp_slam.drpai3.perceive import Perceive, open_accelerator
from drp_slam.frontend.front_end import UNITS, FrontEnd, Stage


class XFeat(FrontEnd):
    """At most `drp.top_k` keypoints, with descriptors of 64 floats of unit length.

    Runs the network `config.graph.network`; its card gives the scales of tensor and heads. Raises ResourceError,
    DeviceError, DrpError if a stage cannot be opened.
    """

    stages = (Stage("preprocess", "drp"), Stage("network", "drpai3"), Stage("postprocess", "drp"))
    descriptor = XFEAT_DESCRIPTOR

    def __init__(self, config: Config, units: Collection[str] = UNITS) -> None:
        card = load_card(config.graph.network)
        if "drp" in units:
            drp = open_device(config.drp.backend, "drp")
            self._preprocess, self._postprocess = Preprocess(drp, card, config.drp), Postprocess(drp, card, config.drp)
        if "drpai3" in units:
            self.accelerator = open_accelerator(config.drpai3)
            self._perceive = Perceive(self.accelerator, card, config.drpai3)

    def step(self, stage: str, data: Any, shape_hw: tuple[int, int]) -> tuple[Any, StageRun]:
        if stage == "preprocess":
            # grey, resize, normalise, quantise
            tensor, runs = self._preprocess(data)
            return tensor, stage_run(stage, "drp", runs)
        if stage == "network":
            heads, run = self._perceive(data)
            return heads, stage_run(stage, "drpai3", [run])
        # keypoints and descriptors in pixels of the original image
        features, runs = self._postprocess(data, shape_hw)
        return features, stage_run(stage, "drp", runs)
