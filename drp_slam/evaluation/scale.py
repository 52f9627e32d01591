# SPDX-License-Identifier: Apache-2.0
"""Time, memory and accuracy of the tracker over a long tour of a large building: what `bench --scale` measures."""

from __future__ import annotations

import gc
import math
import resource
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from drp_slam.config import SlamConfig
from drp_slam.data.accuracy import ate
from drp_slam.data.building import CAMERA, Building, make_building, tour
from drp_slam.data.progress import track as progress
from drp_slam.datatypes import Frame, Trajectory
from drp_slam.errors import DataError
from drp_slam.slam.mapfile import load, save
from drp_slam.slam.tracker import Tracker

LEAST_FRAMES = 100
FRAMES_PER_ROOM = 160
"""The building has one room per so many frames: every room is entered two or three times."""
DRIFT, DRIFT_FRAMES = 0.01, 600
"""Relative amplitude and period of a depth error: drift that loop closures remove."""
STALL_MS = 30.0
"""A frame that takes so much more time than the median keyframe stalls."""
SOUGHT = 50
"""Frames that are sought in the stored map."""
SOUGHT_M = 0.1
"""A frame sought is found if its pose lies this close to the one that the tour had there."""


@dataclass(frozen=True)
class Stored:
    """The map as a file, and frames of the tour sought in it without a prediction, each by itself.

    Times are CPU time. `found` of `sought` frames got a pose within `SOUGHT_M` of the tour's, `wrong` another one.
    """

    keyframes: int
    file_mb: float
    save_s: float
    load_s: float
    sought: int
    found: int
    wrong: int
    relocalise_p50_ms: float
    relocalise_longest_ms: float


@dataclass(frozen=True)
class Scale:
    """Times in milliseconds are CPU time of the tracking thread, by tenths of the tour.

    `p50_ms` and `p95_ms` are of all frames, `keyframe_p50_ms` of those that became keyframes, `keyframe_share` of the
    frames. `over_keyframe_ms` is by how much the longest frame exceeds the median keyframe of the tour, and `stalls`
    how many do so by more than `STALL_MS`. Memory is from before the first frame: at its peak, and after the last
    frame. `keyframes` counts created ones, `live` those not culled. `ate_share` is `ate_m` over the path.
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
    keyframe_p50_ms: list[float]
    keyframe_share: list[float]
    longest_ms: list[float]
    p95_ratio: float
    over_keyframe_ms: float
    stalls: int
    rss_growth_mb: float
    rss_mb_per_1000_keyframes: float
    rss_end_mb_per_1000_keyframes: float
    stored: Stored


def measure(frames: int, folder: Path, seed: int = 0) -> Scale:
    """Tracks a tour of `frames` frames, and writes the map to `folder`. Raises DataError for fewer than 100."""
    if frames < LEAST_FRAMES:
        raise DataError(f"--frames is {frames}, expected at least {LEAST_FRAMES} for a tour of a building")
    side = max(2, math.isqrt(frames // FRAMES_PER_ROOM))
    building = make_building(side, side, seed)
    poses = tour(building, frames, seed)
    rng, tracker = np.random.default_rng([seed, 0x5C]), Tracker(CAMERA, SlamConfig())
    stamps_ns = np.rint(np.arange(frames) * 1e9 / CAMERA.fps).astype(np.int64)
    gc.collect()
    gc.freeze()  # as a running node does: Python's collector does not look through what lives until the end
    before_mb = _rss_mb()
    taken_ms, keyframe, tracked = np.zeros(frames), np.zeros(frames, dtype=bool), 0
    for k in progress(range(frames), frames, f"{side * side} rooms"):
        error = 1.0 + DRIFT * math.sin(2.0 * math.pi * k / DRIFT_FRAMES)
        features = building.see(poses[k], rng, error)
        frame = Frame(k, int(stamps_ns[k]), None, CAMERA, None, 0.001)
        start = time.thread_time()
        track = tracker.track(frame, features)
        taken_ms[k] = (time.thread_time() - start) * 1e3
        tracked, keyframe[k] = tracked + track.tracked, track.keyframe
    gc.unfreeze()
    growth_mb, end_mb = _peak_rss_mb() - before_mb, _rss_mb() - before_mb
    ate_m = ate(tracker.trajectory(), Trajectory(stamps_ns, poses)).rmse_m
    path_m = float(np.linalg.norm(np.diff(poses[:, :3, 3], axis=0), axis=1).sum())
    tenths = list(zip(np.array_split(taken_ms, 10), np.array_split(keyframe, 10)))
    p50, p95 = ([float(np.percentile(t, q)) for t, _ in tenths] for q in (50, 95))
    over_ms = taken_ms - np.median(taken_ms[keyframe])
    live = len(tracker.map.live)
    return Scale(
        rooms=side * side,
        frames=frames,
        tracked=tracked,
        keyframes=len(tracker.map),
        live=live,
        points=int(tracker.map.points.alive.sum()),
        loops=len(tracker.loops),
        path_m=path_m,
        ate_m=ate_m,
        ate_share=ate_m / path_m,
        p50_ms=p50,
        p95_ms=p95,
        keyframe_p50_ms=[float(np.median(t[k])) if k.any() else 0.0 for t, k in tenths],
        keyframe_share=[float(k.mean()) for _, k in tenths],
        longest_ms=[float(t.max()) for t, _ in tenths],
        p95_ratio=p95[-1] / p95[0],
        over_keyframe_ms=float(over_ms.max()),
        stalls=int(np.count_nonzero(over_ms > STALL_MS)),
        rss_growth_mb=growth_mb,
        rss_mb_per_1000_keyframes=1e3 * growth_mb / live,
        rss_end_mb_per_1000_keyframes=1e3 * end_mb / live,
        stored=_stored(tracker, building, poses, folder / "scale.map", seed),
    )


def _stored(tracker: Tracker, building: Building, poses: np.ndarray, path: Path, seed: int) -> Stored:
    """Writes the map, reads it, and seeks frames of the tour in it, one by one and with new noise."""
    start = time.process_time()
    save(tracker.map, path)
    saved = time.process_time()
    slam_map = load(path)
    loaded = time.process_time()
    of_tour, rng = tracker.trajectory(), np.random.default_rng([seed, 0x5F])
    sought = np.unique(np.linspace(0, len(of_tour) - 1, SOUGHT).astype(int)).tolist()
    stamps_ns = np.rint(np.arange(len(poses)) * 1e9 / CAMERA.fps).astype(np.int64)
    again, taken_ms, away_m = Tracker(CAMERA, SlamConfig(localise=True, map=str(path)), slam_map), [], []
    for second, k in enumerate(sought):
        index = int(np.searchsorted(stamps_ns, of_tour.stamps_ns[k]))
        features = building.see(poses[index], rng)
        frame = Frame(index, second * 1_000_000_000, None, CAMERA, None, 0.001)
        again.begin_epoch()
        began = time.thread_time()
        track = again.track(frame, features)
        taken_ms.append((time.thread_time() - began) * 1e3)
        if track.T_world_camera is not None:
            away_m.append(float(np.linalg.norm(track.T_world_camera[:3, 3] - of_tour.T_world_camera[k, :3, 3])))
    found = sum(m < SOUGHT_M for m in away_m)
    return Stored(
        keyframes=len(slam_map),
        file_mb=path.stat().st_size / 1e6,
        save_s=saved - start,
        load_s=loaded - saved,
        sought=len(sought),
        found=found,
        wrong=len(away_m) - found,
        relocalise_p50_ms=float(np.median(taken_ms)),
        relocalise_longest_ms=max(taken_ms),
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
