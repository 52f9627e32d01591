# SPDX-License-Identifier: Apache-2.0
"""The same frames on several systems: cost of each stage, and simulation in time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from drp_slam.chip.soc import Soc
from drp_slam.drpai3.detect import Due
from drp_slam.frontend.recognise import DETECT
from drp_slam.profiler.work_table import FrameWorks
from drp_slam.reporting.frame_schedule import (
    CHIP,
    PricedFrame,
    System,
    jitter_ms,
    percentiles_ms,
    queues,
    simulate_jobs,
)


@dataclass(frozen=True)
class Workload:
    """Localisation, with recognition at `rate_hz`; 0 for none, infinity for every frame."""

    name: str
    rate_hz: float = 0.0


WORKLOADS = (
    Workload("localise"),
    Workload("localise + recognise at 5 Hz", 5.0),
    Workload("localise + recognise at 10 Hz", 10.0),
    Workload("localise + recognise every frame", math.inf),
)


SYSTEMS = (
    CHIP,
    System("chip without custom", custom=False),
    System("CPU alone, C++ port", alone=True),
    System("chip as placed, CPU part in Python", python=True),
    System("CPU alone, in Python", alone=True, python=True),
)
AGAINST = {0: 2, 1: 2, 3: 4}
"""System -> its CPU-only baseline: ports with ports, Python with Python."""


def searched(frames: Mapping[int, FrameWorks], workload: Workload) -> Sequence[FrameWorks]:
    """The frames in order, with recognition only in those that the workload selects."""
    due = Due(1, 0.0 if math.isinf(workload.rate_hz) else workload.rate_hz)
    out = []
    for stamp_ns in sorted(frames):
        wanted = workload.rate_hz > 0 and due(stamp_ns)
        out.append({s: works for s, works in frames[stamp_ns].items() if wanted or s != DETECT.name})
    return out


def in_time(priced: Sequence[PricedFrame], soc: Soc, period_s: float) -> dict[str, Any]:
    """The frames as fast as possible, and live at one every `period_s`: all modelled."""
    jobs = [p.steps for p in priced]
    fast, live = simulate_jobs(jobs, soc), simulate_jobs(jobs, soc, live_period_s=max(period_s, 1e-9))
    energy_j = float(np.mean([p.energy_j for p in priced]))
    busy = queues(fast)
    return {
        "fps": fast.throughput_hz,
        "energy_j": energy_j,
        "power_w": energy_j * fast.throughput_hz,
        "utilisation": fast.utilisation(),
        "bottleneck": max(busy, key=busy.__getitem__),
        "live": {
            "rate_hz": 1.0 / period_s,
            "fps": live.throughput_hz,
            "dropped": live.dropped,
            "latency_ms": percentiles_ms(live.latency_s),
            "jitter_ms": jitter_ms(live.done_s[np.isfinite(live.done_s)]),
            "power_w": energy_j * live.throughput_hz,
        },
    }
