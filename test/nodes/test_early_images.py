# SPDX-License-Identifier: Apache-2.0
"""Images of a camera that runs before the graph does."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("rclpy")

from rclpy.context import Context

from drp_slam.nodes import convert
from drp_slam.nodes.drp_node import DrpNode
from drp_slam.nodes.exchange import Exchange


def test_images_before_the_other_nodes_are_counted_and_not_computed():
    context = Context()
    context.init(args=[], initialize_logging=False)
    exchange = Exchange()
    node = DrpNode(context=context, exchange=exchange)
    try:
        node.start()
        on_image = next(one.callback for one in node.managed_subscriptions if one.topic == "image")
        image = np.zeros((120, 160, 3), np.uint8)
        for k in range(3):
            on_image(convert.image_message(convert.header(k * 10**8, "camera"), image, "bgr8"))
        assert node.health()["early"] == 3 and not node.frames
        (finding,) = [one for one in node.findings() if one.check.name == "too_early"]
        assert finding.seen.startswith("3 images") and finding.where == "/image"

        tensors: list = []
        for topic, heard in (("/tensor", tensors), ("/features", [])):
            exchange.find(topic).join(node.inbox, heard.append, 1)  # the other nodes have come
        on_image(convert.image_message(convert.header(10**9, "camera"), image, "bgr8"))
        assert node.health()["early"] == 3
        node.inbox.end()
        node.inbox.run()
        assert len(tensors) == 1
    finally:
        node.destroy_node()
        context.try_shutdown()
