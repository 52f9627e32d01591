# SPDX-License-Identifier: Apache-2.0
"""A driver that publishes each image raw and compressed is taken once; the other transport takes over when it stops."""

from __future__ import annotations

import pytest

pytest.importorskip("rclpy")

from sensor_msgs.msg import CompressedImage, Image

from drp_slam.nodes import qos
from drp_slam.nodes.camera_inputs import Inputs


class Clock:
    nanoseconds = 5

    def now(self) -> Clock:
        return self


class Bare:
    """What `Inputs` asks of a node."""

    active = True

    def resolve_topic_name(self, topic: str) -> str:
        return f"/{topic}"

    def get_clock(self) -> Clock:
        return Clock()


def test_one_transport_at_a_time():
    times = iter([0.0, 1.0, 1.0, 1.1, 1.1, 9.0, 9.1])
    taken: list[str] = []
    inputs = Inputs(Bare(), now=lambda: next(times))
    raw = inputs.watch(Image, "image", qos.camera_in(), lambda message: taken.append("raw"))
    small = inputs.watch(CompressedImage, "image/compressed", qos.camera_in(), lambda message: taken.append("small"))
    for _ in range(2):  # both of each image
        raw(Image())
        small(CompressedImage())
    assert taken == ["raw", "raw"] and inputs.received == {"image": 2}
    small(CompressedImage())  # the raw one has been silent for long
    raw(Image())
    assert taken == ["raw", "raw", "small"]
