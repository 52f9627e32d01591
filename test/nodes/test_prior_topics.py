# SPDX-License-Identifier: Apache-2.0
"""Wheel odometry and IMU messages as a prior: the same motions as from a file, in the camera's axes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy")
from nav_msgs.msg import Odometry
from sensor_msgs.msg import Imu

from drp_slam import geometry
from drp_slam.config import Config
from drp_slam.config.config_file import override
from drp_slam.errors import ConfigError
from drp_slam.nodes import convert, world
from drp_slam.nodes.prior_topics import PriorTopics
from drp_slam.nodes.transforms import TransformTree
from drp_slam.slam.extrinsic import T_LINK_OPTICAL, mount
from drp_slam.slam.reckoning import Reckoning

T_BASE_CAMERA = mount("0.2 0 0.3 0 10 5") @ T_LINK_OPTICAL
STEP_NS = 20_000_000


class Node:
    """What `PriorTopics` uses of a node."""

    def __init__(self, **slam: Any) -> None:
        self.callbacks: dict[str, Any] = {}
        self.problems: list[str] = []
        self.tree, self.woken = TransformTree(), 0
        config = override(Config(), {f"slam.{name}": value for name, value in slam.items()})
        self.topics = PriorTopics(self, config, self.tree, self._wake)  # type: ignore[arg-type]

    def subscribe(self, kind: Any, topic: str, handle: Any, profile: Any, foreign: bool = False) -> None:
        self.callbacks[topic] = handle

    def resolve_topic_name(self, topic: str) -> str:
        return topic if topic.startswith("/") else f"/{topic}"

    def problem(self, text: str) -> None:
        self.problems.append(text)

    def _wake(self) -> None:
        self.woken += 1


def at(k: int) -> np.ndarray:
    """The base after k steps along a curve, with a push at half a second."""
    return mount(f"{0.01 * k} {0.0001 * k * k} 0 0 0 {0.4 * k}")


def odometry(k: int, T: np.ndarray, child: str = "base_link") -> Odometry:
    message = Odometry(header=convert.header(k * STEP_NS, "odom"), child_frame_id=child)
    message.pose.pose = world.pose(T)
    return message


def imu(k: int, T: np.ndarray | None, rate: float = 0.0) -> Imu:
    message = Imu(header=convert.header(k * STEP_NS, "imu_link"))
    if T is None:
        message.orientation_covariance[0] = -1.0
    else:
        message.orientation = world.pose(T).orientation
    message.angular_velocity.z = rate
    return message


def test_odometry_moves_the_camera_on_the_robot() -> None:
    node = Node(odometry_topic="/wheels")
    for k in range(50):
        node.callbacks["/wheels"](odometry(k, mount("5 5 0 0 0 90") @ at(k)))
    assert node.woken == 50 and not node.problems
    assert node.topics.prior.motion(0, 40 * STEP_NS) is None  # the mount is not known yet
    node.topics.settle(T_BASE_CAMERA, 0)
    motion = node.topics.prior.motion(3 * STEP_NS, 40 * STEP_NS)
    expected = geometry.inverse(at(3) @ T_BASE_CAMERA) @ at(40) @ T_BASE_CAMERA
    assert motion is not None and motion.translates
    np.testing.assert_allclose(motion.T_from_to, expected, atol=1e-9)


def test_odometry_of_another_frame_of_the_robot_goes_through_tf() -> None:
    node, T_foot_base = Node(odometry_topic="/wheels"), mount("0.1 0 0.2 0 0 30")
    node.tree.add(world.transform(convert.header(0, "base_footprint"), "base_link", T_foot_base), True)
    for k in range(10):
        node.callbacks["/wheels"](odometry(k, at(k) @ geometry.inverse(T_foot_base), "base_footprint"))
    node.topics.settle(T_BASE_CAMERA, 0)
    motion = node.topics.prior.motion(0, 9 * STEP_NS)
    assert motion is not None and not node.problems
    np.testing.assert_allclose(
        motion.T_from_to, geometry.inverse(at(0) @ T_BASE_CAMERA) @ at(9) @ T_BASE_CAMERA, atol=1e-9
    )


@pytest.mark.parametrize("oriented", [True, False], ids=["orientation", "gyroscope"])
def test_an_imu_turns_the_camera(oriented: bool) -> None:
    node = Node(imu_topic="imu/data")
    for k in range(50):
        node.callbacks["imu/data"](imu(k, at(k) if oriented else None, np.radians(0.4) / (STEP_NS * 1e-9)))
    node.topics.settle(T_BASE_CAMERA, 0)
    assert "imu_link" in node.problems[0]  # nobody says where it sits
    motion = node.topics.prior.motion(0, 40 * STEP_NS)
    assert motion is not None and not motion.translates
    turn = geometry.inverse(at(0) @ T_BASE_CAMERA) @ at(40) @ T_BASE_CAMERA
    np.testing.assert_allclose(motion.T_from_to[:3, :3], turn[:3, :3], atol=1e-9)


def test_a_frame_waits_for_samples_but_not_for_a_silent_sender() -> None:
    node = Node(odometry_topic="/wheels")
    assert not node.topics.complete(0, final=False)
    node.callbacks["/wheels"](odometry(5, at(5)))
    assert node.topics.complete(5 * STEP_NS, final=False)
    assert not node.topics.complete(6 * STEP_NS, final=False)
    assert node.topics.complete(6 * STEP_NS, final=True) and node.topics.complete(7 * STEP_NS, final=False)
    node.callbacks["/wheels"](odometry(7, at(7)))
    assert not node.topics.complete(8 * STEP_NS, final=False)
    assert Node().topics.complete(0, final=False)


def test_bad_samples_are_reported_and_ignored() -> None:
    node = Node(odometry_topic="/wheels")
    node.callbacks["/wheels"](odometry(5, at(5)))
    node.callbacks["/wheels"](odometry(4, at(4)))
    broken = odometry(6, at(6))
    broken.pose.pose.position.x = float("nan")
    node.callbacks["/wheels"](broken)
    broken = odometry(7, at(7))
    broken.pose.pose.orientation.w = 9.0
    node.callbacks["/wheels"](broken)
    assert ["late" in node.problems[0], "finite" in node.problems[1], "finite" in node.problems[2]] == [True] * 3
    assert node.topics.prior.streams[0].last_ns == 5 * STEP_NS
    silent = Node(imu_topic="/imu")
    message = imu(1, None)
    message.angular_velocity_covariance[0] = -1.0
    silent.callbacks["/imu"](message)
    assert "neither an orientation" in silent.problems[0]


def test_the_topic_that_the_graph_publishes_is_refused() -> None:
    with pytest.raises(ConfigError, match="publishes itself"):
        Node(odometry_topic="odom")


def test_wheels_that_contradict_the_camera_are_named() -> None:
    node = Node(odometry_topic="/wheel/odometry")
    reckoning = Reckoning(node.topics.prior)
    assert not node.topics.findings(reckoning)
    for k in range(100):  # the wheels stand still, the camera moves
        node.callbacks["/wheel/odometry"](odometry(k, np.eye(4)))
        node.topics.settle(T_BASE_CAMERA, k * STEP_NS)
        reckoning.learn(k * STEP_NS, at(k) @ T_BASE_CAMERA, 2.0)
    (finding,) = node.topics.findings(reckoning)
    assert finding.check.name == "prior_wrong" and finding.where == "/wheel/odometry"
