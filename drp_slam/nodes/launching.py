# SPDX-License-Identifier: Apache-2.0
"""The table of nodes as a launch description, for `launch/*.launch.py`."""

from __future__ import annotations

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
from drp_slam.config import Config
from drp_slam.data.sequence import Sequence
from drp_slam.errors import ConfigError, GraphError
from drp_slam.nodes.arguments import Plan, declared, planned
from drp_slam.nodes.shared_memory import remove_orphans
from drp_slam.nodes.table import NodeSpec, Place, environment, write_parameters
from drp_slam.nodes.up import conclude
from drp_slam.reporting.claim import claimed
from drp_slam.reporting.results import build
from launch import LaunchContext, LaunchDescription  # type: ignore[attr-defined]

GRACE_S = "60"
"""Time for an interrupted node to write its results."""
RESPAWN_DELAY_S = 1.0

VIEWERS = ("rviz2", "rerun_view")
"""Processes whose failure does not end the graph."""


def description(player: bool) -> LaunchDescription:
    """Launch arguments, environment, nodes; the end of a recording ends the launch."""
    arguments = declared(player)
    return LaunchDescription(
        [DeclareLaunchArgument(n, default_value=d, description=h) for n, d, h in arguments]
        + [OpaqueFunction(function=_actions, args=[player])]
    )


def _actions(context: LaunchContext, player: bool) -> list[Any]:
    """The actions for given arguments."""
    given = {name: LaunchConfiguration(name).perform(context) for name, _, _ in declared(player)}
    plan = planned(given, player)
    if player:
        given["bag"] = plan.config.player.sequence
    shown = rviz(plan) if plan.rviz else []
    if plan.rerun is not None:
        shown.append(viewer("rerun_view", plan.place, [plan.rerun] if plan.rerun else []))
    remove_orphans()
    results = [Results(plan.config, plan.sequence, given)] if plan.config.graph.out else []
    environment_set = [SetEnvironmentVariable(n, v) for n, v in environment(player).items()]
    processes = [process(spec, plan.respawn and not spec.ends) for spec in plan.specs]
    return environment_set + processes + shown + [action for one in results for action in one.actions()]


def process(spec: NodeSpec, again: bool) -> Node:
    """A process of the graph; the graph ends with it, unless it is started `again`."""
    return Node(
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


def rviz(plan: Plan) -> list[Node]:
    """rviz2 with the shipped view. Raises ConfigError, before any node runs, where it is not installed.

    launch itself would notice only after it has started the nodes, and leave them running.
    """
    try:
        get_package_prefix("rviz2")
    except PackageNotFoundError:
        raise ConfigError("rviz:=true: rviz2 is not installed; install ros-$ROS_DISTRO-rviz2 or leave it out") from None
    view = str(resources.share() / "config" / "rviz" / "slam.rviz")
    where: dict[str, Any] = {"namespace": plan.place.namespace, "remappings": list(plan.place.remappings())}
    arguments, clock = ["-d", view, "-f", plan.config.graph.map_frame], [{"use_sim_time": plan.use_sim_time}]
    return [Node(package="rviz2", executable="rviz2", arguments=arguments, parameters=clock, **where)]
