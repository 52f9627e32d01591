# SPDX-License-Identifier: Apache-2.0
"""Compares networks with the first one by their effect on SLAM, for the command `evaluate`.

On all pairs of frames 0.4 s apart: PnP inliers, keypoint overlap with the first network, relative
pose error. With `--ate`: the trajectory error over perturbed configurations (start frame and
keyframe threshold), because a single trajectory is not significant. Every mean has a 95 % bootstrap
interval; ratios to the first network use the same pairs. The last quarter of the sequence, on
which no shipped network was trained or calibrated, is reported separately.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from drp_slam.errors import ConfigError, DataError, DrpSlamError
from drp_slam.evaluation.agreement import METRICS, estimate, lost
from drp_slam.evaluation.measured import THRESHOLDS, Measured, file_name, store, stored

if TYPE_CHECKING:
    from drp_slam.config import Config
    from drp_slam.data.sequence import Sequence as Recording
    from drp_slam.datatypes import Features, Frame

KEPT_OUT_PART, LOST_ATE_M = 0.25, 1.0


def compare(
    networks: Sequence[str],
    recording: Recording,
    config: Config,
    *,
    gap_s: float = 0.4,
    limit: int | None = None,
    configurations: int = 0,
    keep: Path | None = None,
) -> dict[str, Any]:
    """Measures all networks on all pairs; JSON-able. `limit` takes that many pairs, evenly spaced."""
    from drp_slam.evaluation.pairs import pairs_apart

    if not networks:
        raise DrpSlamError("no network to evaluate; name at least one, the reference first")
    if configurations < 0 or (limit is not None and limit < 1):
        raise ConfigError(
            f"--pairs {limit}, --configurations {configurations}: expected at least 1 pair and 0 configurations"
        )
    pairs = pairs_apart(recording.stamps_ns, gap_s)
    if limit is not None:
        pairs = pairs[np.unique(np.linspace(0, len(pairs) - 1, limit).astype(int))]
    wanted = set(range(len(recording))) if configurations else {int(i) for i in pairs.ravel()}
    frames: list[Frame] = []
    found: dict[str, Measured] = {}
    for name in networks:
        path = keep / file_name(name, networks[0], recording, pairs, configurations, config) if keep else None
        if path is not None and path.is_file():
            found[name] = stored(path)
            continue
        frames = frames or [f for f in recording if f.index in wanted]
        reference = found[networks[0]].uv if found else None
        mine = config_of(name, config)
        found[name] = measure(name, recording, frames, pairs, mine, configurations, reference)
        if path is not None:
            store(found[name], path)
    held = pairs[:, 0] >= round(len(recording) * (1 - KEPT_OUT_PART))
    return {
        "sequence": recording.name,
        "gap_s": gap_s,
        "pairs": len(pairs),
        "pairs_kept_out": int(held.sum()),
        "configurations": configurations,
        "reference": networks[0],
        "networks": {n: summary(found[n], found[networks[0]], held) | facts(n) for n in networks},
    }


def config_of(name: str, config: Config) -> Config:
    """The configuration that runs `name`: a front end without a network (`orb`), or a network of the configured one."""
    from drp_slam.config.config_file import override
    from drp_slam.frontend.front_end import without_network

    return override(config, {"features" if without_network(name) else "network": name})


def facts(name: str) -> dict[str, Any]:
    """Sparsity and size, from card and file; empty for a front end without a network."""
    from drp_slam.card import load_card
    from drp_slam.frontend.front_end import without_network

    if without_network(name):
        return {"sparsity": 0.0, "bytes": 0}
    card = load_card(name)
    return {"sparsity": float(card.facts.get("sparsity", {}).get("overall", 0.0)), "bytes": card.onnx.stat().st_size}


def short(name: str) -> str:
    """A network's name for a progress bar: of a path, the file's name without its suffix."""
    return Path(name).stem if name.endswith(".onnx") else name


def extract(name: str, frames: Iterable[Frame], config: Config) -> dict[int, Features]:
    """Features of each frame, from the configured front end with network `name`, if it has one."""
    from drp_slam.data.progress import track
    from drp_slam.frontend.front_end import open_front_end

    front = open_front_end(config_of(name, config))
    frames = list(frames)
    return {frame.index: front(frame)[0] for frame in track(frames, len(frames), short(name))}


def measure(
    name: str,
    recording: Recording,
    frames: Sequence[Frame],
    pairs: np.ndarray,
    config: Config,
    configurations: int,
    reference: Mapping[int, np.ndarray] | None,
) -> Measured:
    """Measures one network: pairs, then trajectories. `reference` holds the first network's keypoints."""
    from drp_slam.data.progress import track
    from drp_slam.data.trajectory import interpolated
    from drp_slam.evaluation.pairs import judge, overlap
    from drp_slam.frontend.front_end import front_end_class
    from drp_slam.slam.camera import Geometry
    from drp_slam.slam.view import observe

    camera, truth = recording.camera, None
    if recording.ground_truth is not None:
        truth = interpolated(recording.ground_truth, recording.stamps_ns)
    features = extract(name, frames, config)
    uv = {index: f.uv for index, f in features.items()}
    geometry, spec = Geometry.of(camera, config.slam), front_end_class(config.graph.features).descriptor
    views = {f.index: observe(geometry, config.slam, f, features[f.index], spec) for f in frames}
    rows = []
    for first, second in track(pairs.tolist(), len(pairs), f"{short(name)}: pairs"):
        T = None
        if truth is not None and np.isfinite(truth[[first, second]]).all():
            T = np.linalg.inv(truth[second]) @ truth[first]
        r = judge(views[first], views[second], (camera.fx + camera.fy) / 2, T, spec)
        shared = overlap(uv[first], (reference or uv)[first])
        rows.append((r.inliers, r.matches, shared, r.error_m, r.error_deg))
    paths = np.zeros((0, 2))
    if configurations:
        paths = trajectories(recording, frames, features, config, configurations, name)
    return Measured(np.array(rows, np.float64), paths, uv)


