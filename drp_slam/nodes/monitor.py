# SPDX-License-Identifier: Apache-2.0
"""Monitors the domain for the process that started the graph: prints one JSON object per line.

`health` is the latest health of each node started by the parent process: its values, with `message`.
`findings` are the faults that these nodes report (`drp_slam.doctor`). Others may publish on
/diagnostics too, so a node is recognised by its process number, a child of the parent. `nodes` are
the names of all nodes in its namespace, `ticket` is its own; `foreign` are the nodes of another graph
that publish their health. It is a separate process because the middleware may hang or crash with its
shared memory (`reports`).
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections import Counter
from pathlib import Path

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.clock import Clock, ClockType
from rclpy.node import Node

from drp_slam.config import NODE_SECTIONS
from drp_slam.nodes import qos, status_codec
from drp_slam.nodes.node_findings import NodeFindings
from drp_slam.nodes.reports import PERIOD_S, TICKET
from drp_slam.nodes.running import spin

FOREIGN = 3
"""Another graph's node has published its health so often: one that was killed publishes nothing more."""


class Monitor(Node):
    """Collects health and node names and prints them."""

    def __init__(self) -> None:
        self._ticket = f"{TICKET}{time.time_ns():020d}_{os.getpid()}"
        super().__init__(self._ticket, start_parameter_services=False, enable_rosout=False)
        self._health: dict[str, dict[str, str]] = {}
        self._reported = NodeFindings()
        self._own: set[str] = set()
        self._foreign: Counter[tuple[str, str]] = Counter()
        self.create_subscription(DiagnosticArray, "/diagnostics", self._on_health, qos.health())
        self.create_timer(PERIOD_S, self._print, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def _on_health(self, message: DiagnosticArray) -> None:
        for status in message.status:
            node = status_codec.health_of(status, self.get_namespace())
            values = status_codec.values_of(status)
            pid = values.get("pid", "")
            if not is_child(pid, os.getppid()):
                if node in NODE_SECTIONS and pid not in self._own:
                    self._foreign[node, pid] += 1
                continue
            self._own.add(pid)
            if node in NODE_SECTIONS:
                self._health[node] = {**values, "message": status.message}
                self._reported.health(node)
            elif reported := status_codec.finding_of(status, self.get_namespace()):
                self._reported.add(*reported)

    def _print(self) -> None:
        own = self.get_namespace()
        nodes = [name for name, namespace in self.get_node_names_and_namespaces() if namespace == own]
        findings = [finding.values() for finding in self._reported.findings]
        foreign = sorted({node for (node, _), count in self._foreign.items() if count >= FOREIGN})
        content = {
            "health": self._health,
            "findings": findings,
            "nodes": nodes,
            "ticket": self._ticket,
            "foreign": foreign,
        }
        print(json.dumps(content), flush=True)

    def close(self) -> None:
        """Does nothing."""


def is_child(pid: str, parent: int) -> bool:
    """Whether the process of that number was started by `parent` (Linux's /proc/PID/stat, field 4)."""
    if not pid.isascii() or not pid.isdecimal() or len(pid) > 10:
        return False
    try:
        stat = Path("/proc", pid, "stat").read_text(errors="replace")
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[1:2] == [str(parent)]


def main() -> int:
    """Runs until SIGINT or SIGTERM, or until the parent is gone."""
    spin(lambda: [Monitor()])
    return 0


if __name__ == "__main__":
    sys.exit(main())
