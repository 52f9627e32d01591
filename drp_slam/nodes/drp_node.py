# SPDX-License-Identifier: Apache-2.0
"""The DRP: images to tensors, heads to features."""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np
from sensor_msgs.msg import CompressedImage, Image, PointCloud2

from drp_slam.card import load_card
from drp_slam.config import DrpConfig
from drp_slam.data.stamps import StampGate
from drp_slam.datatypes import Features
from drp_slam.device import load_constants
from drp_slam.drp.postprocess import Postprocess
from drp_slam.drp.preprocess import Preprocess
from drp_slam.errors import GraphError
from drp_slam.nodes import convert, qos
from drp_slam.nodes.base import StageNode, run
from drp_slam.pipeline import drp_device, make_span
from drp_slam.profiler.span import Span

REMEMBERED = 64
"""Frames whose size, and picture if somebody looks at `features_image`, are kept."""


class DrpNode(StageNode):
    """`image` -> `tensor`; `heads` -> `features`."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__("drp_node", DrpConfig, **kwargs)
        (config,) = self.configs
        card = load_card(config.network)
        device = drp_device(config.backend, config.device, config.mindiv)
        self._constants = load_constants(config.device)
        self._preprocess = Preprocess(device, card, config)
        self._postprocess = Postprocess(device, card, config)
        self._under_way: OrderedDict[int, tuple[tuple[int, int], Span]] = OrderedDict()
        self._pictures: OrderedDict[int, np.ndarray] = OrderedDict()
        self._gate: StampGate[tuple[Any, np.ndarray]] = StampGate("image")

        self._tensor = self.needs_listener(self.create_publisher(Image, "tensor", qos.frames_out()))
        self._features = self.needs_listener(self.create_publisher(PointCloud2, "features", qos.frames_out()))
        self._drawn = self.create_publisher(Image, "features_image", qos.camera_in())
        self.take(Image, "image", self._on_image, qos.camera_in(), foreign=True)
        self.take(CompressedImage, "image/compressed", self._on_compressed, qos.camera_in())
        self.take(Image, "heads", self._on_heads, qos.stage_in())

    def _on_image(self, message: Image) -> None:
        self._admit(message.header, convert.colour(message))

    def _on_compressed(self, message: CompressedImage) -> None:
        self._admit(message.header, convert.decompress(message, "image/compressed"))

    def _admit(self, header: Any, image: np.ndarray) -> None:
        admission = self._gate.admit(convert.stamp_ns(header), (header, image))
        if admission.problem:
            self.problem(admission.problem)
        for item in admission.items:
            self._to_tensor(*item)

    def _to_tensor(self, header: Any, image: np.ndarray) -> None:
        stamp_ns = convert.stamp_ns(header)
        tensor, preprocessed = self._preprocess(image)
        span = make_span(-1, stamp_ns, "preprocess", "drp", preprocessed, self._constants)
        remember(self._under_way, stamp_ns, (image.shape[:2], span))
        if self._drawn.get_subscription_count():
            remember(self._pictures, stamp_ns, image)
        self._tensor.publish(convert.image_message(header, tensor, convert.tensor_encoding(tensor)))

    def _on_heads(self, message: Image) -> None:
        stamp_ns = convert.stamp_ns(message.header)
        shape, before = self._under_way.pop(stamp_ns, (None, None))
        if shape is None or before is None:
            raise GraphError(
                f"heads: stamp {stamp_ns} ns belongs to no image of the last {REMEMBERED}; "
                "perception must copy the header of the tensor"
            )
        features, postprocessed = self._postprocess(convert.tensor(message, "heads"), shape)
        self._features.publish(convert.features_message(features, message.header))
        span = make_span(-1, stamp_ns, "postprocess", "drp", postprocessed, self._constants)
        self.publish_spans(stamp_ns, before, span)
        self.frames += 1
        picture = self._pictures.pop(stamp_ns, None)
        if picture is not None:
            self._drawn.publish(convert.image_message(message.header, drawn(picture, features), "bgr8"))

    def health(self) -> dict[str, object]:
        return {"refused": self._gate.refused, "epoch": self._gate.epoch}


def remember(store: OrderedDict, key: int, value: Any) -> None:
    """Keeps the last frames only."""
    store[key] = value
    while len(store) > REMEMBERED:
        store.popitem(last=False)


def drawn(image: np.ndarray, features: Features) -> np.ndarray:
    """(H, W, 3) BGR copy with a circle a feature, green where its score is high."""
    import cv2

    out = cv2.cvtColor(image, cv2.COLOR_GRAY2BGR) if image.ndim == 2 else image.copy()
    for (u, v), score in zip(np.rint(features.uv).astype(int).tolist(), features.score.tolist()):
        green = int(255 * min(1.0, score))
        cv2.circle(out, (u, v), 3, (0, green, 255 - green), 1, cv2.LINE_AA)
    return out


def main(args: Sequence[str] | None = None) -> int:
    """Runs the node."""
    return run("drp_node", DrpNode, args)


if __name__ == "__main__":
    sys.exit(main())