def trajectories(
    recording: Recording,
    frames: Sequence[Frame],
    features: Mapping[int, Features],
    config: Config,
    count: int,
    name: str,
) -> np.ndarray:
    """(count, 2): ATE in metres and the share of frames tracked, of perturbed configurations.

    Configuration k starts 7 k frames later with keyframe ratio k of THRESHOLDS. A run that tracks
    fewer than 3 frames is counted as 1 m.
    """
    from drp_slam.data.accuracy import ate
    from drp_slam.data.progress import track
    from drp_slam.frontend.front_end import front_end_class
    from drp_slam.slam.map import Map
    from drp_slam.slam.tracker import Tracker

    if recording.ground_truth is None:
        raise DataError(f"{recording.name} has no ground truth; evaluate it without --ate")
    rows, spec = [], front_end_class(config.graph.features).descriptor
    for k in track(range(count), count, f"{short(name)}: trajectories"):
        ratio = THRESHOLDS[k % len(THRESHOLDS)]
        slam = dataclasses.replace(config.slam, keyframe_ratio=ratio)
        tracker = Tracker(recording.camera, slam, Map(spec))
        start = min(7 * k, len(frames) // 2)
        tracked = 0
        for frame in frames[start:]:
            tracked += tracker.track(frame, features[frame.index]).tracked
        path = tracker.trajectory()
        error = ate(path, recording.ground_truth, recording.camera.mono).rmse_m if len(path) >= 3 else LOST_ATE_M
        rows.append((error, tracked / len(frames[start:])))
    return np.array(rows)


def summary(measured: Measured, reference: Measured, held: np.ndarray) -> dict[str, Any]:
    """Means, intervals and ratios: all pairs, the held-out quarter, trajectories."""
    every = np.ones(len(held), bool)
    found: dict[str, Any] = {
        part: {m: estimate(measured.table[rows, i], reference.table[rows, i]) for i, m in enumerate(METRICS)}
        | {"lost_pairs": lost(measured.table[rows])}
        if rows.any()
        else None
        for part, rows in (("all", every), ("kept_out", held))
    }
    if len(measured.paths):
        found["ate_m"] = estimate(measured.paths[:, 0], reference.paths[:, 0])
        found["tracked"] = float(measured.paths[:, 1].mean())
    return found
