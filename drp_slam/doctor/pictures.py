# SPDX-License-Identifier: Apache-2.0
"""Faults of images: dark, overexposed, blurred, textureless, dots of a projector, frozen."""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Collection, Iterable
from dataclasses import dataclass

import cv2
import numpy as np

from drp_slam.doctor.findings import Finding, found

DARK_P90 = 40.0
"""Nine pixels of ten below this grey level: an eighth of the usual light, where sensor noise hides texture."""
SATURATED, MOST_SATURATED = 250, 0.4
"""Grey level of a saturated pixel, and the tolerated share of them: an outdoor sky has a third."""
MOST_BLUR = 0.55
"""Blur effect of Crete et al. (2007). Sharp recordings: 0.2 to 0.5; after a Gaussian of 3 px: 0.6 to 0.8."""
BLUR_TAPS = 11
NOISE_GREY, LEAST_EDGES = 6, 0.002
"""A step between neighbours above this is an edge, not noise; minimum share of edges for measuring blur."""
FAST_THRESHOLD, CORNERS = 12, 3
CELLS = (6, 8)
LEAST_FILLED = 0.15
"""Minimum number of FAST corners of a textured cell. Usual share of such cells: 0.3 to 1; a bare wall: 0.05."""
DOT_GREY, DOT_CELLS, DOTS = 20, (12, 16), 4
"""A dot is this many grey levels brighter than its surroundings; number of dots of a full cell."""
MOST_DOTTED = 0.85
"""Share of cells with dots: a projector's pattern fills all (1.0), foliage 0.7, rooms 0.3."""
STAYING, LEAST_STAYING = 0.6, 200
"""Number of dots, and share of them at the same pixels of a moving image, that cannot belong to the scene."""
MOVED_GREY = 6.0
"""Mean change of grey levels, in blocks of 16 pixels, of a moving image. Static: below 2."""
SHARE = 0.3
"""Share of images from which a fault is reported: every recording has some bad images."""
BLUR_SHARE = 0.15
"""The same for blur, which comes in bursts, each of which may end tracking."""
LEAST = 3
"""Minimum number of images."""


@dataclass(frozen=True)
class Look:
    """Measurements of one image. `dots` (N, 2) int are x y of bright dots; `blocks` are mean grey levels."""

    p90: float
    mean: float
    saturated: float
    blur: float
    filled: float
    dotted: float
    dots: np.ndarray
    blocks: np.ndarray
    digest: int


