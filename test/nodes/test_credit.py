# SPDX-License-Identifier: Apache-2.0
"""Frames under way: what the graph has no time for is dropped before it is decoded."""

from __future__ import annotations

import time

import numpy as np
import pytest

from drp_slam.nodes.credit import ANSWERED_S, Credit


def credit(limit: int = 2, skips: bool = True) -> tuple[Credit, list[float]]:
    clock = [100.0]
    return Credit(lambda: limit, skips, lambda: clock[0]), clock


def test_frames_in_flight_are_bounded():
    one, _ = credit()
    assert one.free and one.unheard
    one.sent(10)
    one.sent(20)
    assert not one.free and len(one) == 2
    one.answered(10)
    assert one.free and not one.unheard and len(one) == 1


def test_an_answer_is_one_for_the_frames_before_where_the_graph_may_skip_some():
    for skips, left in ((True, 0), (False, 1)):
        one, _ = credit(skips=skips)
        one.sent(10)
        one.sent(20)
        one.answered(20)
        assert len(one) == left


def test_an_answer_to_an_unknown_frame_frees_nothing():
    one, _ = credit()
    one.sent(10)
    one.answered(99)
    assert len(one) == 1 and one.unheard


def test_frames_of_a_new_epoch_have_earlier_stamps():
    one, _ = credit(3)
    one.sent(500)
    one.sent(10)
    one.answered(10)
    assert len(one) == 0 and not one.unheard
    one.sent(20)
    one.clear()
    one.answered(20)
    assert len(one) == 0 and one.unheard


def test_a_frame_without_an_answer_does_not_count_for_ever():
    one, clock = credit()
    one.sent(10)
    clock[0] += ANSWERED_S / 2
    one.sent(20)
    assert one.lapsed() == []
    clock[0] += 0.6 * ANSWERED_S
    assert one.lapsed() == [10] and len(one) == 1 and one.unheard
    one.clear()
    assert one.free


@pytest.fixture
def drp_node():
    """The node in this process, with others who subscribe to what it gives, and take nothing."""
    rclpy = pytest.importorskip("rclpy")
    from sensor_msgs.msg import Image, PointCloud2

    from drp_slam.nodes import qos
    from drp_slam.nodes.drp_node import DrpNode

    rclpy.init(args=[])
    node, others = DrpNode(), rclpy.create_node("others")
    for kind, topic in ((Image, "tensor"), (PointCloud2, "features")):
        others.create_subscription(kind, topic, lambda message: None, qos.stage_in())
    node.start()
    deadline_s = time.monotonic() + 60.0
    while not node.ready() and time.monotonic() < deadline_s:
        time.sleep(0.02)
    yield node
    others.destroy_node()
    node.destroy_node()
    rclpy.try_shutdown()


def test_drp_node_holds_the_newest_image_until_the_graph_has_time(drp_node):
    """Images that are dropped may be damaged: they are not looked at."""
    from drp_slam.nodes import convert, status_codec
    from drp_slam.nodes.limits import LIVE_IN_FLIGHT

    pixels = np.random.default_rng(0).integers(0, 256, (96, 128, 3), np.uint8)

    def image(k: int, damaged: bool = False):
        message = convert.image_message(convert.header(10**12 + k * 10**8, "camera"), pixels, "bgr8")
        if damaged:
            message.data = message.data[:10]
        return message

    def answer(k: int) -> None:
        drp_node._on_status(status_codec.array_of(10**12 + k * 10**8, []))

    drp_node._credit = Credit(lambda: LIVE_IN_FLIGHT, skips=True, now=lambda: 0.0)  # a starved host takes seconds
    drp_node._on_image(image(0))
    answer(0)  # the graph is heard
    for k in range(1, LIVE_IN_FLIGHT + 1):
        drp_node._on_image(image(k))
    assert len(drp_node._credit) == LIVE_IN_FLIGHT
    for k in range(LIVE_IN_FLIGHT + 1, LIVE_IN_FLIGHT + 20):
        drp_node._on_image(image(k, damaged=True))
    newest = LIVE_IN_FLIGHT + 20
    drp_node._on_image(image(newest))
    assert len(drp_node._credit) == LIVE_IN_FLIGHT and drp_node.health()["dropped"] == 19
    answer(1)
    assert list(drp_node._under_way)[-1] == 10**12 + newest * 10**8
    assert len(drp_node._credit) == LIVE_IN_FLIGHT

    # the clock is set back: the frames that make an epoch go out together, and later ones need no answer of theirs
    answer(newest)
    before = drp_node.health()["epoch"]
    for k in range(100, 106):
        message = image(0)
        message.header.stamp = convert.header(k * 10**8, "").stamp
        drp_node._on_image(message)
    assert drp_node.health()["epoch"] == before + 1 and list(drp_node._under_way)[-1] == 105 * 10**8
