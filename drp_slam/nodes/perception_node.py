# SPDX-License-Identifier: Apache-2.0
"""The node of DRP-AI3: tensors to heads, images to detections."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sensor_msgs.msg import Image

from drp_slam.config import PerceptionConfig
from drp_slam.drpai3.detect import open_detector
from drp_slam.drpai3.perceive import open_accelerator
from drp_slam.errors import GraphError
from drp_slam.frontend.front_end import open_front_end
from drp_slam.nodes import convert, qos
from drp_slam.nodes.base import StageNode
from drp_slam.nodes.running import run
from drp_slam.nodes.table import UNITS_OF

if TYPE_CHECKING:
    from drp_slam.nodes.detections import DetectionPublisher


class PerceptionNode(StageNode):
    """`tensor` -> `heads`; and with a detector, every n-th `image` -> `detections`."""

    inert = ()

    def __init__(self, **kwargs: Any) -> None:
        super().__init__("perception_node", PerceptionConfig, **kwargs)

    def configure(self) -> None:
        super().configure()
        (config,) = self.configs
        self._detections: DetectionPublisher | None = None
        self.apply()
        alone = self._front.accelerator is None
        if alone and not config.detector:
            raise GraphError(f"features {self.graph.features!r} need no network; leave perception_node out")
        if not alone:
            self._first = [s.unit for s in self._front.stages].index("drpai3")
            self._heads = self.needs_listener(self.advertise(Image, "heads", qos.frames_out()))
            self.subscribe(Image, "tensor", self._on_tensor, qos.stage_in())
        detector = open_detector(self._front.accelerator or open_accelerator(config), config)
        if detector is not None:
            from drp_slam.nodes.detections import DetectionPublisher

            self._detections = DetectionPublisher(self, detector, config, alone)

    def forget(self) -> None:
        if self._detections is not None:
            self._detections.forget()

    def apply(self) -> None:
        self._front = open_front_end(self.config, UNITS_OF["perception_node"])
        if self._detections is not None:
            self._detections.configure(self.config.drpai3)

    def _on_tensor(self, message: Image) -> None:
        stamp_ns = convert.stamp_ns(message.header)
        begun_ns = self.begin(stamp_ns, "drpai3")
        tensor = convert.tensor(message, "tensor")
        heads, runs, _ = self._front.part(tensor, (0, 0), self._first, UNITS_OF["perception_node"])
        image = self._heads.image(message.header, heads, convert.tensor_encoding(heads))
        self.release(stamp_ns, runs, begun_ns, lambda: self._heads.publish(image))
        self.publish_runs(stamp_ns, *runs)
        self.frames += 1
        if self._detections is not None:
            self._detections.frame(message.header)


def main(args: Sequence[str] | None = None) -> int:
    """Runs the node."""
    return run("perception_node", PerceptionNode, args)


if __name__ == "__main__":
    sys.exit(main())