def look_at(image: np.ndarray) -> Look:
    """Measures one (H, W[, 3]) uint8 image; 5 to 10 ms for VGA."""
    grey = image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    some = grey[::4, ::4]
    dots = _dots(grey)
    return Look(
        float(np.percentile(some, 90)),
        float(some.mean()),
        float((some >= SATURATED).mean()),
        _blur_effect(grey[grey.shape[0] // 4 : grey.shape[0] * 3 // 4]),
        _filled(_corners(grey), grey.shape, CELLS, CORNERS),
        _filled(dots, grey.shape, DOT_CELLS, max(1, round(DOTS * grey.size / (640 * 480)))),
        dots,
        cv2.resize(grey, (grey.shape[1] // 16 or 1, grey.shape[0] // 16 or 1), interpolation=cv2.INTER_AREA),
        zlib.crc32(grey[::3].tobytes()),
    )


def check_looks(looks: Collection[Look], where: str) -> list[Finding]:
    """Findings on the images of one topic, given in order of time."""
    if not looks:
        return []
    out: list[Finding] = []

    def judge(name: str, bad: np.ndarray, seen: str, share: float = SHARE) -> bool:
        if not (bad.sum() >= min(LEAST, len(bad)) and bad.mean() >= share):
            return False
        out.append(found(name, where, f"{seen} in {bad.sum()} of {len(bad)} images"))
        return True

    p90, saturated, blur, filled, dotted = (
        np.array([getattr(look, name) for look in looks]) for name in ("p90", "saturated", "blur", "filled", "dotted")
    )
    dark, bright = p90 < DARK_P90, saturated > MOST_SATURATED
    judge("dark", dark, f"90 % of the pixels are darker than {np.median(p90):.0f} of 255 (limit {DARK_P90:.0f})")
    judge("overexposed", bright, f"{_most(saturated):.0%} of the pixels are saturated (limit {MOST_SATURATED:.0%})")
    lit = ~dark & ~bright
    if not _frozen(looks, where, out):
        _projector(looks, dotted, where, out)
    blurred = lit & (blur > MOST_BLUR)
    judge("blurred", blurred, f"blur {_most(blur[lit]):.2f} (limit {MOST_BLUR:.2f})" if lit.any() else "", BLUR_SHARE)
    bare = lit & ~blurred & (filled < LEAST_FILLED)
    seen = f"only {np.median(filled[bare]) if bare.any() else 0:.0%} of the image has corners"
    judge("textureless", bare, f"{seen} (limit {LEAST_FILLED:.0%})")
    return out


def _most(values: np.ndarray) -> float:
    return float(np.percentile(values, 90))


def _frozen(looks: Iterable[Look], where: str, out: list[Finding]) -> bool:
    """Whether one image is repeated: a sensor's noise alone makes each one different."""
    same = np.diff([look.digest for look in looks]) == 0
    if same.sum() < LEAST or same.mean() < SHARE:
        return False
    out.append(found("frozen", where, f"{same.sum()} of {len(same)} images are identical to the one before"))
    return True


def _projector(looks: Collection[Look], dotted: np.ndarray, where: str, out: list[Finding]) -> None:
    """Dots over the whole image, or fewer dots that stay while the image moves."""
    full = dotted > MOST_DOTTED
    if full.sum() >= min(LEAST, len(full)) and full.mean() >= SHARE:
        count = int(np.median([len(look.dots) for look in looks]))
        out.append(found("ir_dots", where, f"{count} bright dots all over the image, in {full.sum()} of {len(full)}"))
        return
    stay = [_staying(a, b) for a, b in itertools.pairwise(looks)]
    moved = [value for value in stay if value is not None]
    if len(moved) >= LEAST and np.median(moved) > STAYING:
        out.append(found("ir_dots", where, f"{np.median(moved):.0%} of the bright dots stay while the image moves"))


def _staying(a: Look, b: Look) -> float | None:
    """Share of the dots of `a` that are also in `b`; None for few dots or a static image."""
    if a.blocks.shape != b.blocks.shape or min(len(a.dots), len(b.dots)) < LEAST_STAYING:
        return None
    if np.abs(a.blocks.astype(np.int16) - b.blocks).mean() < MOVED_GREY:
        return None
    size = np.maximum(a.dots.max(axis=0), b.dots.max(axis=0))[::-1] + 3
    near = np.zeros(size, bool)
    for dx in (-1, 0, 1):
        for dy in (-1, 0, 1):
            near[b.dots[:, 1] + dy + 1, b.dots[:, 0] + dx + 1] = True
    return float(near[a.dots[:, 1] + 1, a.dots[:, 0] + 1].mean())


def _corners(grey: np.ndarray) -> np.ndarray:
    """(N, 2) x y of FAST corners."""
    points = cv2.FastFeatureDetector.create(FAST_THRESHOLD).detect(grey)
    return np.array([p.pt for p in points], np.float64).reshape(-1, 2)


def _filled(xy: np.ndarray, shape: tuple[int, ...], cells: tuple[int, int], least: int) -> float:
    """Share of the cells (rows, columns) of an image that have at least this many points."""
    rows = (xy[:, 1] * cells[0] / shape[0]).astype(int)
    columns = (xy[:, 0] * cells[1] / shape[1]).astype(int)
    return float((np.bincount(rows * cells[1] + columns, minlength=cells[0] * cells[1]) >= least).mean())


def _blur_effect(grey: np.ndarray) -> float:
    """How little a further blur changes edges, 0 (sharp) to 1, along the worse axis; 0 where there are no edges."""
    out = [0.0]
    for axis, kernel in ((1, (BLUR_TAPS, 1)), (0, (1, BLUR_TAPS))):
        before = np.abs(np.diff(grey.astype(np.int16), axis=axis))
        after = np.abs(np.diff(cv2.blur(grey, kernel).astype(np.int16), axis=axis))
        edges = before > NOISE_GREY
        if edges.mean() > LEAST_EDGES:
            out.append(1.0 - float(np.maximum(before - after, 0)[edges].sum()) / float(before[edges].sum()))
    return max(out)


def _dots(grey: np.ndarray) -> np.ndarray:
    """(N, 2) x y of bright dots of at most 5 pixels: what every opening by a line of 9 pixels removes."""
    openings = [cv2.morphologyEx(grey, cv2.MORPH_OPEN, line) for line in LINES]
    kept = np.maximum(np.maximum(openings[0], openings[1]), np.maximum(openings[2], openings[3]))
    dots = cv2.subtract(grey, kept)
    peaks = (dots == cv2.dilate(dots, np.ones((5, 5), np.uint8))) & (dots > DOT_GREY)
    y, x = np.nonzero(peaks)
    return np.stack([x, y], axis=1)


_I = np.eye(9, dtype=np.uint8)
LINES = (np.ones((1, 9), np.uint8), np.ones((9, 1), np.uint8), _I, _I[::-1].copy())
"""Lines of 9 pixels in four directions."""
