# SPDX-License-Identifier: Apache-2.0
"""Faults of a calibration: in itself, against its images, and against the motion between them."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from drp_slam.datatypes import Camera
from drp_slam.doctor.checks import Level
from drp_slam.doctor.findings import Finding, found
from drp_slam.doctor.motion import Correction

OFF_CENTRE = 0.12
"""A principal point may be so far from the middle, as a share of the side: lenses and crops stay within 0.05."""
NARROW_DEG, WIDE_DEG = 15.0, 150.0
"""Range of fields of view of a pinhole camera with distortion."""
MOST_UNEQUAL = 0.1
"""Tolerance of square pixels."""
LEAST_PAIRS, LEAST_GAIN = 5, 1.12
"""Minimum number of image pairs, and of the ratio of residuals to those with another calibration. Good recordings: 1.00
to 1.02; with a focal length wrong by 10 %: 1.07 (a Kinect that hardly turns) to 1.9."""
WRONG_FOCAL, WRONG_CENTRE, SIGMAS = 0.05, 0.03, 5.0
LEAST_MATCHES, MOST_ROWS_PX, LEAST_POSITIVE = 60, 1.5, 0.7
"""Matches of a pair, the largest usual difference of rows, and the minimum share that is further left in the right."""


@dataclass(frozen=True)
class Stated:
    """A calibration as its publisher states it: `K` (3, 3), `P` (3, 4) or None, `D` (n,); `size_px` is width, height.

    `rectified` means that its images are, by their topic's name.
    """

    size_px: tuple[int, int]
    K: np.ndarray
    D: np.ndarray
    P: np.ndarray | None = None
    rectified: bool = False
    model: str = "plumb_bob"

    @classmethod
    def of(cls, camera: Camera) -> Stated:
        """The same of a parsed calibration."""
        return cls((camera.width, camera.height), camera.K, np.asarray(camera.distortion), None, False, camera.model)


def check_calibration(stated: Stated, where: str, image_size: tuple[int, int] | None = None) -> list[Finding]:
    """Findings on impossible numbers, wrong sizes, and K in place of P."""
    K, numbers = stated.K, np.concatenate([stated.K.ravel(), np.ravel(stated.D)])
    out = []
    if image_size is not None and image_size != stated.size_px:
        sizes = "{}x{}, the images {}x{}".format(*stated.size_px, *image_size)
        out.append(found("size_mismatch", where, f"the calibration is for {sizes}"))
    P = stated.P
    if P is not None and not (np.isfinite(P).all() and P[0, 0] > 0 and P[1, 1] > 0):
        P = np.zeros((3, 4))  # as where a driver leaves it out
    alone = P is not None and P[0, 0] > 0 and not K.any() and not np.any(stated.D)
    if min(stated.size_px) < 1:
        return [*out, found("not_calibrated", where, "the calibration is for {}x{} pixels".format(*stated.size_px))]
    if not np.isfinite(numbers).all() or not (alone or (K[0, 0] > 0 and K[1, 1] > 0)):
        return [*out, found("not_calibrated", where, f"K has focal lengths {K[0, 0]:g}, {K[1, 1]:g}")]
    if P is not None and (stated.rectified or alone):
        stands_for_k = "0" if P[0, 0] <= 0 else "K" if np.allclose(P[:, :3], K) else ""
        if np.any(stated.D) and stands_for_k:
            seen = f"the images are rectified, but P is {stands_for_k} and D is not 0"
            out.append(found("rectification", where, seen))
        K = P[:, :3] if P[0, 0] > 0 else K
    elif P is not None and P[0, 0] > 0 and not np.any(stated.D) and abs(P[0, 0] / K[0, 0] - 1) > 0.02:
        seen = f"D is 0, but P has fx {P[0, 0]:.1f} and K {K[0, 0]:.1f}: are the images rectified?"
        out.append(found("rectification", where, seen))
    return out + _shape(K, stated, where)


def _shape(K: np.ndarray, stated: Stated, where: str) -> list[Finding]:
    """Findings on principal point, field of view, square pixels, and distortion that folds the image."""
    out = []
    width, height = stated.size_px
    fx, fy, cx, cy = (float(K[i]) for i in ((0, 0), (1, 1), (0, 2), (1, 2)))
    if abs(cx / width - 0.5) > OFF_CENTRE or abs(cy / height - 0.5) > OFF_CENTRE:
        hint = _swapped(fx, fy, cx, cy, width, height)
        seen = f"principal point {cx:.1f}, {cy:.1f} in an image of {width}x{height}{hint}"
        out.append(found("principal_point", where, seen))
    if abs(fx / fy - 1) > MOST_UNEQUAL:
        out.append(found("wrong_calibration", where, f"fx {fx:.1f} and fy {fy:.1f} differ: pixels are square"))
    view_deg = float(np.degrees(2 * np.arctan2(width / 2, fx)))
    if stated.model != "equidistant" and not NARROW_DEG <= view_deg <= WIDE_DEG:
        seen = f"fx {fx:.1f} for {width} px is a view of {view_deg:.0f} degrees (limits {NARROW_DEG:g}, {WIDE_DEG:g})"
        out.append(found("wrong_calibration", where, seen))
    elif stated.model == "plumb_bob" and not stated.rectified and _folds(stated, fx, fy, cx, cy):
        out.append(found("wrong_calibration", where, f"distortion {np.round(stated.D, 3).tolist()} folds the image"))
    return out


def _swapped(fx: float, fy: float, cx: float, cy: float, width: int, height: int) -> str:
    """Describes a permutation of numbers that would bring the principal point to the middle."""

    def off(x: float, y: float) -> float:
        return max(abs(x / width - 0.5), abs(y / height - 0.5))

    for words, x, y in (
        ("cx and cy are swapped", cy, cx),
        ("fx, fy and cx, cy are swapped", fx, fy),
        ("K is for an image of half the size", 2 * cx, 2 * cy),
        ("K is for an image of twice the size", cx / 2, cy / 2),
    ):
        if off(x, y) < 0.06 < off(cx, cy):
            return f": it seems that {words}"
    return ""


def _folds(stated: Stated, fx: float, fy: float, cx: float, cy: float) -> bool:
    """Whether the radius stops growing inside the image: two directions would share a pixel."""
    k1, k2, _, _, k3 = (*np.ravel(stated.D), 0.0, 0.0, 0.0, 0.0, 0.0)[:5]
    width, height = stated.size_px
    reach = np.hypot(max(cx, width - cx) / fx, max(cy, height - cy) / fy)
    r2 = np.linspace(0.0, min(float(reach), 2.0), 64) ** 2
    distorted = np.sqrt(r2) * (1 + r2 * (k1 + r2 * (k2 + r2 * k3)))
    inside = distorted < 0.7 * reach  # the corners of many calibrations are extrapolated
    return bool(np.any(np.diff(distorted)[inside[1:]] <= 0))


def check_correction(fit: Correction | None, camera: Camera, where: str) -> list[Finding]:
    """A finding if another focal length or principal point explains the motion much better."""
    if fit is None or fit.pairs < LEAST_PAIRS or fit.residual_before_px < LEAST_GAIN * fit.residual_px:
        return []
    shift = fit.shift_px
    log_f, limit = abs(np.log(fit.focal)), WRONG_CENTRE * camera.width
    by_focal = log_f > max(WRONG_FOCAL, SIGMAS * fit.sigma[0])
    by_centre = bool(np.any(np.abs(shift) > np.maximum(limit, SIGMAS * fit.sigma[1:])))
    if not (by_focal or by_centre):
        return []
    seen = (
        f"motion in {fit.pairs} pairs of images fits fx {camera.fx * fit.focal:.0f}, fy {camera.fy * fit.focal:.0f}, "
        f"cx {camera.cx + shift[0]:.0f}, cy {camera.cy + shift[1]:.0f}, stated are {camera.fx:.0f}, {camera.fy:.0f}, "
        f"{camera.cx:.0f}, {camera.cy:.0f}; residuals {fit.residual_px:.2f} px instead of {fit.residual_before_px:.2f}"
    )
    return [found("wrong_calibration", where, seen)]


def matched_rows(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """(N, 2) float64 of matched ORB features: displacement to the left, and downwards, in the right image."""
    orb = cv2.ORB.create(800)
    found_left, found_right = orb.detectAndCompute(left, None), orb.detectAndCompute(right, None)
    if found_left[1] is None or found_right[1] is None:
        return np.zeros((0, 2))
    matches = cv2.BFMatcher(cv2.NORM_HAMMING, crossCheck=True).match(found_left[1], found_right[1])
    good = [m for m in matches if m.distance < 40]
    return np.array(
        [np.subtract(found_left[0][m.queryIdx].pt, found_right[0][m.trainIdx].pt) * (1, -1) for m in good]
    ).reshape(-1, 2)


def check_pair(offsets: np.ndarray, where: str) -> list[Finding]:
    """Whether matches of rectified pairs lie on one row, further left in the right image; of `matched_rows`."""
    if len(offsets) < LEAST_MATCHES:
        return []
    rows = float(np.median(offsets[:, 1]))
    spread = float(np.median(np.abs(offsets[:, 1])))
    positive = float((offsets[:, 0] > 0).mean())
    if spread > MOST_ROWS_PX:
        seen = f"matched points are {spread:.1f} px from their row (mean {rows:+.1f}; limit {MOST_ROWS_PX} px)"
        return [found("wrong_pair", where, seen)]
    if positive < LEAST_POSITIVE:
        level = Level.ERROR if positive < 1 - LEAST_POSITIVE else Level.WARN
        seen = f"only {positive:.0%} of the matched points are further left in the right image"
        return [found("wrong_pair", where, seen, level)]
    return []
