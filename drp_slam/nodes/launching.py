# SPDX-License-Identifier: Apache-2.0
"""The table of nodes as a launch description: what `launch/*.launch.py` return."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from ament_index_python.packages import PackageNotFoundError, get_package_prefix
from launch.actions import DeclareLaunchArgument, OpaqueFunction, SetEnvironmentVariable, Shutdown
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from drp_slam import resources
from drp_slam.config import DEFAULT_NETWORK, Config, load, override
from drp_slam.errors import ConfigError
from drp_slam.nodes.options import rate
from drp_slam.nodes.shared_memory import remove_orphans
from drp_slam.nodes.table import CAMERA_TOPICS, environment, nodes
from drp_slam.reporting.claim import clear
from launch import LaunchContext, LaunchDescription  # type: ignore[attr-defined]

GRACE_S = "60"
"""An interrupted node writes its results within this."""
RESPAWN_DELAY_S = 1.0

ARGUMENTS = (
    ("config", "", "YAML like config/drp_slam.yaml; the other arguments override it"),
    ("backend", "", "what runs the network and the image kernels: emulated (default) or cpu"),
    ("network", "", f"shipped network or ONNX file (default: {DEFAULT_NETWORK})"),
    ("device", "", "chip that is modelled: rzv2h (default), rzv2n or a file"),
    ("features", "", "front end that finds the features: xfeat (default)"),
    ("out", "", "folder of results, written at the end; empty: none"),
    ("rviz", "false", "show image, features, trajectory, map and TF"),
    ("respawn", "", "start a node again that dies: true (default with a camera) or false (with a recording)"),
)
BAG = (
    ("bag", "synthetic", "TUM RGB-D folder, rosbag2, or synthetic"),
    ("camera", "", "calibration, where the recording has none"),
    ("rate", "1.0", "speed of playback, or max"),
    ("frames", "0", "number of frames; 0: all"),
    ("loop", "false", "start again at the end"),
)


def description(player: bool) -> LaunchDescription:
    """Arguments, environment, nodes; with a recording, its end ends the launch."""
    arguments = ARGUMENTS + (BAG if player else tuple((t, t, "topic") for t in CAMERA_TOPICS))
    return LaunchDescription(
        [DeclareLaunchArgument(n, default_value=d, description=h) for n, d, h in arguments]
        + [OpaqueFunction(function=_actions, args=[player, [n for n, _, _ in arguments]])]
    )


def _actions(context: LaunchContext, player: bool, names: list[str]) -> list[Any]:
    """All actions, once the arguments are known."""
    given = {name: LaunchConfiguration(name).perform(context) for name in names}
    config = configuration(given, player)
    respawn = truth(given["respawn"] or str(not player), "respawn")
    shown = rviz(player) if truth(given["rviz"], "rviz") else []
    topics = {} if player else {t: given[t] for t in CAMERA_TOPICS if given[t] != t}
    remove_orphans()
    if config.graph.out and Path(config.graph.out).is_dir():
        clear(Path(config.graph.out))
    actions: list[Any] = [SetEnvironmentVariable(n, v) for n, v in environment(player).items()]
    for spec in nodes(config, player, topics):
        again = respawn and not spec.ends
        actions.append(
            Node(
                package="drp_slam",
                executable=spec.name,
                name=spec.name,
                parameters=[dict(spec.parameters)],
                remappings=list(spec.remappings),
                additional_env=dict(spec.environment),
                output="screen",
                sigterm_timeout=GRACE_S,
                sigkill_timeout=GRACE_S,
                respawn=again,
                respawn_delay=RESPAWN_DELAY_S,
                on_exit=None if again else Shutdown(reason=f"{spec.name} has ended"),
            )
        )
    return actions + shown


def rviz(player: bool) -> list[Node]:
    """rviz2 with the shipped view. Raises ConfigError where it is not installed: before any node runs.

    launch itself notices it after it has started the nodes, and leaves them running.
    """
    try:
        get_package_prefix("rviz2")
    except PackageNotFoundError:
        raise ConfigError("rviz:=true: rviz2 is not installed; install ros-$ROS_DISTRO-rviz2 or leave it out") from None
    view = str(resources.share() / "config" / "rviz" / "slam.rviz")
    return [Node(package="rviz2", executable="rviz2", arguments=["-d", view], parameters=[{"use_sim_time": player}])]


def configuration(given: dict[str, str], player: bool) -> Config:
    """The configuration with the launch arguments. Raises ConfigError as `config.load` does."""
    config = load(given["config"] or None)
    values: dict[str, Any] = {
        f"{section}.{name}": given[name]
        for section in ("drp", "drpai3")
        for name in ("backend", "network")
        if given[name]
    }
    if given["features"]:
        values["features"] = given["features"]
    if given["device"]:
        values["device"] = resources.device_name(given["device"])
    if player:
        values |= {
            "player.sequence": given["bag"],
            "player.camera": given["camera"],
            "player.rate": rate(given["rate"]),
            "player.frames": whole(given["frames"], "frames"),
            "player.loop": truth(given["loop"], "loop"),
        }
    out = str(Path(given["out"]).resolve()) if given["out"] else ""
    config = override(config, values)
    return dataclasses.replace(config, graph=dataclasses.replace(config.graph, out=out))


def whole(text: str, name: str) -> int:
    """A whole number. Raises ConfigError that names the argument."""
    try:
        return int(text)
    except ValueError:
        raise ConfigError(f"{name}:={text}: expected a whole number; 0 is all") from None


def truth(text: str, name: str) -> bool:
    """`true` or `false`. Raises ConfigError that names the argument."""
    if text.lower() not in ("true", "false"):
        raise ConfigError(f"{name}:={text}: expected true or false")
    return text.lower() == "true"
