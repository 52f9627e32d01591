# SPDX-License-Identifier: Apache-2.0
"""The tracker on a degraded recording: what `bench --robustness` measures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from drp_slam.config import Config
from drp_slam.data.accuracy import ate
from drp_slam.data.disturbances import Change
from drp_slam.data.progress import track as progress
from drp_slam.data.sequence import Sequence
from drp_slam.datatypes import Reason, Track, Trajectory
from drp_slam.errors import DataError
from drp_slam.pipeline import Pipeline

STILL_M = 1e-6
"""A camera whose ground truth spans less is static: its error is the distance from its start."""


@dataclass(frozen=True)
class Row:
    """One case. Errors in metres are of the live poses (`live`) and of the final trajectory (`ate`).

    With a static camera, `live_m` is the largest distance from the start, without alignment, and
    `ate_m` is None. `within_2_sigma` is the share of live poses whose error, after alignment, is
    below twice the standard deviation in their covariance. `reasons` counts frames that were lost or
    doubtful.
    """

    case: str
    frames: int
    tracked: int
    keyframes: int
    ate_m: float | None
    live_m: float | None
    within_2_sigma: float | None
    reasons: dict[str, int] = field(default_factory=dict)


def measure(sequence: Sequence, changes: Mapping[str, Change], config: Config) -> list[dict[str, Any]]:
    """One row per case, as plain values."""
    return [asdict(run_case(name, change(sequence), config)) for name, change in changes.items()]


def run_case(name: str, sequence: Sequence, config: Config) -> Row:
    """One sequence through the pipeline with default parameters."""
    pipeline = Pipeline(sequence.camera, config)
    tracks = [pipeline.process(frame).track for frame in progress(sequence, len(sequence), name)]
    ate_m = live_m = within = None
    truth = sequence.ground_truth
    if truth is not None and len(truth):
        if np.ptp(truth.positions_m, axis=0).max() < STILL_M:
            live_m, within = _still(tracks)
        else:
            ate_m, live_m, within = _moving(tracks, pipeline.tracker.trajectory(), truth, sequence.camera.mono)
    reasons = Counter(t.reason.value for t in tracks if t.reason not in (Reason.OK, Reason.STARTING))
    keyframes, tracked = sum(t.keyframe for t in tracks), sum(t.tracked for t in tracks)
    return Row(name, len(tracks), tracked, keyframes, ate_m, live_m, within, dict(reasons))


def _still(tracks: list[Track]) -> tuple[float, float]:
    stands = [t for t in tracks if t.T_world_camera is not None]
    errors_m = np.array([np.linalg.norm(t.T_world_camera[:3, 3]) for t in stands])  # type: ignore[index]
    return float(errors_m.max(initial=0.0)), float((errors_m <= 2.0 * _sigmas_m(stands)).mean())


def _moving(
    tracks: list[Track], final: Trajectory, truth: Trajectory, free: bool
) -> tuple[float | None, float | None, float | None]:
    stands = [t for t in tracks if t.T_world_camera is not None]
    if len(stands) < 3:
        return None, None, None
    live = Trajectory(np.array([t.stamp_ns for t in stands]), np.stack([t.T_world_camera for t in stands]))  # type: ignore[misc]
    try:
        found = ate(live, truth, with_scale=free)
        ate_m = ate(final, truth, with_scale=free).rmse_m
    except DataError:
        return None, None, None
    sigma_m = dict(zip(live.stamps_ns.tolist(), _sigmas_m(stands).tolist()))
    inside = [
        e <= 2.0 * found.alignment.scale * sigma_m[s] for s, e in zip(found.stamps_ns.tolist(), found.errors_m.tolist())
    ]
    return ate_m, found.rmse_m, float(np.mean(inside))


def _sigmas_m(tracks: list[Track]) -> np.ndarray:
    """Standard deviations of the positions."""
    return np.array([0.0 if t.covariance is None else np.sqrt(np.trace(t.covariance[:3, :3])) for t in tracks])
