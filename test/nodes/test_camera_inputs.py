# SPDX-License-Identifier: Apache-2.0
"""What a node takes of a camera: one transport of each image, and a calibration that was sent once."""

from __future__ import annotations

import random
from types import SimpleNamespace

import garbage
import numpy as np
import pytest

pytest.importorskip("rclpy")

from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from drp_slam.doctor.intrinsics import Stated, check_calibration
from drp_slam.nodes import qos
from drp_slam.nodes.camera_inputs import Inputs
from drp_slam.nodes.camera_streams import Streams


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

    def get_namespace(self) -> str:
        return "/"

    def get_parameter(self, name: str) -> SimpleNamespace:
        return SimpleNamespace(value=False)

    def locked(self, callback):
        return callback


class BesideALatchedPublisher(Bare):
    """A node whose topics have one publisher of this profile."""

    def __init__(self, profile) -> None:
        self.publisher = SimpleNamespace(
            node_namespace="/", node_name="camera", topic_type="sensor_msgs/msg/CameraInfo", qos_profile=profile
        )
        self.subscribed: list[tuple[str, object]] = []

    def get_publishers_info_by_topic(self, topic: str) -> list[SimpleNamespace]:
        return [self.publisher]

    def create_subscription(self, kind, topic, callback, profile) -> None:
        self.subscribed.append((topic, callback))


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


@pytest.mark.parametrize("latched", [True, False])
def test_a_calibration_that_was_sent_once_is_fetched_at_the_first_look(latched):
    node = BesideALatchedPublisher(qos.latched() if latched else qos.frames_out())
    taken: list[CameraInfo] = []
    inputs = Inputs(node, now=lambda: 0.0)
    inputs.watch(CameraInfo, "camera_info", qos.camera_in(), taken.append)
    said = {finding.check.name for finding in inputs.findings()}
    assert ("latched_info" in said) == latched == bool(node.subscribed)
    for _, callback in node.subscribed:
        callback(CameraInfo())
    inputs.findings()
    assert len(taken) == len(node.subscribed) == int(latched)


def test_a_clock_that_goes_back_is_reported_for_a_while():
    node, now_s = Bare(), [100.0]
    clock = Clock()
    node.get_parameter = lambda name: SimpleNamespace(value=name == "use_sim_time")
    node.get_clock = lambda: clock
    inputs = Inputs(node, now=lambda: now_s[0])
    said = []
    for clock_s, now_s[0] in ((7.0, 100.0), (8.0, 101.0), (5.5, 102.0), (6.0, 120.0), (7.0, 140.0)):
        clock.nanoseconds = int(clock_s * 1e9)
        said.append([finding.seen for finding in inputs.findings() if finding.check.name == "clock_jump"])
    assert said == [[], [], ["went back by 2.500 s"], ["went back by 2.500 s"], []]


@pytest.mark.parametrize("seed", range(6))
def test_headers_and_calibrations_with_any_values_are_judged(seed):
    """Width 0, P with a focal length of 0, stamps at both ends of their range: a finding each, no error."""
    rng, streams = random.Random(seed), Streams()
    for k in range(60):
        for role, kind in (("image", Image), ("depth", Image), ("camera_info", CameraInfo), ("right", Image)):
            streams.note(role, f"/{role}", garbage.message(kind, rng), rng.choice([0, 10**18, 1700 * 10**15 + k]))
        if k % 5 == 0:
            streams.findings()
    for size in ((0, 480), (640, 0)):
        stated = Stated(size, np.eye(3) * 500, np.zeros(5), np.zeros((3, 4)))
        assert [finding.check.name for finding in check_calibration(stated, "/camera_info")] == ["not_calibrated"]
