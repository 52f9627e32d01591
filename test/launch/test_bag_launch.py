# SPDX-License-Identifier: Apache-2.0
"""`bag.launch.py` under the real `ros2 launch`: 60 frames, odometry, TF, a clean exit.

Runs wherever `launch_ros` and `launch_testing` import and the package is installed for ROS, as in
the ros:jazzy and ros:humble containers; skips elsewhere.
"""
# ruff: noqa: E402

from __future__ import annotations

import os
import time
import unittest

import pytest

launch_testing = pytest.importorskip("launch_testing", reason="needs launch_testing (ROS 2)")
pytest.importorskip("launch_ros", reason="needs launch_ros (ROS 2)")

import rclpy
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch_testing.actions import ReadyToTest
from nav_msgs.msg import Odometry
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from tf2_msgs.msg import TFMessage

from drp_slam import resources
from launch import LaunchDescription

FRAMES = 60
TIMEOUT_S = 400.0
DOMAIN = os.getpid() % 90 + 1

pytestmark = pytest.mark.system


@pytest.mark.launch_test
def generate_test_description() -> LaunchDescription:
    """The shipped launch file, over and over: launch_testing wants to end it itself."""
    os.environ["ROS_DOMAIN_ID"] = str(DOMAIN)
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    arguments = {
        "bag": "synthetic:frames=40,width=320",
        "rate": "max",
        "loop": "true",
        "backend": "emulated",
        "rviz": "false",
    }
    source = PythonLaunchDescriptionSource(str(resources.share() / "launch" / "bag.launch.py"))
    bag = IncludeLaunchDescription(source, launch_arguments=arguments.items())
    return LaunchDescription([bag, ReadyToTest()])


class TestRunning(unittest.TestCase):
    """While the sequence plays."""

    def test_odometry_and_tf(self) -> None:
        context = Context()
        rclpy.init(context=context, domain_id=DOMAIN)
        node = rclpy.create_node("launch_test", context=context)
        executor = SingleThreadedExecutor(context=context)
        executor.add_node(node)
        odometry: list[Odometry] = []
        edges: set[tuple[str, str]] = set()

        def on_tf(message: TFMessage) -> None:
            edges.update((t.header.frame_id, t.child_frame_id) for t in message.transforms)

        node.create_subscription(Odometry, "odom", odometry.append, 100)
        node.create_subscription(TFMessage, "/tf", on_tf, 100)
        end_s = time.monotonic() + TIMEOUT_S
        while len(odometry) < FRAMES and time.monotonic() < end_s:
            executor.spin_once(timeout_sec=0.1)
        executor.shutdown()
        node.destroy_node()
        context.try_shutdown()

        self.assertGreaterEqual(len(odometry), FRAMES)
        stamps = [m.header.stamp.sec * 10**9 + m.header.stamp.nanosec for m in odometry]
        self.assertEqual(stamps, sorted(set(stamps)))
        self.assertEqual({m.header.frame_id for m in odometry}, {"odom"})
        self.assertLessEqual({("map", "odom"), ("odom", "base_link")}, edges)


@launch_testing.post_shutdown_test()
class TestEnded(unittest.TestCase):
    """After SIGINT."""

    def test_every_node_ended_cleanly(self, proc_info) -> None:
        launch_testing.asserts.assertExitCodes(proc_info, allowable_exit_codes=[0])
        self.assertEqual(len(proc_info.process_names()), 5)
