# SPDX-License-Identifier: Apache-2.0
"""The launch files declare the arguments of the table, and start the processes of its plan."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("launch_ros", reason="needs launch_ros (ROS 2)")

from ament_index_python.packages import get_packages_with_prefixes
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch_ros.actions import Node

from drp_slam.errors import ConfigError
from drp_slam.nodes.arguments import declared
from drp_slam.nodes.launching import description
from launch import LaunchContext

STAGES = ["profiler_node", "drp_node", "perception_node", "pose_node"]
BAG = {"bag": "synthetic:frames=3,width=64"}


def started(player: bool, **given: str) -> list[Node]:
    """The processes that a launch file starts with these arguments."""
    context = LaunchContext()
    context.launch_configurations.update(given)
    entities = description(player).entities
    for entity in entities:
        if isinstance(entity, DeclareLaunchArgument):
            entity.execute(context)
    actions = [a for entity in entities if isinstance(entity, OpaqueFunction) for a in entity.execute(context)]
    return [action for action in actions if isinstance(action, Node)]


@pytest.mark.parametrize("player", [False, True], ids=["slam", "bag"])
def test_declares_the_table(player):
    arguments = [entity for entity in description(player).entities if isinstance(entity, DeclareLaunchArgument)]
    assert [argument.name for argument in arguments] == [name for name, _, _ in declared(player)]
    assert all(argument.description for argument in arguments)


def test_starts_the_processes_of_the_plan():
    assert [node.node_executable for node in started(False)] == STAGES
    assert [node.node_executable for node in started(True, **BAG)] == [*STAGES, "player_node"]
    assert [node.node_executable for node in started(False, container="true", rerun="true")] == [
        "container",
        "rerun_view",
    ]


@pytest.fixture
def viewer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package rviz2, which is not installed everywhere."""
    index = tmp_path / "share/ament_index/resource_index/packages/rviz2"
    index.parent.mkdir(parents=True)
    index.touch()
    monkeypatch.setenv("AMENT_PREFIX_PATH", str(tmp_path), prepend=":")


def test_rviz_is_started_beside_them(viewer):
    assert [node.node_executable for node in started(False, rviz="true")] == [*STAGES, "rviz2"]


def test_without_rviz_it_says_so_before_any_process():
    if "rviz2" in get_packages_with_prefixes():
        pytest.skip("rviz2 is installed here")
    with pytest.raises(ConfigError, match="rviz2 is not installed"):
        started(False, rviz="true")
