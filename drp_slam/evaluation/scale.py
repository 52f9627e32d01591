# SPDX-License-Identifier: Apache-2.0
"""Time, memory and accuracy of the tracker over a long tour of a large building: what `bench --scale` measures."""

from __future__ import annotations

import math
import resource
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from drp_slam.config import SlamConfig
from drp_slam.data.accuracy import ate
from drp_slam.data.building import CAMERA, make_building, tour
from drp_slam.data.progress import track as progress
from drp_slam.datatypes import Frame, Trajectory
from drp_slam.errors import DataError
from drp_slam.slam.tracker import Tracker

LEAST_FRAMES = 100
FRAMES_PER_ROOM = 160
"""The building has one room per so many frames: every room is entered two or three times."""
DRIFT, DRIFT_FRAMES = 0.01, 600
"""Relative amplitude and period of a depth error: drift that loop closures remove."""


@dataclass(frozen=True)
class Scale:
    """Times in milliseconds are CPU time of the tracking thread, by tenths of the tour: median and 95th percentile.

    `rss_growth_mb` is from the process's memory before the first frame to its peak. `keyframes` counts
    created ones, `live` those not culled. `ate_share` is `ate_m` over the path.
    """

    rooms: int
    frames: int
    tracked: int
    keyframes: int
    live: int
    points: int
    loops: int
    path_m: float
    ate_m: float
    ate_share: float
    p50_ms: list[float]
    p95_ms: list[float]
    longest_ms: list[float]
    p95_ratio: float
    rss_growth_mb: float
    rss_mb_per_1000_keyframes: float


def measure(frames: int, seed: int = 0) -> Scale:
    """Tracks a tour of `frames` frames. Raises DataError for fewer than 100."""
    if frames < LEAST_FRAMES:
        raise DataError(f"--frames is {frames}, expected at least {LEAST_FRAMES} for a tour of a building")
    side = max(2, math.isqrt(frames // FRAMES_PER_ROOM))
    building = make_building(side, side, seed)
    poses = tour(building, frames, seed)
    rng, tracker = np.random.default_rng([seed, 0x5C]), Tracker(CAMERA, SlamConfig())
    stamps_ns = np.rint(np.arange(frames) * 1e9 / CAMERA.fps).astype(np.int64)
    before_mb = _rss_mb()
    taken_ms, tracked = np.zeros(frames), 0
    for k in progress(range(frames), frames, f"{side * side} rooms"):
        error = 1.0 + DRIFT * math.sin(2.0 * math.pi * k / DRIFT_FRAMES)
        features = building.see(poses[k], rng, error)
        frame = Frame(k, int(stamps_ns[k]), None, CAMERA, None, 0.001)
        start = time.thread_time()
        tracked += tracker.track(frame, features).tracked
        taken_ms[k] = (time.thread_time() - start) * 1e3
    growth_mb = _peak_rss_mb() - before_mb
    ate_m = ate(tracker.trajectory(), Trajectory(stamps_ns, poses)).rmse_m
    path_m = float(np.linalg.norm(np.diff(poses[:, :3, 3], axis=0), axis=1).sum())
    tenths = np.array_split(taken_ms, 10)
    p50, p95 = ([float(np.percentile(t, q)) for t in tenths] for q in (50, 95))
    count = len(tracker.map)
    return Scale(
        rooms=side * side,
        frames=frames,
        tracked=tracked,
        keyframes=count,
        live=len(tracker.map.live),
        points=int(tracker.map.points.alive.sum()),
        loops=len(tracker.loops),
        path_m=path_m,
        ate_m=ate_m,
        ate_share=ate_m / path_m,
        p50_ms=p50,
        p95_ms=p95,
        longest_ms=[float(t.max()) for t in tenths],
        p95_ratio=p95[-1] / p95[0],
        rss_growth_mb=growth_mb,
        rss_mb_per_1000_keyframes=1e3 * growth_mb / len(tracker.map.live),
    )


def _rss_mb() -> float:
    """Current memory, or the peak so far where the system does not report it."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return _peak_rss_mb()
    return pages * resource.getpagesize() / 1e6


def _peak_rss_mb() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6
