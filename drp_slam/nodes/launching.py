# SPDX-License-Identifier: Apache-2.0
"""The table of nodes as a launch description, for `launch/*.launch.py`."""

from __future__ import annotations

import dataclasses
import re
import signal
import tempfile
from pathlib import Path
from typing import Any

from ament_index_python.packages import PackageNotFoundError, get_package_prefix
from launch.actions import DeclareLaunchArgument, OpaqueFunction, RegisterEventHandler, SetEnvironmentVariable, Shutdown
from launch.event_handlers import OnProcessExit, OnProcessStart, OnShutdown
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from drp_slam import resources
from drp_slam.atomic import make_folder
from drp_slam.config import DEFAULT_NETWORK, Config
from drp_slam.config.config_file import load, override
from drp_slam.data.dataset import open_sequence, playable
from drp_slam.data.sequence import Sequence
from drp_slam.errors import ConfigError, GraphError
from drp_slam.nodes.camera_topics import CAMERA_TOPICS, PAIR_TOPICS
from drp_slam.nodes.options import rate
from drp_slam.nodes.shared_memory import remove_orphans
from drp_slam.nodes.table import NodeSpec, Place, contained, environment, nodes, write_parameters
from drp_slam.nodes.up import conclude, verify
from drp_slam.reporting.claim import claimed
from drp_slam.reporting.results import build
from launch import LaunchContext, LaunchDescription  # type: ignore[attr-defined]

GRACE_S = "60"
"""Time for an interrupted node to write its results."""
RESPAWN_DELAY_S = 1.0

VIEWERS = ("rviz2", "rerun_view")
"""Processes whose failure does not end the graph."""

MODES = ("mapping", "localisation")

ARGUMENTS = (
    ("config", "", "YAML like config/drp_slam.yaml; the other arguments override it"),
    ("backend", "", "device that runs the network and the image kernels: emulated (default) or cpu"),
    ("network", "", f"shipped network or ONNX file (default: {DEFAULT_NETWORK})"),
    ("device", "", "chip to model: rzv2h (default), rzv2n or a file"),
    ("features", "", "front end for features: xfeat (default)"),
    ("sensor", "", "auto (default): depth or a stereo pair; mono: the image alone, up to scale"),
    ("out", "", "folder of results, written at the end; empty: none"),
    ("namespace", "", "ROS namespace of nodes, topics and /tf; empty: none"),
    ("frame_prefix", "", "prefix of all frames, such as robot1/, to share /tf with other robots; empty: none"),
    ("use_sim_time", "false", "follow /clock, as with a simulator"),
    ("mount", "", "pose of the camera on the robot, if /tf does not have it: x y z in m, roll pitch yaw in deg"),
    ("map", "", "map file to load and extend; empty: begin a new one"),
    ("save_map", "", "save the map to this file at the end; empty: do not save"),
    ("odometry", "", "topic of wheel odometry that predicts the motion (nav_msgs/Odometry); empty: none"),
    ("imu", "", "topic of an IMU that predicts the rotation (sensor_msgs/Imu); empty: none"),
    ("prior", "", "file of poses, orientations or angular velocities that predicts the motion; empty: none"),
    ("mode", "mapping", "mapping, or localisation: localise only, never change the map"),
    ("container", "false", "run all nodes in one process, and pass images by reference"),
    ("autostart", "true", "activate the nodes; false: a lifecycle manager does"),
    ("rerun", "", "true: show the graph in the Rerun viewer; FILE.rrd: record it"),
    ("rviz", "false", "show image, features, trajectory, map and TF"),
    ("respawn", "", "restart a node that dies: true (default with a camera) or false (with a recording)"),
)
BAG = (
    ("bag", "synthetic", "TUM RGB-D folder, rosbag2, or synthetic"),
    ("camera", "", "calibration, used instead of the recording's own"),
    ("rate", "1.0", "speed of playback, or max"),
    ("frames", "0", "number of frames; 0: all"),
    ("loop", "false", "start again at the end"),
)


def description(player: bool) -> LaunchDescription:
    """Launch arguments, environment, nodes; the end of a recording ends the launch."""
    topics = tuple((t, "" if t in PAIR_TOPICS else t, f"topic of {text}") for t, text in CAMERA_TOPICS.items())
    arguments = ARGUMENTS + (BAG if player else topics)
    return LaunchDescription(
        [DeclareLaunchArgument(n, default_value=d, description=h) for n, d, h in arguments]
        + [OpaqueFunction(function=_actions, args=[player, [n for n, _, _ in arguments]])]
    )


