# SPDX-License-Identifier: Apache-2.0
"""docs/ros.md names every topic and service that the nodes have."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytest.importorskip("rclpy")

from rclpy.context import Context
from rclpy.parameter import Parameter

from drp_slam.nodes.drp_node import DrpNode
from drp_slam.nodes.perception_node import PerceptionNode
from drp_slam.nodes.pose_node import PoseNode
from drp_slam.nodes.profiler_node import ProfilerNode

PAGE = Path(__file__).resolve().parents[2] / "docs" / "ros.md"
ROS_OWN = {"/rosout", "/parameter_events", "/clock"}


@pytest.mark.parametrize("pair", [False, True])
def test_the_page_names_every_topic_and_service(pair):
    names = set(re.findall(r"`([^`\s]+)`", PAGE.read_text()))
    context = Context()
    context.init(args=[], initialize_logging=False)
    try:
        for make in (DrpNode, PerceptionNode, PoseNode, ProfilerNode):
            node = make(context=context, parameter_overrides=[Parameter("pair", value=pair)])
            own = {t.topic for t in (*node.publishers, *node.subscriptions)} | {s.srv_name for s in node.services}
            own = {n for n in own if n not in ROS_OWN and f"{node.get_name()}/" not in n}
            missing = {n for n in own if n not in names and n.lstrip("/") not in names}
            node.destroy_node()
            assert not missing, f"docs/ros.md does not name {sorted(missing)} of {make.__name__}"
    finally:
        context.try_shutdown()
