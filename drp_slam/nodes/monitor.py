# SPDX-License-Identifier: Apache-2.0
"""Listens to `/diagnostics` for whoever started the graph."""

from __future__ import annotations

from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node

from drp_slam.nodes import qos, status_codec


class Monitor:
    """The last health of each node: its values, with `level` and `message`."""

    def __init__(self) -> None:
        self._context = Context()
        self._context.init(args=[], initialize_logging=False)
        self._node = Node(
            "up_monitor",
            context=self._context,
            use_global_arguments=False,
            start_parameter_services=False,
            enable_rosout=False,
        )
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._node.create_subscription(DiagnosticArray, "/diagnostics", self._on_health, qos.health())
        self.health: dict[str, dict[str, str]] = {}
        self.pids: dict[str, set[str]] = {}

    def spin(self, seconds: float) -> None:
        """Handles what has arrived."""
        self._executor.spin_once(seconds)

    def rivals(self) -> list[str]:
        """Nodes that speak with more than one process: another graph is on the same domain."""
        return sorted(node for node, pids in self.pids.items() if len(pids) > 1)

    def close(self) -> None:
        """Leaves the graph."""
        self._executor.shutdown()
        self._node.destroy_node()
        self._context.try_shutdown()

    def _on_health(self, message: Any) -> None:
        for status in message.status:
            node, _, part = status.name.partition(": ")
            if part == "health":
                values = status_codec.values_of(status)
                self.health[node] = {**values, "message": status.message}
                self.pids.setdefault(node, set()).add(values.get("pid", ""))
