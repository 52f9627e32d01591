# SPDX-License-Identifier: Apache-2.0
"""Listens to a running graph on /diagnostics, for `top`."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from drp_slam.config import NODE_SECTIONS
from drp_slam.errors import GraphError
from drp_slam.nodes import qos, status_codec
from drp_slam.nodes.base import HEALTH_PERIOD_S
from drp_slam.nodes.node_findings import NodeFindings

UTILISATION = "utilisation."
COMPLETE_S = 1.5 * HEALTH_PERIOD_S
"""The graph is considered complete when no other node appears for this long."""
LEVELS = {DiagnosticStatus.OK: "OK", DiagnosticStatus.WARN: "WARN", DiagnosticStatus.ERROR: "ERROR"}


class Top(Node):
    """Keeps the last health and findings of every node of the graph in its own namespace."""

    def __init__(self) -> None:
        name = f"_drp_slam_top_{os.getpid()}"
        super().__init__(name, start_parameter_services=False, enable_rosout=False)
        self._health: dict[str, dict[str, str]] = {}
        self._heard_s: dict[str, float] = {}
        self._newest_s = 0.0
        self._reported = NodeFindings()
        self.create_subscription(DiagnosticArray, "/diagnostics", self._on_health, qos.health())

    def _on_health(self, message: DiagnosticArray) -> None:
        for status in message.status:
            node = status_codec.health_of(status, self.get_namespace())
            if reported := status_codec.finding_of(status, self.get_namespace()):
                self._reported.add(*reported)
            elif node in NODE_SECTIONS:
                self._reported.health(node)
                level = LEVELS.get(status.level, "STALE")
                self._health[node] = {**status_codec.values_of(status), "message": status.message, "level": level}
                if node not in self._heard_s:
                    self._newest_s = time.monotonic()
                self._heard_s[node] = time.monotonic()

    def found(self) -> dict[str, Any] | None:
        """The graph's state; None until the profiler has reported, and all others had time to."""
        now_s = time.monotonic()
        if "profiler_node" not in self._health or now_s - self._newest_s < COMPLETE_S:
            return None
        nodes = {
            node: {**values, "silent_s": round(now_s - self._heard_s[node], 1)}
            for node, values in sorted(self._health.items())
        }
        findings = [finding.values() for finding in self._reported.findings]
        figures = summary(self._health["profiler_node"])
        return {"namespace": self.get_namespace(), **figures, "nodes": nodes, "findings": findings}


def summary(profiler: Mapping[str, str]) -> dict[str, Any]:
    """The figures of the profiler's health as numbers; None for those that are not known yet.

    `fps`, `latency_ms` and `frames` were measured here; utilisation (1: all the time), energy, power and
    temperature are modelled. All except the counts are of the last seconds.
    """

    def number(key: str) -> float | None:
        try:
            return float(profiler[key])
        except (KeyError, ValueError):
            return None

    return {
        "state": profiler.get("state", ""),
        "reason": profiler.get("reason", ""),
        "frames": int(number("frames") or 0),
        "lost": int(number("lost") or 0),
        "dropped": int(number("dropped") or 0),
        "fps": number("rate_hz"),
        "latency_ms": number("latency.wall_ms"),
        "utilisation": {k.removeprefix(UTILISATION): number(k) for k in profiler if k.startswith(UTILISATION)},
        "energy_mj": number("energy_mj"),
        "power_w": number("power_w"),
        "temperature_c": number("temperature_c"),
    }


SETTLED_S = HEALTH_PERIOD_S
"""Every node reports within this time: so the first display has all of them."""


def watch(namespace: str, timeout_s: float, show: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """Calls `show` with the graph's state twice a second until it returns False or SIGINT; the last state.

    Raises GraphError if no graph publishes within `timeout_s`.
    """
    options = ["--ros-args", "-r", f"__ns:=/{namespace.strip('/')}"]
    rclpy.init(args=options, signal_handler_options=SignalHandlerOptions.NO)
    try:
        node = Top()
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        began_s = drawn_s = time.monotonic()
        found = first_s = None
        try:
            while True:
                executor.spin_once(0.1)
                found, now_s = node.found(), time.monotonic()
                if found is None and now_s - began_s > timeout_s:
                    raise GraphError(
                        f"no graph found in {timeout_s:g} s on ROS domain {os.environ.get('ROS_DOMAIN_ID', '0')}, "
                        f"namespace {node.get_namespace()}; start one with up, or give --namespace or ROS_DOMAIN_ID"
                    )
                if found is not None and first_s is None:
                    first_s = now_s
                if first_s is not None and found is not None and now_s - max(drawn_s, first_s + SETTLED_S) > 0.5:
                    drawn_s = now_s
                    if not show(found):
                        return found
        except (KeyboardInterrupt, ExternalShutdownException):
            return found or {}
        finally:
            node.destroy_node()
    finally:
        rclpy.try_shutdown()
