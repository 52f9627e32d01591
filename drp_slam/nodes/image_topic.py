# SPDX-License-Identifier: Apache-2.0
"""The topics `image` and `image/compressed`, for a node that needs the pictures of some frames."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from sensor_msgs.msg import CompressedImage, Image

from drp_slam.data import image_codec
from drp_slam.errors import DrpSlamError
from drp_slam.nodes import convert, qos
from drp_slam.nodes.limits import IN_FLIGHT
from drp_slam.nodes.pairing import Stamped

if TYPE_CHECKING:
    from drp_slam.nodes.base import StageNode


class ImageTopic:
    """Subscribes to both transports, and keeps messages until a later frame's image is asked for."""

    def __init__(self, node: StageNode) -> None:
        self._node = node
        self._messages: Stamped[Image | CompressedImage] = Stamped(2 * IN_FLIGHT)
        node.subscribe(Image, "image", self._on_image, qos.camera_in(IN_FLIGHT), foreign=True)
        node.subscribe(CompressedImage, "image/compressed", self._on_image, qos.camera_in(IN_FLIGHT))

    def _on_image(self, message: Image | CompressedImage) -> None:
        self._messages.add(convert.stamp_ns(message.header), message)

    def clear(self) -> None:
        """Drops all images."""
        self._messages.clear()

    def decoded(self, stamp_ns: int) -> np.ndarray | None:
        """(H, W) or (H, W, 3) uint8 image of a frame; None if it has not arrived, or is damaged, which is reported."""
        message = self._messages.exact(stamp_ns)
        if message is None:
            return None
        self._messages.forget_before(message)
        try:
            return image_codec.colour_of(message, "image")
        except DrpSlamError as error:
            self._node.problem(error)
            return None