def _actions(context: LaunchContext, player: bool, names: list[str]) -> list[Any]:
    """The actions for given arguments."""
    given = {name: LaunchConfiguration(name).perform(context) for name in names}
    config = configuration(given, player)
    respawn = truth(given["respawn"] or str(not player), "respawn")
    topics = {} if player else {t: given[t] for t in CAMERA_TOPICS if given[t] not in (t, "")}
    place = Place(
        topics, given["namespace"], truth(given["use_sim_time"], "use_sim_time"), bool(config.graph.frame_prefix)
    )
    shown = rviz(place, player or place.use_sim_time, config.graph.map_frame) if truth(given["rviz"], "rviz") else []
    if given["rerun"] not in ("", "false"):
        file = [] if given["rerun"] == "true" else [given["rerun"]]
        shown.append(viewer("rerun_view", place, file))
    sequence = None
    if player:
        config = playable(config)
        given["bag"] = config.player.sequence
        sequence = open_sequence(given["bag"], given["camera"] or None, 0, config.player.frames or None)
    pair = place.pair if sequence is None else sequence.camera.baseline_m is not None
    config = override(config, {"graph.pair": pair})
    if sequence is not None and sequence.camera.mono:
        config = override(config, {"slam.sensor": "mono"})
    verify(config)
    remove_orphans()
    results = [Results(config, sequence, given)] if config.graph.out else []
    actions: list[Any] = [SetEnvironmentVariable(n, v) for n, v in environment(player).items()]
    specs = nodes(config, player, place)
    if truth(given["container"], "container"):
        specs = contained(specs)
    for spec in specs:
        again = respawn and not spec.ends
        actions.append(
            Node(
                package="drp_slam",
                executable=spec.name,
                name=None if spec.members else spec.name,  # a name would apply to all members
                namespace=spec.namespace,
                arguments=spec.arguments,
                parameters=[parameter_file(spec) if spec.members else dict(spec.parameters)],
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
    return actions + shown + [action for one in results for action in one.actions()]


def parameter_file(spec: NodeSpec) -> str:
    """A file with the parameters of every node of a container, as launch itself writes for one node."""
    with tempfile.NamedTemporaryFile(prefix="drp_slam_", suffix=".yaml", delete=False) as file:
        path = Path(file.name)
    write_parameters(path, [spec])
    return str(path)


class Results:
    """Writes `run.json`, ground truth and report when the last node has ended, as `up` does."""

    def __init__(self, config: Config, sequence: Sequence | None, given: dict[str, str]) -> None:
        self._config, self._sequence, self._given = config, sequence, given
        self._out = make_folder(Path(config.graph.out))
        self._claim = claimed(self._out, given.get("bag"))
        self._run_id = self._claim.__enter__()
        self._running: set[str] = set()
        self._failure: GraphError | None = None
        self._concluded = False

    def actions(self) -> list[Any]:
        """Handlers for the start and exit of launched processes."""
        return [
            RegisterEventHandler(OnProcessStart(on_start=lambda event, _: self._running.add(event.process_name))),
            RegisterEventHandler(OnProcessExit(on_exit=self._on_exit)),
            RegisterEventHandler(OnShutdown(on_shutdown=self._on_shutdown)),
        ]

    def _on_exit(self, event: Any, context: LaunchContext) -> None:
        name = re.sub(r"-\d+$", "", event.process_name)
        self._running.discard(event.process_name)
        if event.returncode not in (0, -signal.SIGALRM) and name not in VIEWERS:  # the latter: see `running.spin`
            self._failure = self._failure or GraphError(f"{name} ended with exit code {event.returncode}")
        if context.is_shutdown:
            self._on_shutdown(event, context)

    def _on_shutdown(self, event: Any, context: LaunchContext) -> None:
        """Concludes once nothing runs: at the shutdown itself if there was a single process."""
        if self._running or self._concluded:
            return
        self._concluded = True
        about = {
            "sequence": self._given.get("bag"),
            "camera": self._given.get("camera") or None,
            "start": 0,
            "graph": True,
            "in_flight": self._config.player.in_flight,
            "rate": self._given.get("rate"),
            "run_id": self._run_id,
        }
        try:
            conclude(self._config, self._sequence, self._out, about, self._failure)
            build(self._out)
        finally:
            self._claim.__exit__(None, None, None)


def viewer(name: str, place: Place, arguments: list[str]) -> Node:
    """A node of this package that only listens; the graph does not end with it."""
    where: dict[str, Any] = {"namespace": place.namespace, "remappings": list(place.remappings())}
    return Node(package="drp_slam", executable=name, arguments=arguments, output="screen", **where)


def rviz(place: Place, use_sim_time: bool, fixed_frame: str) -> list[Node]:
    """rviz2 with the shipped view. Raises ConfigError, before any node runs, where it is not installed.

    launch itself would notice only after it has started the nodes, and leave them running.
    """
    try:
        get_package_prefix("rviz2")
    except PackageNotFoundError:
        raise ConfigError("rviz:=true: rviz2 is not installed; install ros-$ROS_DISTRO-rviz2 or leave it out") from None
    view = str(resources.share() / "config" / "rviz" / "slam.rviz")
    where: dict[str, Any] = {"namespace": place.namespace, "remappings": list(place.remappings())}
    clock = [{"use_sim_time": use_sim_time}]
    return [
        Node(package="rviz2", executable="rviz2", arguments=["-d", view, "-f", fixed_frame], parameters=clock, **where)
    ]


def configuration(given: dict[str, str], player: bool) -> Config:
    """The configuration with the launch arguments. Raises ConfigError as `config_file.load` does."""
    config = load(given["config"] or None)
    values: dict[str, Any] = {
        f"{section}.backend": given["backend"] for section in ("drp", "drpai3") if given["backend"]
    }
    values |= {name: given[name] for name in ("features", "network", "mount", "frame_prefix") if given[name]}
    values |= {f"slam.{name}_topic": given[name] for name in ("odometry", "imu") if given[name]}
    for name in ("map", "save_map", "prior"):
        if given[name]:
            values[f"slam.{name}"] = str(Path(given[name]).expanduser().absolute())
    if given["mode"] not in MODES:
        raise ConfigError(f"mode:={given['mode']}: expected one of {', '.join(MODES)}")
    values["autostart"] = truth(given["autostart"], "autostart")
    if given["sensor"]:
        values["slam.sensor"] = given["sensor"]
    values["slam.localise"] = given["mode"] == MODES[1]
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
