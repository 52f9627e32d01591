# SPDX-License-Identifier: Apache-2.0
"""DRP-AI3: tensors to heads."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from sensor_msgs.msg import Image

from drp_slam.card import load_card
from drp_slam.config import PerceptionConfig
from drp_slam.device import load_constants
from drp_slam.drpai3.detect import open_detector
from drp_slam.drpai3.perceive import Perceive, open_device
from drp_slam.nodes import convert, qos
from drp_slam.nodes.base import StageNode, run
from drp_slam.pipeline import make_span


class PerceptionNode(StageNode):
    """`tensor` -> `heads`; and with a detector, every n-th `image` -> `detections`."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__("perception_node", PerceptionConfig, **kwargs)
        (config,) = self.configs
        self._constants = load_constants(config.device)
        device = open_device(config)
        self._perceive = Perceive(device, load_card(config.network), config)
        self._heads = self.needs_listener(self.create_publisher(Image, "heads", qos.frames_out()))
        self.take(Image, "tensor", self._on_tensor, qos.stage_in())
        self._detections = None
        detector = open_detector(device, config)
        if detector is not None:
            from drp_slam.nodes.detections import DetectionPublisher

            self._detections = DetectionPublisher(self, detector, config)

    def _on_tensor(self, message: Image) -> None:
        heads, perceived = self._perceive(convert.tensor(message, "tensor"))
        self._heads.publish(convert.image_message(message.header, heads, convert.tensor_encoding(heads)))
        stamp_ns = convert.stamp_ns(message.header)
        self.publish_spans(stamp_ns, make_span(-1, stamp_ns, "network", "drpai3", perceived, self._constants))
        self.frames += 1
        if self._detections is not None:
            self._detections.frame(message.header)


def main(args: Sequence[str] | None = None) -> int:
    """Runs the node."""
    return run("perception_node", PerceptionNode, args)


if __name__ == "__main__":
    sys.exit(main())
