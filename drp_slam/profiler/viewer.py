# SPDX-License-Identifier: Apache-2.0
"""An interactive view of map and path in the page: drawn by `viewer.js`, without external resources."""

from __future__ import annotations

import base64
import json

import numpy as np

from drp_slam.profiler.page import script

MOST_POINTS, MOST_POSES = 40_000, 6_000
"""Maximum number of points and poses in a page; more are thinned evenly. A point takes 12 bytes, a pose 27."""
SPREAD = (1.0, 99.0)
"""Percentiles of the points that the first view shows, so that a few far ones do not shrink the room."""


def viewer(
    map_m: np.ndarray,
    map_rgb: np.ndarray | None,
    path_m: np.ndarray | None = None,
    path_s: np.ndarray | None = None,
    error_m: np.ndarray | None = None,
    truth_m: np.ndarray | None = None,
) -> str:
    """Points (P, 3) with colours (P, 3) uint8, the path (N, 3) with times (N,), z up, in metres and seconds.

    `error_m` (N,) colours the path, NaN where unknown; `truth_m` (M, 3) is drawn in grey.
    """
    points = map_m[np.isfinite(map_m).all(1)] if len(map_m) else np.zeros((0, 3))
    colours = None if map_rgb is None else map_rgb[np.isfinite(map_m).all(1)]
    kept = _thinned(len(points), MOST_POINTS)
    points, colours = points[kept], None if colours is None else colours[kept]
    shown = [a for a in (points, path_m, truth_m) if a is not None and len(a)]
    if not shown:
        return ""
    low, high = (np.min if k == 0 else np.max for k in (0, 1))
    near = [np.percentile(points, SPREAD, axis=0)] if len(points) else []
    near += [np.array([low(a, axis=0), high(a, axis=0)]) for a in (path_m,) if a is not None and len(a)]
    box = np.array([np.min([b[0] for b in near], axis=0), np.max([b[1] for b in near], axis=0)])
    wide = max(float((box[1] - box[0]).max()), 1e-3)
    origin = box[0] - wide  # far points are clipped to three times the box
    step = 3.0 * wide / 65535.0

    def packed(xyz_m: np.ndarray) -> str:
        return _base64(np.clip(np.rint((xyz_m - origin) / step), 0, 65535).astype("<u2"))

    data: dict[str, object] = {
        "origin": origin.tolist(),
        "step": step,
        "centre": box.mean(0).tolist(),
        "radius": float(np.linalg.norm(box[1] - box[0])) / 2,
        "points": packed(points),
        "colours": None if colours is None else _base64(np.ascontiguousarray(colours, np.uint8)),
    }
    if path_m is not None and len(path_m):
        kept = _thinned(len(path_m), MOST_POSES)
        data["path"] = packed(path_m[kept])
        data["times"] = [] if path_s is None else np.round(path_s[kept], 3).tolist()
        if error_m is not None:
            data["errors"] = [None if np.isnan(e) else round(float(e), 5) for e in error_m[kept]]
    if truth_m is not None and len(truth_m):
        data["truth"] = packed(truth_m[_thinned(len(truth_m), MOST_POSES)])
    scale = ""
    if error_m is not None and np.isfinite(error_m).any():
        most = float(np.nanmax(error_m)) * 100
        scale = f'<p class="scale">error along the path: 0<i></i>{most:.2g} cm; grey: ground truth</p>'
    return (
        '<div class="viewer"><canvas tabindex="0" aria-label="map and path in 3-D: drag to turn, wheel to zoom, '
        'shift and drag to move"></canvas><div class="buttons"><button data-view="top">top</button> '
        '<button data-view="side">side</button> <button data-view="tilt">reset</button></div><div class="tip"></div>'
        f'<script type="application/json">{json.dumps(data)}</script>{scale}</div>{script("viewer.js")}'
    )


def _thinned(count: int, most: int) -> np.ndarray:
    return np.unique(np.linspace(0, count - 1, min(count, most)).astype(int)) if count else np.zeros(0, int)


def _base64(values: np.ndarray) -> str:
    return base64.b64encode(values.tobytes()).decode("ascii")
