# SPDX-License-Identifier: Apache-2.0
"""`config/rviz/slam.rviz` asks for topics that the nodes publish, with a QoS that they offer."""

from __future__ import annotations

import pytest
import yaml

pytest.importorskip("rclpy")

from rclpy.qos import DurabilityPolicy, QoSCompatibility, QoSProfile, ReliabilityPolicy, qos_check_compatible

from drp_slam import resources
from drp_slam.nodes import qos

OFFERED = {
    "image": qos.frames_out(),
    "features_image": qos.camera_in(),
    "map_points": qos.latched(),
    "dense_cloud": qos.latched(),
    "path": qos.latched(),
    "keyframes": qos.latched(),
    "odom": qos.world(),
    "map": qos.latched(),
    "detections": qos.world(),
}
RELIABILITY = {"Reliable": ReliabilityPolicy.RELIABLE, "Best Effort": ReliabilityPolicy.BEST_EFFORT}
DURABILITY = {"Transient Local": DurabilityPolicy.TRANSIENT_LOCAL, "Volatile": DurabilityPolicy.VOLATILE}


def test_every_display_hears_its_topic():
    shown = yaml.safe_load((resources.share() / "config" / "rviz" / "slam.rviz").read_text())
    displays = shown["Visualization Manager"]["Displays"]
    topics = [display["Topic"] for display in displays if "Topic" in display]
    assert {topic["Value"] for topic in topics} == set(OFFERED)
    for topic in topics:
        asked = QoSProfile(
            depth=topic["Depth"],
            reliability=RELIABILITY[topic["Reliability Policy"]],
            durability=DURABILITY[topic["Durability Policy"]],
        )
        compatible, why = qos_check_compatible(OFFERED[topic["Value"]], asked)
        assert compatible != QoSCompatibility.ERROR, f"{topic['Value']}: {why}"
