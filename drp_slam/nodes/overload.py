# SPDX-License-Identifier: Apache-2.0
"""Behaviour of the graph with a camera that is faster than the graph: `bench --overload`. No ROS is imported.

First as fast as the graph answers, with as many frames in flight as it accepts, then at multiples of that rate. The
publisher is a process of its own, whose use of the host is reported with the graph's figures.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from drp_slam.config import Config
from drp_slam.errors import GraphError
from drp_slam.nodes.child import started
from drp_slam.nodes.processes import Processes
from drp_slam.nodes.renewal import processor_s
from drp_slam.nodes.reports import PERIOD_S, Reports
from drp_slam.nodes.table import environment, nodes, transport
from drp_slam.reporting import folder as files

LOADS = (2, 4, 8)
"""Multiples of the graph's own rate."""
WARM_UP_S = 2.0
"""Time at the start of each load that is not measured."""
READY_S = 180.0


def measure(config: Config, sequence: str, seconds: float, loads: Sequence[float] = LOADS) -> list[dict[str, Any]]:
    """A row for the graph's own rate, and one for each load, of `seconds` each; all of it measured here.

    `config.graph.out` is the folder of results. Raises GraphError.
    """
    out = Path(config.graph.out)
    local = {**environment(True), **transport(False, local=True)}
    specs = [replace(s, environment={**s.environment, **local}) for s in nodes(config, player=False)]
    processes = Processes(specs, out / "log", {**os.environ, **local})
    try:
        processes.start()
        _until_ready(processes)
        _phase(processes, sequence, 0.0, WARM_UP_S)
        phases = [_phase(processes, sequence, 0.0, seconds)]
        own_hz = phases[0].answered / phases[0].seconds
        phases += [_phase(processes, sequence, load * own_hz, seconds) for load in loads]
        processes.interrupt()
    finally:
        processes.kill()
    return rows(phases, files.read_frames(out / files.FRAMES))


@dataclass(frozen=True)
class Phase:
    """One load: frames sent from `begin_ns` to `end_ns` of this host's time, and processor time spent meanwhile."""

    sent: int
    answered: int
    begin_ns: int
    end_ns: int
    publisher_s: float
    graph_s: float

    @property
    def seconds(self) -> float:
        return (self.end_ns - self.begin_ns) * 1e-9


def _until_ready(processes: Processes) -> None:
    reports = Reports(processes.logs / "monitor.log", processes.environment)
    end_s = time.monotonic() + READY_S
    try:
        while any(reports.health.get(n, {}).get("ready") != "1" for n in processes.nodes()):
            processes.check()
            reports.wait(PERIOD_S)
            if time.monotonic() > end_s:
                raise GraphError(f"the graph is not ready after {READY_S:g} s; see {processes.logs}")
    finally:
        reports.close()


def _phase(processes: Processes, sequence: str, hz: float, seconds: float) -> Phase:
    """Runs the publisher at this rate (0: as fast as the graph answers). Raises GraphError."""
    environment = {**processes.environment, **transport(True, local=True)}
    with (processes.logs / "flood.log").open("ab") as log:
        flood = started(
            "drp_slam.nodes.flood",
            [sequence, str(hz), str(seconds)],
            stdout=subprocess.PIPE,
            stderr=log,
            env=environment,
        )
    assert flood.stdout is not None
    with flood.stdout as answer:
        first = answer.readline()  # at its start
        before_s = _busy_s(processes)
        words = first if b"error" in first else answer.readline()
        busy_s = _busy_s(processes) - before_s
    flood.wait()
    processes.check()
    try:
        answer = json.loads(words)
        return Phase(answer["sent"], answer["answered"], answer["begin_ns"], answer["end_ns"], answer["cpu_s"], busy_s)
    except (ValueError, KeyError, TypeError) as error:
        raise GraphError(f"the publisher of frames failed: {words.decode(errors='replace')}; see its log") from error


def _busy_s(processes: Processes) -> float:
    return sum(processor_s(pid) for pid in processes.pids().values())


def rows(phases: Sequence[Phase], frames: Sequence[files.FrameRow]) -> list[dict[str, Any]]:
    """Figures of each phase. `goodput` and `p99_ratio` are relative to the first one's."""
    found: list[dict[str, Any]] = []
    for phase in phases:
        latencies_ms = [1e3 * f.latency_s for f in frames if phase.begin_ns <= f.stamp_ns < phase.end_ns]
        if not latencies_ms:
            raise GraphError("no frame was tracked; see the nodes' logs")
        p50_ms, p99_ms = np.percentile(latencies_ms, (50, 99)).tolist()
        first = found[0] if found else {"done_hz": len(latencies_ms) / phase.seconds, "p99_ms": p99_ms}
        found.append(
            {
                "sent_hz": phase.sent / phase.seconds,
                "done_hz": len(latencies_ms) / phase.seconds,
                "goodput": len(latencies_ms) / phase.seconds / first["done_hz"],
                "p50_ms": p50_ms,
                "p99_ms": p99_ms,
                "p99_ratio": p99_ms / first["p99_ms"],
                "graph_ms_per_frame": 1e3 * phase.graph_s / len(latencies_ms),
                "publisher_cores": phase.publisher_s / phase.seconds,
            }
        )
    return found
