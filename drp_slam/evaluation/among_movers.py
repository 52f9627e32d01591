# SPDX-License-Identifier: Apache-2.0
"""The tracker in scenes where things move: what the case "moving scenes" of `bench --robustness` measures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from drp_slam.config import Config
from drp_slam.data.accuracy import ate, mirror_image, mirrored_rmse_m
from drp_slam.data.disturbances import SCENES
from drp_slam.data.moving_scenes import Opened, Scene, scenes
from drp_slam.data.progress import track as progress
from drp_slam.data.sequence import Sequence
from drp_slam.datatypes import Features, Frame, Reason, Track, Trajectory
from drp_slam.evaluation.robustness import sigmas_m
from drp_slam.pipeline import Pipeline

ALLOWED_M = 0.02
"""A frame that is off by more must say so."""
SIGMAS = 2.0
"""A frame is confidently wrong if it is off by more than `ALLOWED_M` and so many of its stated deviations."""
BANDS = (0.0, 0.4, 0.6, 0.8, 1.0)
"""Bounds of the shares of features that move, by which the scenes are grouped."""


@dataclass(frozen=True)
class SceneRow:
    """One scene. `share` is the largest share of a frame's features that lie on things that move.

    `largest_m` is the largest distance of a tracked frame from the clean run's pose of that frame (with a still camera,
    from the start), `over` the number of frames further off than `ALLOWED_M`, `wrong` those that are confidently so.
    `added_m` is by how much a frame's error against the ground truth exceeds the clean run's at most: where the image
    is blurred, both are off, in different directions.
    """

    scene: int
    kind: str
    still: bool
    start: int
    share: float
    frames: int
    tracked: int
    largest_m: float
    added_m: float
    over: int
    wrong: int
    reasons: dict[str, int] = field(default_factory=dict)


def measure(
    opened: Opened, config: Config, count: int, seed: int, pictures: Sequence | None = None
) -> list[dict[str, Any]]:
    """One row per scene, as plain values."""
    clean: dict[int, list[Track]] = {}
    rows = []
    for scene in progress(scenes(opened, count, seed, pictures), count, SCENES):
        if not scene.still and scene.start not in clean:
            frames = ((frame, None) for frame in scene.clean)
            clean[scene.start] = [track for track, _ in followed(Pipeline(scene.clean.camera, config), frames)]
        rows.append(asdict(run_scene(scene, config, None if scene.still else clean[scene.start])))
    return rows


def run_scene(scene: Scene, config: Config, clean: list[Track] | None) -> SceneRow:
    """One scene through the pipeline; `clean` are the tracks without things that move, None for a still camera."""
    tracks, shares = [], [0.0]
    for track, share in followed(Pipeline(scene.clean.camera, config), scene.frames()):
        tracks.append(track)
        shares.append(share)
    return row_of(scene, tracks, max(shares), clean)


def row_of(scene: Scene, tracks: list[Track], share: float, clean: list[Track] | None) -> SceneRow:
    """The errors of a scene's tracks."""
    off_m, stated_m = [], []
    for k, track in enumerate(tracks):
        right = np.eye(4) if clean is None else clean[k].T_world_camera
        if track.T_world_camera is not None and right is not None:
            off_m.append(float(np.linalg.norm(track.T_world_camera[:3, 3] - right[:3, 3])))
            stated_m.append(sigmas_m([track])[0])
    off, stated = np.array(off_m), np.array(stated_m)
    over = off > ALLOWED_M
    added_m = float(off.max(initial=0.0)) if clean is None else _added_m(scene, tracks, clean)
    reasons = Counter(t.reason.value for t in tracks if t.reason not in (Reason.OK, Reason.STARTING))
    return SceneRow(
        scene.number,
        scene.kind,
        scene.still,
        scene.start,
        share,
        len(tracks),
        sum(t.tracked for t in tracks),
        float(off.max(initial=0.0)),
        added_m,
        int(over.sum()),
        int((over & (off > SIGMAS * stated)).sum()),
        dict(reasons),
    )


def _added_m(scene: Scene, tracks: list[Track], clean: list[Track]) -> float:
    """By how much a frame is further from the ground truth than the clean run at most, both aligned as the latter."""
    both = [(t, c) for t, c in zip(tracks, clean) if t.T_world_camera is not None and c.T_world_camera is not None]
    truth = scene.clean.ground_truth
    if truth is None or len(both) < 3:
        return 0.0
    stamps_ns = np.array([t.stamp_ns for t, _ in both])
    mine, theirs = (Trajectory(stamps_ns, np.stack([pair[k].T_world_camera for pair in both])) for k in (0, 1))  # type: ignore[misc]
    found = ate(theirs, truth)
    if mirrored_rmse_m(found) is not None:
        truth = mirror_image(truth)
        found = ate(theirs, truth)
    known = np.isin(stamps_ns, found.stamps_ns)
    moved = found.alignment.apply(mine).positions_m[known]
    return float((np.linalg.norm(moved - found.reference_m, axis=1) - found.errors_m).max(initial=0.0))


def followed(pipeline: Pipeline, frames: Iterator[tuple[Frame, np.ndarray | None]]) -> Iterator[tuple[Track, float]]:
    """Tracks, and the share of each frame's features on the pixels marked."""
    for frame, shown in frames:
        step = pipeline.process(frame)
        yield step.track, 0.0 if shown is None else share_on(step.features, shown)


def share_on(features: Features, shown: np.ndarray) -> float:
    """Share of the features that lie on marked pixels (H, W)."""
    if not len(features):
        return 0.0
    at = np.clip(np.rint(features.uv).astype(int), 0, (shown.shape[1] - 1, shown.shape[0] - 1))
    return float(shown[at[:, 1], at[:, 0]].mean())


def table(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows by band of the share and by camera: scenes, frames, lost, largest error, frames over and wrong."""
    out = []
    for low, high in pairwise(BANDS):
        for still in (True, False):
            group = [r for r in rows if low < max(r["share"], 1e-9) <= high and r["still"] == still]
            if group:
                sums = {key: sum(r[key] for r in group) for key in ("frames", "tracked", "over", "wrong")}
                most = {key: max(r[key] for r in group) for key in ("largest_m", "added_m")}
                out.append({"share": [low, high], "still": still, "scenes": len(group), **most, **sums})
    return out
