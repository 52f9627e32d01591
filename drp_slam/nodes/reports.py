# SPDX-License-Identifier: Apache-2.0
"""Runs the monitor as a process and reads its reports. No ROS is imported."""

from __future__ import annotations

import json
import os
import select
import subprocess
import time
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path

from drp_slam.doctor.findings import Finding, finding_from, worst_first
from drp_slam.nodes.child import started

PERIOD_S = 0.2
"""Period of the monitor's reports."""
TICKET = "_drp_slam_up_"
"""Prefix of hidden nodes whose names hold their start time: of two graphs the older one stays."""
GRACE_S = 5.0


class Reports:
    """The health of the graph's nodes, and the names of other nodes. Close it."""

    def __init__(self, log: Path, environment: Mapping[str, str], namespace: str = "") -> None:
        self._log, self._environment, self._namespace = log, environment, namespace
        self.health: dict[str, dict[str, str]] = {}
        self.findings: list[Finding] = []
        self._nodes: list[str] = []
        self._foreign: list[str] = []
        self._ticket = ""
        self._rest = b""
        self._process = self._started()

    def _started(self) -> subprocess.Popen[bytes]:
        with self._log.open("ab") as errors:
            return started(
                "drp_slam.nodes.monitor",
                ["--ros-args", "-r", f"__ns:={self._namespace or '/'}"],
                stdout=subprocess.PIPE,
                stderr=errors,
                env=dict(self._environment),
            )

    def wait(self, seconds: float) -> None:
        """Reads reports for at most this time; restarts the monitor if it has died."""
        assert self._process.stdout is not None
        if not select.select([self._process.stdout], [], [], seconds)[0]:
            return
        text = os.read(self._process.stdout.fileno(), 1 << 20)
        if not text:
            self._process.wait()
            time.sleep(seconds)
            self._process, self._rest = self._started(), b""
            return
        *lines, self._rest = (self._rest + text).split(b"\n")
        for line in lines[::-1]:
            if line.startswith(b"{"):  # the middleware prints there too
                content = json.loads(line)
                self.health, self._nodes, self._ticket = content["health"], content["nodes"], content["ticket"]
                self._foreign = content["foreign"]
                self.findings = worst_first(map(finding_from, content["findings"]))
                return

    def renew(self) -> None:
        """Starts the monitor anew: what it does not hear may be its own fault."""
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._process, self._rest = self._started(), b""

    def rival(self, names: Collection[str]) -> str:
        """The name of a node of an older graph in this namespace, or an empty string; `names` are the own nodes."""
        return rival(self._nodes, self._ticket, set(self._foreign) & set(names))

    def close(self) -> None:
        """Ends the monitor."""
        self._process.terminate()
        try:
            self._process.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


def rival(nodes: Collection[str], ticket: str, foreign: Collection[str]) -> str:
    """Which of `nodes`, the names seen on the domain, shows that an older graph runs; an empty string for none.

    Of two graphs started by `up` the younger one, by its `ticket`, gives way. A graph started otherwise has none: its
    nodes are seen twice, and are `foreign`, that is, publish health of their own. A name seen twice proves nothing by
    itself, because DDS keeps the name of a killed process for 20 s; health proves nothing either, because a bag that
    is played publishes it.
    """
    tickets = [name for name in nodes if name.startswith(TICKET) and name != ticket]
    if tickets:
        return min([name for name in tickets if name < ticket], default="")
    seen = Counter(nodes)
    return min([name for name in foreign if seen[name] > 1], default="")
