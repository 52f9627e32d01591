# SPDX-License-Identifier: Apache-2.0
"""The tracker on a degraded recording: what `bench --robustness` measures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from drp_slam.config import Config
from drp_slam.data.accuracy import Ate, align, ate, mirror_image, mirrored_rmse_m
from drp_slam.data.disturbances import Change
from drp_slam.data.progress import track as progress
from drp_slam.data.sequence import Sequence
from drp_slam.datatypes import Reason, Track, Trajectory
from drp_slam.errors import DataError
from drp_slam.pipeline import Pipeline

TRUTH_M = 0.01
"""Standard deviation of the positions of ground truths."""
STILL_M = 1e-6
"""A camera whose ground truth spans less is static: its error is the distance from its start."""


@dataclass(frozen=True)
class Row:
    """One case. Errors in metres are of the live poses (`live`) and of the final trajectory (`ate`).

    Live errors are of the poses in the map that has most of them (`of_largest_map`).
    With a static camera, `live_m` is the largest distance from the start, without alignment, and
    `ate_m` is None. A mirrored ground truth (`accuracy.mirrored_rmse_m`) is mirrored first: `mirrored`.
    `within_2_sigma` is the share of live poses whose error is below twice the standard deviation in their
    covariance, after an alignment that weighs every pose by what it states: a covariance is relative to the
    first camera, and does not cover an error of the first pose that an equal alignment makes; `nees_3` is the
    mean of the squared errors of positions in stated deviations, divided by 3: 1 where errors are as large as
    stated, less where they are smaller.
    `reasons` counts frames that were lost or doubtful.
    """

    case: str
    frames: int
    tracked: int
    keyframes: int
    ate_m: float | None
    live_m: float | None
    within_2_sigma: float | None
    nees_3: float | None
    mirrored: bool = False
    reasons: dict[str, int] = field(default_factory=dict)


def measure(sequence: Sequence, changes: Mapping[str, Change], config: Config) -> list[dict[str, Any]]:
    """One row per case, as plain values."""
    return [asdict(run_case(name, change(sequence), config)) for name, change in changes.items()]


def run_case(name: str, sequence: Sequence, config: Config) -> Row:
    """One sequence through the pipeline with default parameters."""
    pipeline = Pipeline(sequence.camera, config)
    tracks = [pipeline.process(frame).track for frame in progress(sequence, len(sequence), name)]
    ate_m = live_m = within = nees_3 = None
    mirrored = False
    truth = sequence.ground_truth
    if truth is not None and len(truth):
        if is_static(truth):
            live_m, within, nees_3 = _still(tracks)
        elif found := _moving(tracks, pipeline.tracker.trajectory(), truth, sequence.camera.mono):
            ate_m, live_m, within, nees_3, mirrored = found
    reasons = Counter(t.reason.value for t in tracks if t.reason not in (Reason.OK, Reason.STARTING))
    keyframes, tracked = sum(t.keyframe for t in tracks), sum(t.tracked for t in tracks)
    return Row(name, len(tracks), tracked, keyframes, ate_m, live_m, within, nees_3, mirrored, dict(reasons))


def _still(tracks: list[Track]) -> tuple[float, float, float]:
    stands = [t for t in tracks if t.T_world_camera is not None]
    off_m = np.array([t.T_world_camera[:3, 3] for t in stands]).reshape(-1, 3)  # type: ignore[index]
    errors_m = np.linalg.norm(off_m, axis=1)
    within = float((errors_m <= 2.0 * sigmas_m(stands)).mean())
    return float(errors_m.max(initial=0.0)), within, _nees_3(stands, off_m)


def _moving(
    tracks: list[Track], final: Trajectory, truth: Trajectory, free: bool
) -> tuple[float, float, float, float, bool] | None:
    stands = of_largest_map(tracks)
    if len(stands) < 3:
        return None
    live = Trajectory(np.array([t.stamp_ns for t in stands]), np.stack([t.T_world_camera for t in stands]))  # type: ignore[misc]
    errors = errors_of(live, final, truth, free)
    if errors is None:
        return None
    found, ate_m, mirrored = errors
    of_stamp = {t.stamp_ns: t for t in stands}
    stands = [of_stamp[s] for s in found.stamps_ns.tolist()]
    stated_m = sigmas_m(stands)
    position_m = np.stack([t.T_world_camera[:3, 3] for t in stands])  # type: ignore[index]
    known = align(position_m, found.reference_m, free, 1.0 / (stated_m**2 + TRUTH_M**2))
    off_m = position_m - (found.reference_m - known.t) @ known.R / known.scale
    within = float((np.linalg.norm(off_m, axis=1) <= 2.0 * stated_m).mean())
    return ate_m, found.rmse_m, within, _nees_3(stands, off_m), mirrored


def of_largest_map(tracks: list[Track]) -> list[Track]:
    """The poses in the map that has most of them: maps that are not joined yet have worlds of their own."""
    stands = [t for t in tracks if t.T_world_camera is not None]
    largest = Counter(t.map for t in stands).most_common(1)
    return [t for t in stands if t.map == largest[0][0]]


def errors_of(live: Trajectory, final: Trajectory, truth: Trajectory, free: bool) -> tuple[Ate, float, bool] | None:
    """Errors of the live poses, the ATE of the final ones in metres, and whether the truth was mirrored first; None
    where too few frames have a truth. `free`: the scale is aligned too."""
    try:
        found = ate(live, truth, with_scale=free)
        mirrored = mirrored_rmse_m(found) is not None
        if mirrored:
            truth = mirror_image(truth)
            found = ate(live, truth, with_scale=free)
        return found, ate(final, truth, with_scale=free).rmse_m, mirrored
    except DataError:
        return None


def is_static(truth: Trajectory) -> bool:
    """Whether a ground truth is that of a camera that does not move."""
    return bool(np.ptp(truth.positions_m, axis=0).max() < STILL_M)


def _nees_3(tracks: list[Track], off_m: np.ndarray) -> float:
    """Mean of the squared errors (N, 3) of positions, in the world, in stated deviations, divided by 3."""
    known = [k for k, t in enumerate(tracks) if t.covariance is not None and np.trace(t.covariance[:3, :3]) > 0]
    if not known:
        return 0.0
    R = np.stack([tracks[k].T_world_camera[:3, :3] for k in known])  # type: ignore[index]
    own = np.einsum("nji,nj->ni", R, off_m[known])  # along the camera's axes, as the covariance is
    P = np.stack([tracks[k].covariance[:3, :3] for k in known])  # type: ignore[index]
    return float(np.einsum("ni,ni->n", own, np.linalg.solve(P, own[:, :, None])[:, :, 0]).mean() / 3.0)


def sigmas_m(tracks: list[Track]) -> np.ndarray:
    """Standard deviations of the positions."""
    return np.array([0.0 if t.covariance is None else np.sqrt(np.trace(t.covariance[:3, :3])) for t in tracks])
