# SPDX-License-Identifier: Apache-2.0
"""Faults of depth images: empty, constant, in another unit, not registered to the colour image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from drp_slam.doctor.checks import Level
from drp_slam.doctor.findings import Finding, found

EMPTY, SPARSE = 0.01, 0.1
"""Shares of pixels with depth below which there is no, or little, depth."""
NEAREST_M, NEAR_M, FAR_M, FARTHEST_M = 0.1, 0.3, 4.5, 20.0
"""RGB-D cameras measure 0.3 to about 5 m, few of them 0.1 m; none has a median of 20 m. 32FC1 is also used by stereo
and lidar, for which only `FARTHEST_FLOAT_M` applies."""
FARTHEST_FLOAT_M = 200.0
STEP_M, STEP = 0.15, 0.08
"""A depth edge is a step of at least this many metres and this share of the depth."""
SIZE = (160, 120)
"""Edges are compared at this size (width, height)."""
SCALES = tuple(np.round(np.geomspace(0.7, 1 / 0.7, 13), 3).tolist())
"""Sizes of the depth image that are tried: a depth camera's lens is wider or narrower than the colour camera's."""
BESIDE = np.ones((3, 3), np.uint8)
"""A pixel and its neighbours."""
REACH = 24
"""Shifts that are tried, in pixels of `SIZE`: 15 % of the width."""
LEAST_EDGES, LEAST_VIEWS = 60, 12
"""Edge pixels of a depth image, and different views with them, at least: in a single view, edges fit better
elsewhere by chance (5 % of the views of freiburg1_xyz, up to 30 % of the rendered room's)."""
SAME_VIEW = 0.7
"""Two samples show the same view if this share of the depth edges is at the same place: 0.85 and more for a static
camera, 0.1 to 0.5 for a moving one."""
MOST_OFF = 0.02
"""Edges may be displaced by this share of the width: those of a free-running Kinect in motion are, by 1 %."""
LEAST_GAIN = 1.25
"""Edges must fit this many times better elsewhere than at their place."""
SOUND_FIT, NO_FIT = 0.25, 0.12
"""Scores: registered depth has 0.5 to 0.9; that of another view, or mirrored, 0.05 at its place and 0.15 at best."""


@dataclass(frozen=True)
class DepthLook:
    """Measurements of one depth image. `edges` are those at `SIZE`; `scores` tell how well they fit those of the image,
    None with few edges."""

    encoding: str
    size: tuple[int, int]
    image_size: tuple[int, int]
    valid: float
    low_m: float
    middle_m: float
    high_m: float
    distinct: int
    edges: np.ndarray
    scores: np.ndarray | None


def look_at_depth(depth: np.ndarray, unit_m: float, image: np.ndarray | None) -> DepthLook:
    """Measures one (H, W) uint16 or float32 depth image with its colour image; 20 ms for VGA."""
    sound = np.isfinite(depth) & (depth > 0)
    some = sound[::4, ::4]
    values = depth[::4, ::4][some].astype(np.float64) * unit_m
    low, middle, high = np.percentile(values, (1, 50, 99)) if len(values) else (0.0, 0.0, 0.0)
    edges = _depth_edges(depth, sound, unit_m)
    usable = image is not None and edges.sum() >= LEAST_EDGES
    return DepthLook(
        "16UC1" if depth.dtype == np.uint16 else "32FC1",
        (depth.shape[1], depth.shape[0]),
        (depth.shape[1], depth.shape[0]) if image is None else (image.shape[1], image.shape[0]),
        float(sound.mean()),
        float(low),
        float(middle),
        float(high),
        len(np.unique(values)),
        edges,
        _scores(edges, _image_edges(image)) if image is not None and usable else None,
    )


def check_depths(looks: Sequence[DepthLook], where: str) -> list[Finding]:
    """Findings on the depth images of one topic."""
    if not looks:
        return []
    out = []
    last = looks[-1]
    if last.size != last.image_size:
        sizes = "{}x{} beside an image of {}x{}".format(*last.size, *last.image_size)
        out.append(found("size_mismatch", where, f"depth is {sizes}", Level.WARN))
    valid = float(np.median([look.valid for look in looks]))
    if valid < EMPTY:
        return [*out, found("no_depth", where, f"{valid:.1%} of the pixels have depth (limit {EMPTY:.0%})")]
    full = [look for look in looks if look.valid >= EMPTY]
    if max(look.distinct for look in full) == 1:
        return [*out, found("no_depth", where, f"every pixel is {full[0].middle_m:.3g} m")]
    if valid < SPARSE:
        seen = f"only {valid:.1%} of the pixels have depth (limit {SPARSE:.0%})"
        out.append(found("no_depth", where, seen, Level.WARN))
    return out + _unit(full, where) + _registration(full, where)


def _unit(looks: Sequence[DepthLook], where: str) -> list[Finding]:
    """Findings on depths that no camera, or few cameras, can measure."""
    low, middle, high = (float(np.median([getattr(x, f"{n}_m") for x in looks])) for n in ("low", "middle", "high"))
    seen = f"{looks[0].encoding} has {low:.3g} to {high:.3g} m, median {middle:.3g} m"
    farthest_m = FARTHEST_M if looks[0].encoding == "16UC1" else FARTHEST_FLOAT_M
    if middle < NEAREST_M:
        distinct = int(np.median([look.distinct for look in looks]))
        hint = f", in only {distinct} different values: metres in a 16UC1 image?" if distinct < 32 else ""
        return [found("depth_unit", where, f"{seen}{hint} (limit {NEAREST_M} m)")]
    if middle > farthest_m:
        hint = ": millimetres in a 32FC1 image?" if looks[0].encoding == "32FC1" else ""
        return [found("depth_unit", where, f"{seen}{hint} (limit {farthest_m:g} m)")]
    if looks[0].encoding == "16UC1" and not NEAR_M <= middle <= FAR_M:
        seen += f"; RGB-D cameras measure {NEAR_M} to {FAR_M} m, so the unit may not be a millimetre"
        return [found("depth_unit", where, seen, Level.WARN)]
    return []


def _depth_edges(depth: np.ndarray, sound: np.ndarray, unit_m: float) -> np.ndarray:
    """(120, 160) float32: 1 where depth steps, on the nearer side; across holes of a few pixels too."""
    small = cv2.resize(
        np.where(sound, depth, 0).astype(np.float32) * np.float32(unit_m), SIZE, interpolation=cv2.INTER_NEAREST
    )
    near_first = np.where(small > 0, small, np.float32(1e9))
    filled = np.where(small > 0, small, cv2.erode(near_first, np.ones((5, 5), np.uint8)))  # holes take the nearer side
    filled[filled >= 1e9] = 0
    step = cv2.dilate(filled, BESIDE) - filled
    return ((filled > 0) & (step > STEP_M) & (step > STEP * filled)).astype(np.float32)


def _image_edges(image: np.ndarray) -> np.ndarray:
    """(120, 160) float32: strength of edges, equalised so that strong and weak texture count alike."""
    grey = image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    small = cv2.resize(grey, SIZE, interpolation=cv2.INTER_AREA).astype(np.float32)
    strength = cv2.magnitude(cv2.Sobel(small, cv2.CV_32F, 1, 0), cv2.Sobel(small, cv2.CV_32F, 0, 1))
    level = cv2.blur(strength, (31, 31)) + 8.0
    return cv2.GaussianBlur(np.minimum(strength / level, 3.0), (0, 0), 0.8)


def _registration(looks: Sequence[DepthLook], where: str) -> list[Finding]:
    """Finds where depth edges fit the image best; a finding if that is far from their place."""
    used = _views([look for look in looks if look.scores is not None])
    if len(used) < LEAST_VIEWS:
        return []
    scale, dx, dy, here, best = best_fit(used)
    if best < SOUND_FIT and here < NO_FIT:
        seen = f"its edges fit those of the image nowhere (score {best:.2f}; registered depth has 0.5): another view?"
        return [found("unregistered", where, seen)]
    gain = best / max(here, 0.01)
    if best < SOUND_FIT or gain < LEAST_GAIN or displacement(scale, dx, dy) <= MOST_OFF:
        return []
    width, height = used[-1].image_size
    seen = (
        f"its edges fit those of the image {gain:.1f} times better when it is scaled by {scale:.2f} and shifted by "
        f"{dx * width / SIZE[0]:+.0f}, {dy * height / SIZE[1]:+.0f} px"
    )
    return [found("unregistered", where, seen)]


def _views(looks: Sequence[DepthLook]) -> list[DepthLook]:
    """The looks without those that show the view of the one before: they say the same again."""
    kept: list[DepthLook] = []
    for look in looks:
        if not kept or (look.edges * cv2.dilate(kept[-1].edges, BESIDE)).sum() < SAME_VIEW * look.edges.sum():
            kept.append(look)
    return kept


def displacement(scale: float, dx: float, dy: float) -> float:
    """The largest displacement in the image, as a part of its width."""
    w, h = SIZE
    return float(np.hypot(abs(scale - 1) * w / 2 + abs(dx), abs(scale - 1) * h / 2 + abs(dy))) / w


def best_fit(looks: Sequence[DepthLook]) -> tuple[float, float, float, float, float]:
    """Scale about the centre and shift in pixels of `SIZE` where edges fit best; the scores before and after."""
    scores = np.mean([look.scores for look in looks if look.scores is not None], axis=0)
    here = scores[SCALES.index(1.0), REACH - 1 : REACH + 2, REACH - 1 : REACH + 2].max()
    k, dy, dx = np.unravel_index(int(np.argmax(scores)), scores.shape)
    return SCALES[k], float(dx - REACH), float(dy - REACH), float(here), float(scores[k, dy, dx])


def _scores(depth_edges: np.ndarray, image_edges: np.ndarray) -> np.ndarray:
    """(len(SCALES), 2 REACH + 1, 2 REACH + 1): edge strength of the image, minus its mean, under the depth edges.

    At every scale and shift; edges outside of the image count as 0.
    """
    w, h = SIZE
    strength = image_edges - image_edges.mean()
    padded = cv2.copyMakeBorder(strength, REACH, REACH, REACH, REACH, cv2.BORDER_CONSTANT, value=0.0)
    out = []
    for scale in SCALES:
        warp = np.array([[scale, 0, (1 - scale) * w / 2], [0, scale, (1 - scale) * h / 2]])
        edges = cv2.warpAffine(depth_edges, warp, SIZE)
        out.append(cv2.matchTemplate(padded, edges, cv2.TM_CCORR) / (scale * float(depth_edges.sum())))
    return np.array(out)
